"""How far a key's vector moves with its neighbours: `python -m benchmarks.stability --work igt5`.

The same sequences are encoded alone, then under many packings: shuffled, dealt into random shares, each share under a
random token budget. What moves is set against the distance between nearest neighbours, half of the sequences being
variants of one antibody.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import numpy.typing as npt

from benchmarks.encoders import CHECKPOINTS, OTHER, RESULTS, checkpoint, progress
from benchmarks.machine import Machine, describe
from benchmarks.report import today
from benchmarks.scoring import nearest_neighbours
from benchmarks.shapes import SHAPES
from benchmarks.workloads import Antibody, antibodies, antigens, sample, variants
from embed.config import EmbedConfig, Precision

# N sequences, D width

Vectors = npt.NDArray[np.float32]

_SHAPES = {"igt5": "igt5-2", "esm2-150m": "esm2-150m", "ch65-demo": "demo-igt5", "esm2-8m": "esm2-8m"}
_LEAST, _MOST = 512, 8192
"""Tokens of a random batch; its logarithm is drawn evenly."""
_MOST_SHARES = 4
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One precision."""

    precision: Precision
    why_not: str = ""
    largest: float = 0.0
    """Largest relative difference |v - v_alone| / |v_alone| of any sequence in any packing."""
    of_neighbours: float = 0.0
    """Largest |v - v_alone| of a variant over the smallest distance between two variants."""
    equal: float = 0.0
    """Share of vectors that are bit-equal to those made alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One shape in every precision."""

    work: str
    date: str
    command: str
    machine: Machine
    table: str
    variants: int
    others: int
    packings: int
    rows: Sequence[Row]


@click.command()
@click.option("--work", type=click.Choice(list(_SHAPES)), required=True, help="Which encoder.")
@click.option("--precisions", "names", default="", help="With commas between; all by default.")
@click.option("--packings", default=20, show_default=True, type=click.IntRange(1), help="Times that all are packed.")
@click.option("--sequences", default=32, show_default=True, type=click.IntRange(4), help="Half of them variants.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="BINDCACHE_BENCH_DATA",
    help="Folder of the real tables; a built-in table without it. Or BINDCACHE_BENCH_DATA.",
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the records.")
@click.option("--checkpoints", type=click.Path(path_type=Path), default=CHECKPOINTS, help="Folder of the encoders.")
def main(
    work: str, names: str, packings: int, sequences: int, data: Path | None, results: Path, checkpoints: Path
) -> None:
    """Measure how far vectors move with their neighbours, and write the record."""
    known: tuple[Precision, ...] = get_args(Precision)
    wanted = names.split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise click.UsageError(f"--precisions names {unknown[0]!r}; there are {', '.join(known)}.")
    shape = SHAPES[_SHAPES[work]]
    table, alike, others = _sequences(shape.family, data, sequences)
    machine, tell = describe(), progress()
    mine, other = checkpoint(_SHAPES[work], checkpoints), checkpoint(OTHER[shape.family], checkpoints)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bindcache-bench-") as store:
        antibody, antigen = (mine, other) if shape.family == "igt5" else (other, mine)
        for precision in (p for p in known if p in wanted):
            tell(precision)
            config: Any = {"antibody": str(antibody), "antigen": str(antigen), "store": Path(store), "device": "cpu"}
            rows.append(_row(EmbedConfig(**config, precision=precision), alike, others, packings))
    record = Record(
        work=work,
        date=today(),
        command=f"python -m benchmarks.stability --work {work} --packings {packings} --sequences {sequences}",
        machine=machine,
        table=table,
        variants=len(alike),
        others=len(others),
        packings=packings,
        rows=rows,
    )
    results.mkdir(parents=True, exist_ok=True)
    stem = results / f"stability-{work}-{record.date}"
    stem.with_suffix(".json").write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
    stem.with_suffix(".md").write_text(markdown(record), "utf-8")
    click.echo(markdown(record))


def markdown(record: Record) -> str:
    """Lay a record out for people."""
    machine = record.machine
    lines = [
        f"# Stability, {record.work}, {record.date}",
        "",
        f"* `{record.command}`, commit {machine.commit}; {machine.cpu}, {machine.cores} cores, "
        f"torch {machine.versions['torch']}",
        f"* {record.variants} variants of one sequence and {record.others} others ({record.table}), "
        f"{record.packings} packings: shuffled, in up to {_MOST_SHARES} shares, {_LEAST} to {_MOST:,} tokens a batch",
        "",
        "| precision | largest relative difference from alone | of the least distance between variants | bit-equal |",
        "|---|---|---|---|",
    ]
    for row in record.rows:
        cells = (
            row.why_not + " | |" if row.why_not else f"{row.largest:.1e} | {row.of_neighbours:.2%} | {row.equal:.0%}"
        )
        lines.append(f"| `{row.precision}` | {cells} |")
    return "\n".join([*lines, ""])


def _sequences(family: str, data: Path | None, count: int) -> tuple[str, list[Any], list[Any]]:
    """Take variants of one antibody, and as many others of all lengths."""
    name, pairs = antibodies(data)
    half = count // 2
    if family == "igt5":
        _, made = antibodies(None)  # of several parents, whose lengths differ
        return (
            name,
            variants(pairs, half),
            sample([pair for pair in made if pair not in set(pairs)] or made, count - half),
        )
    heavy: list[Antibody] = [(heavy, "") for heavy in dict.fromkeys(heavy for heavy, _ in pairs)]
    source, whole = antigens(data)
    return f"{name} and {source}", [chain for chain, _ in variants(heavy, half)], sample(whole, count - half)


def _row(config: EmbedConfig, alike: list[Any], others: list[Any], packings: int) -> Row:
    from embed.encoders.open import open_encoder
    from embed.errors import EmbedError
    from embed.fingerprint import find_sources
    from embed.inference import encode

    sequences = [*alike, *others]
    try:
        sources = find_sources(config)
        encoder = open_encoder(sources.antigen if isinstance(sequences[0], str) else sources.paired, config)
    except EmbedError as error:
        return Row(precision=config.precision, why_not=str(error))
    alone_ND = np.concatenate([encode(encoder, [sequence], config)[0] for sequence in sequences])
    rng = np.random.default_rng(_SEED)
    moved, equal = np.zeros(len(sequences)), 0
    for _ in range(packings):
        packed_ND = np.empty_like(alone_ND)
        for share in np.array_split(rng.permutation(len(sequences)), rng.integers(1, _MOST_SHARES + 1)):
            budget = round(2 ** rng.uniform(np.log2(_LEAST), np.log2(_MOST)))
            some = [sequences[i] for i in share]
            packed_ND[share] = encode(encoder, some, replace(config, tokens_per_batch=budget))[0]
        moved = np.maximum(moved, np.linalg.norm(packed_ND - alone_ND, axis=1))
        equal += int((packed_ND == alone_ND).all(1).sum())
    _, distance_N = nearest_neighbours(alone_ND[: len(alike)])
    return Row(
        precision=config.precision,
        largest=float((moved / np.linalg.norm(alone_ND, axis=1)).max()),
        of_neighbours=float(moved[: len(alike)].max() / distance_N.min()),
        equal=equal / (packings * len(sequences)),
    )


if __name__ == "__main__":
    main()
