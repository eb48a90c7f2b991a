"""What a training rested on, handed from where it is at hand to the pages; light to import."""

from dataclasses import dataclass

from embed.fingerprint import Sources
from embed.pairs import PairTable
from pipeline.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What a run was trained on."""

    config: Config
    table: PairTable
    sources: Sources
