"""Affinities: from the cells of a table, in its unit, to pKd = -log10(Kd in mol/L).

Array suffixes: N rows.
"""

import math
import re
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from embed.errors import EmbedError, PairsError
from embed.sequences import is_missing

Side = Literal[-1, 1]

Unit = Literal["pkd", "M", "mM", "uM", "nM", "pM", "log10_M", "dG_kcal_per_mol"]

NO_VALUE = "no value; give one, or remove the row."

_PREFIX = {"M": 0.0, "mM": 3.0, "uM": 6.0, "nM": 9.0, "pM": 12.0}
_KCAL_PER_LOG = 1.987204259e-3 * 298.15 * math.log(10)
"""RT ln 10 in kcal/mol: the CODATA 2018 gas constant over 4.184 J/cal, at 298.15 K."""

_POSSIBLE = (0.0, 16.0)
_PLAUSIBLE = (3.0, 12.0)
_MOST_OUTLIERS = 0.01
_LARGEST_MOLAR = 0.1
_FEW = 10
_LARGEST_EXPONENT = 308.0

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOUND = re.compile(r"([<>]=?|>>|<<|[≥≤~≈≲≳≫≪])\s*[+-]?\.?\d.*", re.DOTALL)
_SIDE = re.compile(r"(?P<more>>=|>>|[>≥≳≫])|<=|<<|[<≤≲≪]")
_UNMEASURED = re.compile(r"n[./]?\s?[bd]\.?|unf(olded)?\.?|no[nt]?[ -]?(bind|bound|det)\w*", re.IGNORECASE)


class AffinityError(EmbedError, ValueError):
    """A cell holds no usable affinity; the message is the reason."""


class CensoredError(AffinityError):
    """A cell holds a bound (`>1e-6`) or a word (`n.b.`) instead of a value."""


class Bound(NamedTuple):
    """What a cell such as `>1e-6` says."""

    pkd: float
    side: Side
    """1: the pKd is at least this; -1: it is at most this."""


def to_pkd(value: float, unit: Unit) -> float:
    """Convert an affinity to pKd; molar units need a value above 0."""
    if unit == "pkd":
        return value
    if unit == "log10_M":
        return -value
    if unit == "dG_kcal_per_mol":
        return -value / _KCAL_PER_LOG
    return _PREFIX[unit] - math.log10(value)


def from_pkd(pkd: float, unit: Unit) -> float:
    """Convert a pKd to another unit: the inverse of `to_pkd`."""
    if unit == "pkd":
        return pkd
    if unit == "log10_M":
        return -pkd
    if unit == "dG_kcal_per_mol":
        return -pkd * _KCAL_PER_LOG
    return float(10.0 ** min(_PREFIX[unit] - pkd, _LARGEST_EXPONENT))


def read_affinity(cell: str | float, unit: Unit) -> float:
    """Read one cell as pKd.

    Raises:
        CensoredError: The cell holds a bound or "not bound" instead of a value.
        AffinityError: The cell is empty, is no number, or is a number that the unit cannot have.
    """
    value = _number(cell) if isinstance(cell, str) else cell
    if math.isnan(value):
        raise AffinityError(NO_VALUE)
    if math.isinf(value):
        raise AffinityError("not finite; give a value, or remove the row.")
    if unit in _PREFIX and value <= 0:
        raise AffinityError(f"a Kd is above 0, and pairs.unit says {unit}; give a value, or remove the row.")
    if unit == "pkd" and 0 < value < _LARGEST_MOLAR:
        raise AffinityError('too small for a pKd, probably molar; set pairs.unit = "M", or the unit it is in.')
    return to_pkd(value, unit)


def read_bound(cell: str, unit: Unit) -> Bound:
    """Read a cell that is censored as the bound of a pKd.

    Raises:
        CensoredError: The cell names no bound: `n.b.`, or `~1e-6`.
        AffinityError: What follows the sign is no number that the unit can have.
    """
    text = cell.strip()
    sign = _SIDE.match(text)
    if sign is None:
        raise CensoredError("censored, and no bound is given")
    more = (sign["more"] is not None) == (unit == "pkd")  # a large Kd, or a binding energy near 0, is a small pKd
    return Bound(read_affinity(text[sign.end() :].strip(), unit), 1 if more else -1)


def _number(cell: str) -> float:
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if is_missing(text):
        return math.nan
    if _BOUND.fullmatch(text) or _UNMEASURED.fullmatch(text):
        raise CensoredError("censored, not a value")
    raise AffinityError("not a number; write it like 1.2e-9 (decimal point, no unit; that goes into pairs.unit).")


def check_range(pkd_N: npt.NDArray[np.float64], unit: Unit, column: str) -> tuple[str, ...]:
    """Check that a whole column can be in its declared unit; return warnings.

    Raises:
        PairsError: The median pKd is not within 3 to 12, or over 1 % of the values are not between 0 and 16.
    """
    median = float(np.median(pkd_N))
    if not _is_plausible(median):
        raise PairsError(
            f"The median of column {column!r}, {from_pkd(median, unit):.4g}, is a pKd of {median:.4g} in "
            f"pairs.unit = {unit!r}, and plausible is {_PLAUSIBLE[0]:g} to {_PLAUSIBLE[1]:g}. "
            f"{_way_out(median, unit)}"
        )
    return _warn_of_pkd_values(pkd_N, unit, column) + _warn_of_outliers(pkd_N, unit, column)


def _warn_of_outliers(pkd_N: npt.NDArray[np.float64], unit: Unit, column: str) -> tuple[str, ...]:
    low, high = _POSSIBLE
    outside = int(np.count_nonzero((pkd_N <= low) | (pkd_N >= high)))
    told = (
        f"Values in column {column!r} that pairs.unit = {unit!r} makes no pKd between {low:g} and {high:g}: "
        f"{outside:,} of {len(pkd_N):,}"
    )
    if outside > _MOST_OUTLIERS * len(pkd_N):
        raise PairsError(f"{told}, and at most {_MOST_OUTLIERS:.0%} may be so; correct them, or the unit.")
    return (f"{told}; they are used as they are.",) if outside else ()


def _warn_of_pkd_values(pkd_N: npt.NDArray[np.float64], unit: Unit, column: str) -> tuple[str, ...]:
    """Tell of pKd declared as Kd: 6 to 10 nM is possible, but for a whole table unlikely."""
    low, high = (from_pkd(float(pkd), unit) for pkd in (pkd_N.max(), pkd_N.min()))
    if unit not in _PREFIX or len(pkd_N) < _FEW or not (_is_plausible(low) and _is_plausible(high)):
        return ()
    return (
        f"All values in column {column!r} lie within {low:.3g} and {high:.3g}, as pKd values do; "
        f'if they are, set pairs.unit = "pkd" instead of {unit!r}.',
    )


def _is_plausible(pkd: float) -> bool:
    return _PLAUSIBLE[0] <= pkd <= _PLAUSIBLE[1]


def _way_out(median: float, unit: Unit) -> str:
    raw = from_pkd(median, unit)
    possible: list[Unit] = [name for name in get_args(Unit) if raw > 0 or name not in _PREFIX]
    fits = [f"{name} {to_pkd(raw, name):.3g}" for name in possible if _is_plausible(to_pkd(raw, name))]
    if not fits:
        return "No unit makes it plausible: is it the column of affinities?"
    return f"Set pairs.unit to the unit of the column; plausible would be {', '.join(fits)}."
