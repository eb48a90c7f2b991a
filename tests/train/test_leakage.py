"""What test pairs share with training, against plain sets and edit distances, and the scores on the rest."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.train.test_identity import identity
from train.config import TrainConfig
from train.errors import TrainError
from train.leakage import find_leakage
from train.splits import make_split


@pytest.fixture
def related(make_table, random_rows):
    """A table in which some heavy chains and antigens are mutants of others."""
    rows = random_rows(150, antibodies=30, antigens=8)
    names = sorted({row[0] for row in rows}), sorted({row[2] for row in rows})
    mutant = {
        each: (before[:40] + "WW" + before[42:] if number % 3 == 1 else each)
        for of_side in names
        for number, (before, each) in enumerate(zip([of_side[0], *of_side], of_side, strict=False))
    }
    return make_table([(mutant[heavy], light, mutant[antigen], *rest) for heavy, light, antigen, *rest in rows])


def config(**fields) -> TrainConfig:
    return TrainConfig(run=Path("run"), **fields)


def test_shares_are_what_plain_sets_say(related) -> None:
    """Very sequences by sets, near ones by edit distances of all with all."""
    split = make_split(config(split="group", group="antibody"), related)
    found = find_leakage(split, related, 0.9)
    heavies, antigens = [heavy for heavy, _ in related.antibodies], list(related.antigens)
    train, test = (related.pair_N2[split.rows(part)].tolist() for part in ("train", "test"))
    near_antibody = [any(identity(heavies[a], heavies[b]) >= 0.9 for b, _ in train) for a, _ in test]
    near_antigen = [any(identity(antigens[a], antigens[b]) >= 0.9 for _, b in train) for _, a in test]
    assert found.seen_T["antibody"].tolist() == [a in {b for b, _ in train} for a, _ in test]
    assert found.seen_T["antigen"].tolist() == [a in {b for _, b in train} for _, a in test]
    assert found.seen_T["near_antibody"].tolist() == near_antibody
    assert found.seen_T["near_antigen"].tolist() == near_antigen
    assert 0 < found.shares()["near_antibody"] < 1
    assert found.shares()["near_antibody"] == pytest.approx(np.mean(near_antibody))
    assert found.unsought == 0


def test_the_rest_is_scored_where_it_is_large_enough(related) -> None:
    """Pairs whose sequence is near to none of training are scored alone, as scipy does."""
    split = make_split(config(split="group", group="antibody", split_seed=1), related)
    found = find_leakage(split, related, 0.9)
    test = split.rows("test")
    prediction_T = np.random.default_rng(0).normal(size=len(test))
    target_T = related.affinity_N[test]
    scored = found.scores_of_rest(target_T, prediction_T, np.ones(len(test), bool))
    rest = ~found.seen_T["antibody"]
    assert scored["antibody"]["n"] == rest.sum() >= 10
    assert scored["antibody"]["spearman"] == pytest.approx(spearmanr(target_T[rest], prediction_T[rest])[0])
    assert scored["antigen"] is None


@pytest.mark.parametrize("group", ["antigen", "antibody"])
def test_a_split_by_clusters_leaks_nothing(related, group, monkeypatch, tmp_path) -> None:
    """No heavy chain, or antigen, of a part is near to one of another part, by distances computed apart."""
    monkeypatch.setenv("PATH", str(tmp_path))
    split = make_split(config(split="cluster", group=group), related)
    assert split.kind == f"cluster by {group} (own linkage, edit identity 0.9)"
    sides = {"antibody": [heavy for heavy, _ in related.antibodies], "antigen": list(related.antigens)}
    for column, (side, sequences) in enumerate(sides.items()):
        if group == side:
            parts = [sorted(set(related.pair_N2[split.part_N == part, column].tolist())) for part in range(3)]
            for one, other in ((0, 1), (0, 2), (1, 2)):
                pairs = [(sequences[a], sequences[b]) for a in parts[one] for b in parts[other]]
                assert not [pair for pair in pairs if identity(*pair) >= 0.9]


def test_one_cluster_cannot_be_split_and_the_ways_out_are_named(make_table, random_rows) -> None:
    """Mutants of one clone against one antigen: no split by clusters exists."""
    rows = random_rows(1, antibodies=1, antigens=1)
    heavy, *rest = rows[0]
    table = make_table([(heavy[:n] + "W" + heavy[n + 1 :], *rest) for n in range(20, 60) if heavy[n] != "W"])
    with pytest.raises(TrainError, match=r"linked by identities of 0\.9 or more, .* a hold-out by hand in a col"):
        make_split(config(split="cluster", group="antibody"), table)
