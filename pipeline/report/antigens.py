"""How good predictions are within each antigen: an average over all may only tell antigens apart.

Shape suffix: M pairs of the test part.
"""

import numpy as np

from pipeline.report.blocks import Cell, Facts, Note, Section, Table
from pipeline.report.finished import Finished
from train.metrics import score

_LISTED = 40
_LEAST = 10
"""Test pairs of an antigen from which its own correlation says something."""
_ENDS = 6


def by_antigen(found: Finished) -> Section:
    """Score each antigen's test pairs by themselves, the antigens with the most pairs first."""
    title = "Within each antigen"
    if isinstance(found.behind, str):
        return Section(title, [Note(f"Left out, for the table cannot be read as it was: {found.behind}")])
    table, row_M = found.behind.table, found.rows("test")
    antigen_M = table.pair_N2[row_M, 1]
    order_M = np.argsort(antigen_M, kind="stable")
    groups = np.split(order_M, np.flatnonzero(np.diff(antigen_M[order_M])) + 1)
    rows: list[tuple[Cell, ...]] = []
    enough: list[tuple[float, int]] = []
    for group in sorted(groups, key=len, reverse=True):
        if len(rows) == _LISTED and len(group) < _LEAST:
            break
        target, prediction = found.target_N[row_M[group]], found.prediction_N[row_M[group]]
        scores = score(target, prediction)
        if scores["spearman"] is not None and len(group) >= _LEAST:
            enough.append((scores["spearman"], len(group)))
        if len(rows) < _LISTED:
            sequence, example = table.antigens[int(antigen_M[group[0]])], found.ids[int(row_M[group[0]])]
            bias = f"{float(np.mean(prediction - target)):+.3f}"
            rows.append((short(sequence), len(sequence), example, len(group), scores["spearman"], scores["rmse"], bias))
    header = ("antigen", "residues", "a pair of it", "n", "Spearman", "RMSE", "mean error")
    caption = "Test pairs of each antigen by themselves; undefined where there are fewer than three, or all alike."
    if len(groups) > _LISTED:
        caption += f" The {_LISTED} with the most pairs of {len(groups):,}; the others are in predictions.parquet."
    return Section(title, [_average(enough, len(groups)), Table(header=header, rows=rows, caption=caption)])


def short(sequence: str) -> str:
    """Name a sequence by its two ends."""
    return sequence if len(sequence) <= 2 * _ENDS + 1 else f"{sequence[:_ENDS]}…{sequence[-_ENDS:]}"


def _average(enough: list[tuple[float, int]], antigens: int) -> Facts:
    facts: list[tuple[str, Cell]] = [("antigens in the test part", antigens)]
    facts.append((f"with at least {_LEAST} pairs", len(enough)))
    if enough:
        facts.append(("their mean Spearman", float(np.mean([value for value, _ in enough]))))
    return Facts(facts)
