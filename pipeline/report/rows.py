"""What became of the rows of a table that were not taken as they stood."""

from collections.abc import Mapping, Sequence

from embed.pairs import RejectedRow
from pipeline.report.blocks import Block, Facts, Note, Section, Table

_LISTED = 20
_LONGEST = 60


def rows_changed(
    *, used: int, rejected: Sequence[RejectedRow], normalised: Mapping[str, int], warnings: Sequence[str], where: str
) -> Section:
    """List what was rejected, what was normalised, and what was warned of.

    Args:
        used: Accepted rows.
        rejected: Rows that were left out.
        normalised: Rows of each harmless change.
        warnings: As they were printed.
        where: The file with all rejected rows.
    """
    facts = [("rows used", used), ("rows rejected", len(rejected))]
    blocks: list[Block] = [Facts([*facts, *((f"normalised: {change}", count) for change, count in normalised.items())])]
    blocks += [Note(f"Warning: {warning}") for warning in warnings]
    if rejected:
        caption = "Rejected rows."
        if len(rejected) > _LISTED:
            caption = f"The first {_LISTED} of {len(rejected):,} rejected rows; all are in {where}."
        cells = [(row.row, row.id, row.column, _short(row.value), row.reason) for row in rejected[:_LISTED]]
        blocks.append(Table(header=("row", "id", "column", "value", "reason"), rows=cells, caption=caption))
    return Section("Rejected and normalised", blocks)


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
