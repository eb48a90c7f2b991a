"""How long the sequences are, and what their lengths cost: buckets and padding.

Shape suffixes: N distinct sequences, P pieces of them that an encoder reads at once.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from embed.batching import auto_edges
from embed.config import EmbedConfig
from embed.pairs import PairTable
from embed.pieces import cut_pieces
from pipeline.report.blocks import Block, Cell, Section, Table
from pipeline.report.drawing import ACCENT, MUTED, draw

Ints = npt.NDArray[np.integer[Any]]

_BARS = 48
_MOST_EDGES = 24
"""More lines than these would hide what they divide."""
_SPECIAL = 2
"""Tokens that an encoder adds: one for each chain, or one at each end of an antigen."""
_BUDGET = 4096
"""Tokens of a batch for which `auto` edges are shown; the embed stage takes a budget from its machine."""


def lengths_of(table: PairTable) -> dict[str, Ints]:
    """Count the residues of the distinct sequences of a table, by role."""
    return {"antibodies": table.antibodies.lengths(), "antigens": table.antigens.lengths()}


def lengths(residues: Mapping[str, Ints], config: EmbedConfig) -> Section:
    """Show the lengths of distinct sequences, and the padding that each way to batch them would cost.

    Args:
        residues: Of each distinct sequence, [N], by role: `antibodies` and `antigens`.
        config: Policy on long antigens, batching and buckets.
    """
    blocks: list[Block] = []
    rows: list[tuple[Cell, ...]] = []
    for role, length_N in residues.items():
        if not len(length_N):
            continue
        token_P = _tokens(role, length_N, config)
        edges = auto_edges(token_P, _BUDGET) if config.buckets == "auto" else config.buckets
        caption = f"Residues of the {len(length_N):,} distinct {role}."
        if len(edges) <= _MOST_EDGES:
            caption += " Dashed: where padded buckets of whole sequences or windows would end."
        content = partial(_draw, length_N=length_N, edges=[edge - _SPECIAL for edge in edges])
        blocks.append(draw(f"lengths-{role}", content, caption=caption, size=(4.6, 2.9)))
        spread = np.percentile(length_N, [0, 50, 100], method="nearest").tolist()
        paddings = (f"{padding(token_P, ends):.1%}" for ends in ((int(token_P.max()),), edges))
        rows.append((role, len(length_N), *spread, *paddings, len(edges)))
    how = "end to end, without padding" if config.batching == "packed" else "in these buckets"
    caption = f"What padding would cost, as a share of all tokens; this config lays sequences {how}."
    return Section("Lengths, buckets and padding", [*blocks, Table(header=_HEADER, rows=rows, caption=caption)])


_HEADER = ("", "distinct", "shortest", "median", "longest", "padded to the longest", "padded in buckets", "buckets")


def padding(token_P: Ints, edges: tuple[int, ...]) -> float:
    """Tell the share of padding where each piece is padded to the first edge that it fits under.

    Args:
        token_P: Tokens of each piece.
        edges: Rising edges, tokens; longer pieces are padded to the longest.
    """
    ends = np.append(np.asarray(edges, np.int64), token_P.max())
    return 1 - int(token_P.sum()) / int(ends[np.searchsorted(edges, token_P)].sum())


def _tokens(role: str, length_N: Ints, config: EmbedConfig) -> npt.NDArray[np.int64]:
    chain_N = np.full(len(length_N), 2) if role == "antibodies" else None
    return cut_pieces(length_N, chain_N, lambda residues, chains: residues + _SPECIAL, config).token_P


def _draw(axes: Axes, *, length_N: Ints, edges: list[int]) -> None:
    low, high = int(length_N.min()), int(length_N.max())
    step = max(1, -(-(high - low + 1) // _BARS))
    axes.hist(length_N, bins=np.arange(low - 0.5, high + step + 0.5, step).tolist(), color=ACCENT, alpha=0.85)
    if len(edges) <= _MOST_EDGES:
        for edge in edges:
            axes.axvline(edge + 0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="residues", ylabel="distinct sequences")
