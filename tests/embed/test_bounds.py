"""Censored affinities kept as bounds of a pKd, in every unit and spelling, alone and beside measured rows."""

import csv

import pytest

from embed.errors import PairsError
from embed.pairs import PairsConfig, read_pairs


def read(folder, cells, *, unit="M", same=False, **settings):
    """Read one row per cell, of pairs of their own or all of one."""
    path = folder / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["heavy", "light", "antigen", "kd"])
        writer.writerows(["EVQLV" + "A" * (0 if same else n), "DIQMT", "ACDEFG", cell] for n, cell in enumerate(cells))
    return read_pairs(PairsConfig(path=path, affinity="kd", unit=unit, censored="use", **settings))


SPELLINGS = [
    (">1e-6", "M", 6.0, -1),
    ("> 1E-06", "M", 6.0, -1),
    (">=1000", "nM", 6.0, -1),
    (">>1e-6", "M", 6.0, -1),
    ("≥ 1e-6", "M", 6.0, -1),
    ("<1e-12", "M", 12.0, 1),
    ("<=10", "pM", 11.0, 1),
    ("≲1e-11", "M", 11.0, 1),
    ("<5", "pkd", 5.0, -1),
    (">10.5", "pkd", 10.5, 1),
    (">-6", "log10_M", 6.0, -1),
    ("<-12", "log10_M", 12.0, 1),
    (">-5.456", "dG_kcal_per_mol", 4.0, -1),
]


@pytest.mark.parametrize(("cell", "unit", "pkd", "side"), SPELLINGS)
def test_a_bound_keeps_its_side(tmp_path, cell, unit, pkd, side):
    """A Kd, or a binding energy, above a value is a pKd below one."""
    table = read(tmp_path, [cell], unit=unit)
    assert table.affinity_N == pytest.approx([pkd], abs=1e-3)
    assert (table.side_N.tolist(), table.measurements_N.tolist()) == ([side], [0])


@pytest.mark.parametrize("cell", ["n.b.", "~1e-6", "ND"])
def test_what_names_no_bound_is_listed_and_left_out(tmp_path, cell):
    """It stops nothing."""
    table = read(tmp_path, ["1e-9", cell])
    assert table.side_N.tolist() == [0]
    assert [row.reason for row in table.rejected] == ["censored, and no bound is given; left out."]


@pytest.mark.parametrize(("cell", "reason"), [(">-3", "a Kd is above 0"), (">1 uM", "not a number")])
def test_a_bound_must_be_a_number_of_its_unit(tmp_path, cell, reason):
    """It is a bad row like any other."""
    (row,) = read(tmp_path, ["1e-9", cell], on_bad_row="reject").rejected
    assert row.reason.startswith(reason)


@pytest.mark.parametrize(
    ("cells", "pkd", "side", "left_out"),
    [
        ([">1e-6", "1e-7", "1e-8"], 7.5, 0, 1),
        ([">1e-6", ">1e-5", ">1e-7"], 5.0, -1, 0),
        (["<1e-11", "<1e-12"], 12.0, 1, 0),
    ],
)
def test_rows_of_one_pair_say_one_thing(tmp_path, cells, pkd, side, left_out):
    """Measured rows count before bounds, which are then counted as left out; of bounds the tightest counts."""
    table = read(tmp_path, cells, same=True)
    assert table.affinity_N == pytest.approx([pkd])
    assert table.side_N.tolist() == [side]
    assert table.normalised.get("bounds of measured pairs left out", 0) == left_out


def test_bounds_on_both_sides_are_refused_by_name(tmp_path):
    """Nobody knows which one to train on."""
    with pytest.raises(PairsError, match=r"both sides and no measured value: 1 \('1'\); keep one of the two"):
        read(tmp_path, [">1e-6", "<1e-12"], same=True)
