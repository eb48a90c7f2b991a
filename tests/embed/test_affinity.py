"""Affinities: units, cells that are no value, and columns in another unit than declared."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import constants

from embed.affinity import AffinityError, CensoredError, check_range, from_pkd, read_affinity, to_pkd
from embed.errors import PairsError

UNITS = ["pkd", "M", "mM", "uM", "nM", "pM", "log10_M", "dG_kcal_per_mol"]
RT = constants.gas_constant / constants.calorie / 1000 * 298.15


def independent(kd: float) -> dict[str, float]:
    """A dissociation constant in mol/L, in every unit, by the definitions."""
    return {
        "pkd": -math.log10(kd),
        "M": kd,
        "mM": kd / constants.milli,
        "uM": kd / constants.micro,
        "nM": kd / constants.nano,
        "pM": kd / constants.pico,
        "log10_M": math.log10(kd),
        "dG_kcal_per_mol": RT * math.log(kd),
    }


@given(st.floats(-14, -2))
@settings(deadline=None, max_examples=200)
def test_every_unit_gives_the_same_pkd(log_kd):
    """One Kd written in any unit is one pKd, and comes back."""
    for unit, value in independent(10**log_kd).items():
        assert to_pkd(value, unit) == pytest.approx(-log_kd, rel=1e-8)
        assert from_pkd(to_pkd(value, unit), unit) == pytest.approx(value, rel=1e-12)


def test_a_known_free_energy():
    """1 nM is -12.28 kcal/mol at 298.15 K."""
    assert to_pkd(-12.2782, "dG_kcal_per_mol") == pytest.approx(9.0, abs=1e-4)


@pytest.mark.parametrize(
    ("cell", "unit", "pkd"),
    [
        ("1e-9", "M", 9.0),
        ("1.0E-09", "M", 9.0),
        (" 5 ", "nM", 8.301029995663981),
        (".5", "uM", 6.301029995663981),
        ("7.5", "pkd", 7.5),
        ("-9", "log10_M", 9.0),
        (2.0, "nM", 8.698970004336019),
        (9, "pkd", 9.0),
        ("0.1", "pkd", 0.1),
        ("0", "pkd", 0.0),
    ],
)
def test_values_are_read(cell, unit, pkd):
    """Text and numbers are read alike."""
    assert read_affinity(cell, unit) == pytest.approx(pkd, abs=1e-14)


CENSORED = [
    ">1e-6",
    "> 1E-06",
    "<1e-12",
    ">=1",
    "<=1",
    "≥ 5",
    "≤5",
    "~1e-9",
    "≈2",
    ">-5",
    ">.5",
    "n.b",
    "n.b.",
    "N.B.",
    "nb",
]
CENSORED += [
    "ND",
    "n.d.",
    "unf",
    "unfolded",
    "no binding",
    "non-binder",
    "not detected",
    "not bound",
    ">10 nM",
    ">>1e-6",
]


@pytest.mark.parametrize("cell", CENSORED)
def test_bounds_and_words_are_censored(cell):
    """A bound or a word for "not bound" is told from a typing mistake."""
    with pytest.raises(CensoredError, match=r"^censored, not a value$"):
        read_affinity(cell, "M")


NO_NUMBER = [
    "1.2 nM",
    "1e-9M",
    "1,2",
    "1,000.5",
    "(5.0±0.3)e-9",
    "? 1.00E-04*",
    "#REF!",
    "1_000",
    "０",
    "0x1p3",
    ">",
    "strong",
]
NO_NUMBER += ["1e", "infinity", "--5", "2021-03-04"]


@pytest.mark.parametrize("cell", NO_NUMBER)
def test_what_is_no_number_is_refused_with_a_hint(cell):
    """Nothing is guessed from a cell that is almost a number."""
    with pytest.raises(
        AffinityError, match=re.escape("not a number; write it like 1.2e-9 (decimal point, no unit")
    ) as caught:
        read_affinity(cell, "M")
    assert not isinstance(caught.value, CensoredError)


@pytest.mark.parametrize(
    ("cell", "unit", "reason"),
    [
        ("", "M", "no value; give one, or remove the row."),
        ("NA", "nM", "no value; give one, or remove the row."),
        ("nan", "pkd", "no value; give one, or remove the row."),
        (math.nan, "pkd", "no value; give one, or remove the row."),
        (math.inf, "M", "not finite; give a value, or remove the row."),
        ("1e999", "pkd", "not finite; give a value, or remove the row."),
        ("0", "nM", "a Kd is above 0, and pairs.unit says nM; give a value, or remove the row."),
        ("-9.5", "M", "a Kd is above 0, and pairs.unit says M; give a value, or remove the row."),
        ("1e-9", "pkd", 'too small for a pKd, probably molar; set pairs.unit = "M", or the unit it is in.'),
        ("0.0999", "pkd", 'too small for a pKd, probably molar; set pairs.unit = "M", or the unit it is in.'),
    ],
)
def test_impossible_values_are_refused(cell, unit, reason):
    """No value, no finite value, and values that the unit cannot have."""
    with pytest.raises(AffinityError, match=f"^{re.escape(reason)}$"):
        read_affinity(cell, unit)


def outcome(true: str, declared: str) -> str:
    """What becomes of a typical column that is declared in some unit."""
    column = [independent(kd)[true] for kd in 10 ** -np.random.default_rng(0).normal(8.5, 0.8, 200)]
    try:
        pkd = np.array([read_affinity(value, declared) for value in column])
        return "warned" if check_range(pkd, declared, "kd") else "silent"
    except AffinityError:
        return "refused by row"
    except PairsError as error:
        return "refused, unit named" if f"{true} 8." in str(error) else "refused"


def test_a_wrong_unit_is_refused_unless_it_is_possible():
    """Of 56 ways to declare a wrong unit only a factor of 1,000, and log10_M for dG, pass in silence."""
    found = {(true, declared): outcome(true, declared) for true in UNITS for declared in UNITS}
    silent = {pair for pair, what in found.items() if what == "silent"}
    possible = [("M", "mM"), ("mM", "uM"), ("uM", "nM"), ("nM", "pM"), ("log10_M", "dG_kcal_per_mol")]
    assert silent == {(unit, unit) for unit in UNITS} | {*possible} | {pair[::-1] for pair in possible}
    warned = {pair for pair, what in found.items() if what == "warned"}
    assert warned == {("pkd", unit) for unit in ("uM", "nM", "pM")}
    assert found["nM", "M"] == found["log10_M", "pkd"] == "refused, unit named"
    assert found["M", "pkd"] == "refused by row"


def test_the_message_of_a_wrong_unit():
    """It names the column, its median, the declared unit and those that would do."""
    message = (
        "The median of column 'KD (nM)', 33, is a pKd of -1.519 in pairs.unit = 'M', and plausible is 3 to 12. "
        "Set pairs.unit to the unit of the column; plausible would be uM 4.48, nM 7.48, pM 10.5."
    )
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        check_range(-np.log10(np.array([20.0, 33.0, 40.0])), "M", "KD (nM)")


def test_a_column_that_no_unit_explains():
    """A column of something else is asked about as such."""
    with pytest.raises(PairsError, match="No unit makes it plausible: is it the column of affinities"):
        check_range(np.array([-5000.0]), "pkd", "score")


@pytest.mark.parametrize(("outliers", "of"), [(1, 100), (10, 1000)])
def test_few_outliers_are_warned_of(outliers, of):
    """Up to 1 % outside pKd 0 to 16 is a warning with the count."""
    pkd = np.full(of, 8.0)
    pkd[:outliers] = 17.0
    assert check_range(pkd, "pkd", "pkd") == (
        f"Values in column 'pkd' that pairs.unit = 'pkd' makes no pKd between 0 and 16: {outliers:,} of {of:,}; "
        "they are used as they are.",
    )


@pytest.mark.parametrize("value", [-1.0, 0.0, 16.0, 40.0])
def test_many_outliers_are_an_error(value):
    """Over 1 % outside, zeros that stand for "nothing" included, is an error."""
    pkd = np.full(100, 8.0)
    pkd[:2] = value
    message = (
        "Values in column 'pkd' that pairs.unit = 'pkd' makes no pKd between 0 and 16: 2 of 100, "
        "and at most 1% may be so; correct them, or the unit."
    )
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        check_range(pkd, "pkd", "pkd")


def test_pkd_declared_as_nanomolar_is_warned_of():
    """Values from 6 to 9.5 could be nM; a whole column of them is doubtful."""
    column = np.linspace(6.0, 9.5, 50)
    (warning,) = check_range(9 - np.log10(column), "nM", "pkd")
    assert warning == (
        "All values in column 'pkd' lie within 6 and 9.5, as pKd values do; if they are, set pairs.unit = \"pkd\" "
        "instead of 'nM'."
    )
    assert check_range(9 - np.log10(column * 10), "nM", "kd") == ()
