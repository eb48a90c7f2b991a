"""What counts as unlike training: against edit distances of all with all, and the rule in plain numpy."""

import numpy as np
import pytest

from tests.train.test_identity import identity
from tests.train.test_nearest import drawn, mutant
from train import novelty as module
from train.novelty import find_novelty

NEAR = 0.9


@pytest.fixture
def tables(make_table):
    """A table of mutants whose test pairs are farther than others, and one to ask of, from known to alien."""
    random = np.random.default_rng(5)
    heavies = [drawn(random, 110) for _ in range(4)]
    antigens = [drawn(random, 90) for _ in range(5)]
    rows = [
        (mutant(random, heavies[i % 4], 3 if i < 60 else 25), "", mutant(random, antigens[i % 5], 2), 8.0, "")
        for i in range(90)
    ]
    trained = make_table(rows)
    asked = [
        (mutant(random, heavies[i % 4], i), "", mutant(random, antigens[i % 5], i // 2), 8.0, "") for i in range(60)
    ]
    asked += [(rows[0][0], "", rows[3][2], 8.0, ""), (drawn(random, 100), "", drawn(random, 80), 8.0, "")]
    return trained, make_table(asked)


def sides(table):
    heavies = [heavy for heavy, _ in table.antibodies]
    return {
        "heavy": [heavies[row] for row in table.pair_N2[:, 0]],
        "antigen": [table.antigens[row] for row in table.pair_N2[:, 1]],
    }


def test_novel_is_what_is_farther_than_the_test_pairs_and_not_near(tables) -> None:
    """Each pair, each side: below the identity that all but 5 % of the test pairs reach, and below 0.9."""
    trained, asked = tables
    train_M, test_T = np.arange(60), np.arange(60, 90)
    told = []
    found = find_novelty(trained, train_M, test_T, asked, identity=NEAR, progress=lambda *step: told.append(step))
    expected = [[] for _ in asked.id]
    for role, known in sides(trained).items():
        near = [max(identity(one, known[row]) for row in train_M) for one in known]
        at = int(0.05 * (len(test_T) - 1))
        below = min(NEAR, sorted(near[row] for row in test_T)[at])
        assert found.below[role] == pytest.approx(below, abs=0.02)
        for row, one in enumerate(sides(asked)[role]):
            best = max(identity(one, known[row]) for row in train_M)
            if best < found.below[role]:
                assert found.identity_N[role][row] == pytest.approx(best, abs=0.03)
                expected[row].append(role)
            else:
                assert found.identity_N[role][row] == 1
    warned = [[each.split(":")[0] for each in (warning or "").split("; ") if each] for warning in found.warnings()]
    assert warned == expected
    assert found.below["heavy"] < 0.85 < found.below["antigen"] == NEAR
    assert warned[-2:] == [[], ["heavy", "antigen"]]
    assert 5 < sum(map(len, expected)) < 80
    assert {phase for phase, _, _ in told} == {"comparing heavy chains", "comparing antigens"}


def test_what_is_said_is_never_more_than_it_is() -> None:
    """89.9 % identical is not said to be 90."""
    found = module.Novelty(
        below={"heavy": 0.9, "antigen": 0.5},
        identity_N={"heavy": np.array([0.899, 0.9, 1.0]), "antigen": np.array([0.29, 0.5, 0.0])},
    )
    assert found.warnings() == [
        "heavy: nearest in training is 89 % identical; antigen: nearest in training is 29 % identical",
        None,
        "antigen: no five residues in a row are in training",
    ]


def test_too_many_sequences_are_sampled_but_all_are_known(tables, monkeypatch) -> None:
    """A search among some of them is told; the very sequences are found among all."""
    trained, _ = tables
    monkeypatch.setattr(module, "_MOST_RESIDUES", 1000)
    found = find_novelty(trained, np.arange(60), np.arange(60, 90), trained, identity=NEAR)
    searched, distinct = found.sampled["heavy"]
    assert 8 <= searched <= 10
    assert distinct == len({trained.antibodies[row][0] for row in trained.pair_N2[:60, 0]})
    assert found.warnings()[:60] == [None] * 60


def test_a_table_of_known_sequences_is_not_searched(tables, monkeypatch) -> None:
    """Exact matches come first, and no index is made for them."""
    trained, _ = tables
    monkeypatch.setattr(module, "Nearest", None)
    found = find_novelty(trained, np.arange(90), np.arange(60, 90), trained, identity=NEAR)
    assert found.warnings() == [None] * 90
    assert found.below == {"heavy": NEAR, "antigen": NEAR}
