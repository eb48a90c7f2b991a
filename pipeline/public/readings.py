"""The affinity cells of public tables, as pKd = -log10(Kd in mol/L) or as a bound on it."""

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from embed.affinity import Unit, to_pkd
from embed.sequences import is_missing

Sign = Literal["=", "<", ">", "~"]

_CELL = re.compile(r"(?P<sign>[<>]=?|[≥≤≲≳~≈?])?\s*(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\*?", re.ASCII)
_SIGNS: dict[str, Sign] = {"<": "<", ">": ">", "≤": "<", "≥": ">", "≲": "<", "≳": ">", "~": "~", "≈": "~", "?": "~"}
_TURNED: dict[Sign, Sign] = {"<": ">", ">": "<", "=": "=", "~": "~"}
_UNMEASURED = re.compile(r"n[./]?\s?[bd]\.?|unf(olded)?\.?|no[nt]?[ -]?(bind|bound|det)\w*", re.IGNORECASE)
_RISING = ("pkd",)
"""Units in which more is stronger, so that a bound keeps its direction."""

UNITS = get_args(Unit)


@dataclass(frozen=True, slots=True)
class Reading:
    """A measured pKd, or what is known of it."""

    pkd: float
    sign: Sign
    """`=`; `<` and `>` where the pKd is below or above the number; `~` where it is about the number."""

    @property
    def cell(self) -> str:
        """The text that a pairs table holds: a pKd, or a bound such as `<5.5`."""
        return f"{'' if self.sign == '=' else self.sign}{self.pkd!r}"


def read_cell(cell: str, unit: str) -> Reading:
    """Read a cell; `? 1.00E-04*` is about that, as instruments mark what is at their limit.

    Args:
        cell: The text.
        unit: One of `UNITS`.

    Raises:
        ValueError: It holds no affinity; the message is the reason.
    """
    text = cell.strip()
    if is_missing(text):
        raise ValueError("no affinity")
    if _UNMEASURED.fullmatch(text):
        raise ValueError("not bound or not measurable, and no bound is given")
    match = _CELL.fullmatch(text)
    if match is None:
        raise ValueError("not a number")
    value, sign = float(match["number"]), _SIGNS[match["sign"][0]] if match["sign"] else "="
    if value <= 0 and unit not in ("pkd", "log10_M", "dG_kcal_per_mol"):
        raise ValueError("a Kd is above 0")
    pkd = to_pkd(value, cast(Unit, unit))
    if not math.isfinite(pkd):
        raise ValueError("not finite")
    return Reading(pkd, sign if unit in _RISING else _TURNED[sign])
