"""One measurement in a process of its own: `python -m pipeline.bench.child REQUEST.json`.

A process of its own has its own peak memory, its own warm-up, and nothing left over from the measurement before.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from embed.config import EmbedConfig, Precision
from embed.errors import EmbedError
from embed.pairs import PairTable
from embed.stage import read_table
from pipeline.bench.optimisations import Optimisation
from pipeline.bench.settings import embed_with_all, train_with_all
from pipeline.config import load, train_section
from pipeline.errors import ConfigError
from pipeline.fidelity_sample import sample_pairs
from train.config import TrainConfig
from train.errors import TrainError

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured."""

    kind: Literal["encode", "train", "rung"]
    config: str
    overrides: tuple[str, ...]
    sample: int
    folder: str
    """Where the weights' digests are remembered between measurements."""
    vectors: str = ""
    """Folder of the vectors that `encode` writes and `train` reads."""
    as_configured: bool = False
    """Leave everything as the config says, instead of turning everything on."""
    without: str = ""
    instead: Precision = "fp32"
    on: tuple[str, ...] = ()
    """Of a rung."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a request that `write` wrote."""
        fields: dict[str, Any] = json.loads(path.read_bytes())
        return cls(**{**fields, "overrides": tuple(fields["overrides"]), "on": tuple(fields["on"])})

    def write(self, path: Path) -> None:
        """Write the request as JSON."""
        path.write_text(json.dumps(asdict(self)), "utf-8")


def measure(request: Request) -> dict[str, Any]:
    """Measure what is asked for.

    Raises:
        ConfigError: The config has no section [train].
        EmbedError: The table or an encoder cannot be used as it is.
        TrainError: The regressor cannot be trained as the config says.
    """
    path = Path(request.config)
    config = load(path, request.overrides)
    training = train_section(config, path)
    table = sample_pairs(read_table(config.embed, config.pairs), request.sample)
    embed = replace(config.embed.one_vector(), store=Path(request.folder))
    if request.kind == "rung":
        from pipeline.bench.rung import run_rung

        return run_rung(embed, training, table, [Optimisation(name) for name in request.on])
    return _measure_product(request, embed, training, table)


def _measure_product(request: Request, embed: EmbedConfig, training: TrainConfig, table: PairTable) -> dict[str, Any]:
    from pipeline.bench.product import measure_encoding, measure_training
    from train.acceleration import has_compiler

    without = Optimisation(request.without) if request.without else None
    vectors = Path(request.vectors)
    if not request.as_configured:
        embed = embed_with_all(embed)
        training = train_with_all(training, compiler=has_compiler())
    if request.kind == "encode":
        return measure_encoding(embed, table, without, instead=request.instead, vectors=vectors)
    return measure_training(embed, training, table, without, vectors=vectors)


def answer_of(request: Path) -> Path:
    """Name the file of the answer to a request."""
    return request.with_suffix(".answer.json")


def main(path: Path) -> None:
    """Measure, and write the answer: what was measured, or the `error` that the user can mend."""
    try:
        answer = measure(Request.read(path))
    except (EmbedError, TrainError, ConfigError) as error:
        answer = {"error": str(error)}
    answer_of(path).write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
