"""What `predict` prints: the first of the best, how many rows were warned of, and how far intervals held."""

import math
from typing import TYPE_CHECKING

from pipeline.boundary import printable
from pipeline.output import columns, two_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.predict import PredictResult

_SHOWN = 10
_WIDTH = 80
_LONGEST_ID = 24
_LEVELS = (95, 80, 50)


def predict_table(result: "PredictResult", table: "pa.Table", *, ranked: bool) -> str:
    """Lay out the first rows, where they are those of highest prediction, and what was done."""
    facts: list[tuple[str, object]] = [
        ("run", result.run),
        ("rows", f"{result.rows:,} ({result.rejected:,} rejected)"),
        ("warned", _warned(result)),
        ("intervals", _coverage(result)),
        ("embedded", f"{result.embedded:,}"),
        ("seconds", f"{result.seconds:.1f}"),
        ("written", f"{result.written:,} rows"),
        ("out", result.out),
    ]
    return "\n\n".join([_first(table), two_columns(facts)] if ranked else [two_columns(facts)])


def _warned(result: "PredictResult") -> str:
    if not result.below:
        return "not compared with training"
    told = ", ".join(f"{role} under {percent(identity)} %" for role, identity in result.below.items())
    return f"{result.warned:,} rows unlike training ({told} identical)"


def _coverage(result: "PredictResult") -> str:
    known = [f"{float(level):.0%}: {share:.0%}" for level, share in result.coverage.items() if share is not None]
    return f"hold of the test pairs {', '.join(known)}" if known else "none"


def percent(identity: float) -> int:
    """Put an identity in whole percent, never more than it is."""
    return math.floor(identity * 100 + 1e-9)


def _first(table: "pa.Table") -> str:
    rows = table.slice(0, _SHOWN).to_pylist()
    level = next((level for level in _LEVELS if any(row[f"low_{level}"] is not None for row in rows)), None)
    header = ["row", "id", "pKd", *([] if level is None else [f"{level} %"])]
    cells = []
    for row in rows:
        ends = [] if level is None else [f"{row[f'low_{level}']:.2f} to {row[f'high_{level}']:.2f}"]
        cells.append([str(row["row"]), _short(printable(row["id"]), _LONGEST_ID), f"{row['prediction']:.3f}", *ends])
    if any(row["warning"] for row in rows):
        taken = sum(max(map(len, column)) + 2 for column in zip(header, *cells, strict=True))
        header.append("warning")
        for row, line in zip(rows, cells, strict=True):
            line.append(_short(row["warning"] or "", _WIDTH - taken))
    return columns(header, cells)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 3)] + "..."
