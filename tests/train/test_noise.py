"""The noise ceiling, against a simulation in which the truth is known."""

import csv

import numpy as np
import pytest

from embed.pairs import PairsConfig, read_pairs
from train.noise import noise_ceiling

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


def table_of(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["heavy", "light", "antigen", "pkd"])
        writer.writerows(rows)
    return read_pairs(PairsConfig(path=path, affinity="pkd", censored="use"))


def test_the_truth_itself_reaches_the_ceiling(tmp_path) -> None:
    """Of 2,000 pairs, half measured twice with sd 0.5: what the true values score is what the replicates foretell."""
    random = np.random.default_rng(0)
    truth_N = random.normal(8, 1, 2000)
    pairs = ["".join(random.choice(LETTERS, 20)) for _ in truth_N]
    rows = [
        (heavy, "DIQMT", "ACDEFGHIKL", repr(truth + random.normal(0, 0.5)))
        for number, (heavy, truth) in enumerate(zip(pairs, truth_N.tolist(), strict=True))
        for _ in range(1 + number % 2)
    ]
    table = table_of(tmp_path / "pairs.csv", rows)
    found = noise_ceiling(table, np.arange(2000))
    error_N = table.affinity_N - truth_N
    assert (found["pairs"], found["degrees"]) == (1000, 1000)
    assert found["sd"] == pytest.approx(0.5, rel=0.05)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(error_N**2)), rel=0.05)
    assert found["r2"] == pytest.approx(1 - np.mean(error_N**2) / table.affinity_N.var(), abs=0.02)
    assert found["pearson"] == pytest.approx(np.corrcoef(truth_N, table.affinity_N)[0, 1], abs=0.02)


def test_duplicates_are_no_replicates(tmp_path) -> None:
    """Rows written twice would make the assay look perfect; nor do bounds tell of noise."""
    rows = [("E" * 5 + letter, "DIQMT", "ACDEFGHIKL", f"{7 + n / 10}") for n, letter in enumerate(LETTERS)]
    bounds = [(*row[:3], ">6") for row in rows]
    table = table_of(tmp_path / "pairs.csv", [*rows, *rows, *bounds])
    assert table.measurements_N.tolist() == [1] * 20
    assert noise_ceiling(table, np.arange(20)) is None
