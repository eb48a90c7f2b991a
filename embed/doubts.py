"""Warns of cells that can be used, and yet may not be what their column is for.

Array suffixes: R data rows of the file, A accepted rows, B doubtful ones among them, C distinct cells.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embed.rejected import LISTED
from embed.rows import Codes, SequenceColumn
from embed.sequences import RESIDUES
from embed.table import Column
from embed.texts import Texts

_LONGEST_DOMAIN = 160
"""Residues that no variable domain exceeds; IgT5 was trained on these domains alone."""
_SHORTEST_PROTEIN = 10
"""Residues under which an antigen may be the name of one, such as GLYCAN or SPIKE."""

_HEAVY_END, _LIGHT_END = "WG.G", "FG.G"
"""How framework 4 of a heavy and of a light chain begins (IMGT)."""
_LINKER = "(G{3,4}S){3}"
_RUN = "|".join(f"{residue}{{10}}" for residue in RESIDUES[:-1])
_SPREADSHEET = r"^(\d(\.\d+)?E\+\d+|\d{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-\d{2})$"
"""What spreadsheets make of names such as 4E10 and MAR1."""


def warn_of_sequences(sequences: Mapping[str, SequenceColumn], row_A: Codes) -> tuple[str, ...]:
    """Warn of sequences of accepted rows that their column hardly is for, and of unknown residues.

    Args:
        sequences: The columns `heavy`, `light` and `antigen`.
        row_A: The accepted rows.
    """
    heavy = _Look(sequences["heavy"], row_A)
    light = _Look(sequences["light"], row_A, of_interest=_HEAVY_END)
    antigen = _Look(sequences["antigen"], row_A)
    looks = (heavy, light, antigen)
    long_B = np.union1d(heavy.longer_than(_LONGEST_DOMAIN), light.longer_than(_LONGEST_DOMAIN))
    linked_B = long_B[heavy.have(_LINKER, long_B) | light.have(_LINKER, long_B)]
    runs_B = np.unique(np.concatenate([look.rows_of(look.found(_RUN)) for look in looks]))
    return (
        *_warn_of_unknown_residues(looks),
        *_warn(
            "Rows whose heavy chain ends as light ones do (FGxG), and the light one as heavy ones do (WGxG)",
            _swapped(heavy, light),
            "are pairs.heavy and pairs.light swapped?",
        ),
        *_warn(
            "Rows with a (GGGGS)3 linker in a chain, as scFvs have it",
            linked_B,
            "write their two domains into pairs.heavy and pairs.light.",
        ),
        *_warn(
            f"Rows with a chain of over {_LONGEST_DOMAIN} residues, more than a variable domain has",
            np.setdiff1d(long_B, linked_B),
            "cut off constant domains, tags and signal peptides.",
        ),
        *_warn(
            f"Rows with an antigen of under {_SHORTEST_PROTEIN} residues",
            antigen.shorter_than(_SHORTEST_PROTEIN),
            "are they peptides, or names?",
        ),
        *_warn("Rows with a sequence that repeats a residue 10 times", runs_B, "are they typing mistakes?"),
    )


def warn_of_ids(column: Column[Texts], row_A: Codes) -> tuple[str, ...]:
    """Warn of ids of accepted rows that look as if a spreadsheet had made numbers or dates of names."""
    code = np.flatnonzero(column.cells.matches(_SPREADSHEET))
    code = code[np.isin(code, column.code_R[row_A])] if len(code) else code
    return _warn(
        "Ids that look like a spreadsheet's numbers or dates", column.cells.take(code), "were they names such as 4E10?"
    )


class _Look:
    """What one look at each distinct sequence of a column tells about the accepted rows."""

    def __init__(self, column: SequenceColumn, row_A: Codes, *, of_interest: str = "X") -> None:
        self._column, self._row_A = column, row_A
        # one pass over all letters, as hardly a sequence holds any of these
        self._doubtful = np.flatnonzero(column.distinct.matches(f"X|{_RUN}|{of_interest}"))

    def found(self, pattern: str) -> npt.NDArray[np.bool_]:
        """Tell which distinct sequences hold X, a run or what is of interest, bool [C]."""
        found_C = np.zeros(len(self._column.distinct), np.bool_)
        found_C[self._doubtful] = Texts(self._column.distinct.take(self._doubtful).array).matches(pattern)
        return found_C

    def longer_than(self, residues: int) -> Codes:
        """List the accepted rows with a longer sequence, int64 [B]."""
        return self.rows_of(self._column.length_C > residues)

    def shorter_than(self, residues: int) -> Codes:
        """List the accepted rows with a shorter sequence, int64 [B]."""
        return self.rows_of(self._column.length_C < residues)

    def rows_of(self, chosen_C: npt.NDArray[np.bool_]) -> Codes:
        """List the accepted rows that hold one of the chosen sequences, int64 [B]."""
        if not chosen_C.any():
            return np.empty(0, np.int64)
        chosen_A: npt.NDArray[np.bool_] = np.append(chosen_C, False)[
            self._column.index_R[self._row_A]
        ]  # index -1: none
        rows: Codes = self._row_A[chosen_A]
        return rows

    def have(self, pattern: str, row_B: Codes) -> npt.NDArray[np.bool_]:
        """Tell whose sequence holds a match of a pattern, bool [B]; none holds nothing."""
        index_B = self._column.index_R[row_B]
        have_B = index_B >= 0
        have_B[have_B] = Texts(self.texts(index_B[have_B])).matches(pattern)
        return have_B

    def texts(self, index: Codes) -> pa.Array:
        """Copy some distinct sequences."""
        return self._column.distinct.take(index).array

    def used(self, chosen_C: npt.NDArray[np.bool_]) -> pa.Array:
        """Copy those of the chosen sequences that accepted rows hold."""
        return self.texts(np.unique(self._column.index_R[self.rows_of(chosen_C)]))


def _swapped(heavy: _Look, light: _Look) -> Codes:
    row_B = light.rows_of(light.found(_HEAVY_END))
    swapped_B = heavy.have(_LIGHT_END, row_B) & ~heavy.have(_HEAVY_END, row_B) & ~light.have(_LIGHT_END, row_B)
    return row_B[swapped_B]


def _warn_of_unknown_residues(looks: Iterable[_Look]) -> tuple[str, ...]:
    unknown = pc.count_distinct(pa.chunked_array([look.used(look.found("X")) for look in looks])).as_py()
    return (f"Distinct sequences that hold X, the unknown residue: {unknown:,}; X is kept.",) if unknown else ()


def _warn(what: str, found: Codes | Texts, so: str) -> tuple[str, ...]:
    if not len(found):
        return ()
    named = [repr(one) if isinstance(one, str) else f"{one + 1}" for one in found[:LISTED]]
    return (f"{what}: {len(found):,} ({', '.join(named)}{', ...' if len(found) > LISTED else ''}); {so}",)
