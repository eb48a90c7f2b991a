"""A benchmark's record: JSON for programs, Markdown for people."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.scoring import Row, Span

_TITLES = (
    "",
    "residues/s",
    "ratio",
    "tokens/s",
    "of matmul",
    "peak GB",
    "error",
    "spread/error",
    "neighbours/error",
    "first run s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One work, measured."""

    work: str
    says: str
    """What was encoded by what, in words."""
    command: str
    date: str
    machine: Machine
    rounds: int
    table: str
    sequences: dict[str, int]
    """In the `whole` table, the `large` and the `small` part."""
    residues: dict[str, int]
    weights: int
    """In the linear layers."""
    matmul: dict[str, float]
    """Operations a second of one square product."""
    matmul_edge: int
    baseline: str
    rows: Sequence[Row]


def write(record: Record, folder: Path) -> Path:
    """Write `<work>-<date>.json` and `.md`; a second run of the day replaces the first.

    Returns:
        The Markdown file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{record.work}-{record.date}"
    (folder / f"{stem}.json").write_text(json.dumps(_plain(asdict(record)), indent=1) + "\n", "utf-8")
    path = folder / f"{stem}.md"
    path.write_text(markdown(record), "utf-8")
    return path


def today() -> str:
    """The date of a record."""
    return date.today().isoformat()


def markdown(record: Record) -> str:
    """Lay a record out for people."""
    return "\n".join([*_head(record), "", *_table(record), "", *_foot(record), ""])


def _head(record: Record) -> list[str]:
    machine, sequences, residues = record.machine, record.sequences, record.residues
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [
        f"# {record.work}, {record.date}",
        "",
        record.says,
        "",
        f"* `{record.command}`, commit {machine.commit}",
        f"* {machine.cpu}, {machine.cores} cores ({', '.join(machine.flags)}), {machine.memory_bytes / 2**30:.0f} GiB, "
        f"load {machine.load} at the start; "
        f"{machine.accelerator or 'no GPU'}; Python {machine.python}, {versions}",
        f"* {record.table}: {sequences['large']:,} of {sequences['whole']:,} distinct sequences "
        f"({residues['large']:,} residues), less {sequences['small']:,} of them ({residues['small']:,}); "
        f"{record.rounds} alternating rounds",
    ]


def _table(record: Record) -> list[str]:
    head = [f"| {' | '.join(_TITLES)} |", "|---" * len(_TITLES) + "|"]
    return [*head, *(_line(row, record.baseline) for row in record.rows)]


def _line(row: Row, baseline: str) -> str:
    name = f"**{row.says}**" if row.name == baseline else row.says
    if row.why_not or row.residues_per_second is None:
        return f"| {name} | {row.why_not} |{' |' * (len(_TITLES) - 2)}"
    cells = [
        name,
        f"{row.residues_per_second.median:,.0f}",
        _spanned(row.ratio),
        _cell(row.tokens_per_second, ",.0f"),
        _cell(row.of_matmul, ".0%"),
        _cell(row.peak_bytes and row.peak_bytes / 1e9, ".2f"),
        _cell(row.relative_error, ".1e"),
        _cell(row.spread_over_error, ",.0f"),
        _cell(row.neighbours_over_error, ",.0f"),
        _cell(row.first_seconds, ".1f"),
    ]
    return f"| {' | '.join(cells)} |"


def _foot(record: Record) -> list[str]:
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in record.matmul.items())
    return [
        "Residues/s, tokens/s and ratio: encoding alone, compiled and warm, the time of the large table less that of "
        "the small one, medians over the rounds (least to most in brackets); tokens count special tokens and no "
        f"padding. Ratio: over the honest baseline ({record.baseline or 'which did not run'}), round by round. Hugging "
        "Face's tokenizer counts in the first run only. First run: from starting the process to all vectors, caches of "
        "compiled code empty. Peak: the process's resident memory, loading included.",
        "",
        "Error: largest relative error of a vector against ours in fp32. Spread/error: distance between sequences over "
        "the part of the error that differs between them. Neighbours/error: distance of a sequence from its nearest "
        "neighbour over how much their errors differ, median.",
        "",
        f"Of matmul: 2 x products x {record.weights:,} weights of the linear layers x tokens/s (two products for "
        "two-term INT8, one elsewhere; attention not counted) over the rate of one "
        f"{record.matmul_edge}-cubed product in the same arithmetic and rounds (GOP/s: {rates or 'not measured'}).",
    ]


def _spanned(span: Span | None) -> str:
    return "" if span is None else f"{span.median:.2f} ({span.least:.2f}-{span.most:.2f})"


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return ""
    return "no error" if math.isinf(value) else format(value, form)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
