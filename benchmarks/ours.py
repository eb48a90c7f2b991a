"""Contestant: bindcache, through the same two doors as its embed stage: `open_encoder` and `encode`."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.serving import Contestant, RefusedError, Sequences, serve
from embed.config import EmbedConfig
from embed.encoders.open import open_encoder
from embed.errors import EmbedError
from embed.fingerprint import find_sources
from embed.inference import encode


class Ours(Contestant):
    """The loop of the embed stage, vectors kept in memory.

    Asked for: `checkpoint` (of this family), `other` (a checkpoint of the other family, which stays unread), `family`,
    `precision`, `device`, and `store`, where the weights' digests are remembered.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.notes = {"bindcache": version("bindcache"), "torch": version("torch")}
        is_antibody = asked["family"] == "igt5"
        mine, other = asked["checkpoint"], asked["other"]
        self._config = EmbedConfig(
            antibody=mine if is_antibody else other,
            antigen=other if is_antibody else mine,
            store=Path(asked["store"]),
            precision=asked["precision"],
            device=asked["device"],
            tokens_per_batch=asked.get("budget", "auto"),
        )
        self._pairs = is_antibody
        try:
            sources = find_sources(self._config)
            self._encoder = open_encoder(sources.paired if is_antibody else sources.antigen, self._config)
        except EmbedError as error:
            raise RefusedError(str(error)) from None

    def encode(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Encode as the embed stage does."""
        if self._pairs:
            sequences = [tuple(pair) for pair in sequences]
        vector_ND, tally = encode(self._encoder, sequences, self._config)
        self.notes["padding"] = 1 - tally.tokens / tally.padded
        return vector_ND


if __name__ == "__main__":
    serve(Ours)
