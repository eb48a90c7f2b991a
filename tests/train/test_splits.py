"""Splits: shares, seeds, what no two parts may share, and refusals that name the way out."""

import hashlib
import struct
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from train.config import TrainConfig
from train.errors import TrainError
from train.splits import PARTS, connected_groups, deal_groups, make_split


def config(**fields) -> TrainConfig:
    return TrainConfig(run=Path("run"), **fields)


def parts_that_share(table, split, column: int) -> list[tuple[str, str]]:
    """List the pairs of parts that have an antibody (column 0) or an antigen (1) in common."""
    held = {part: set(table.pair_N2[split.rows(part), column].tolist()) for part in PARTS}
    return [(one, other) for one, other in combinations(PARTS, 2) if held[one] & held[other]]


def sizes(split) -> list[int]:
    return [len(split.rows(part)) for part in PARTS]


def test_random_is_80_10_10_and_covers_every_pair(make_table, random_rows) -> None:
    """Every pair is in exactly one part."""
    split = make_split(config(), make_table(random_rows(60)))
    assert sizes(split) == [48, 6, 6]
    assert sorted(np.concatenate([split.rows(part) for part in PARTS]).tolist()) == list(range(60))


def test_random_is_a_function_of_seed_and_pair_count(make_table, random_rows) -> None:
    """Another table of the same size gets the same parts; another seed does not."""
    one = make_split(config(split_seed=3), make_table(random_rows(50, seed=1)))
    other_table = make_split(config(split_seed=3), make_table(random_rows(50, seed=2)))
    other_seed = make_split(config(split_seed=4), make_table(random_rows(50, seed=1)))
    np.testing.assert_array_equal(one.part_N, other_table.part_N)
    assert not np.array_equal(one.part_N, other_seed.part_N)


@pytest.mark.parametrize("pairs", [3, 4, 9, 10, 11])
def test_no_part_of_a_tiny_table_is_empty(make_table, random_rows, pairs) -> None:
    """Three pairs are enough for three parts."""
    assert min(sizes(make_split(config(), make_table(random_rows(pairs))))) >= 1


def test_two_pairs_are_refused(make_table, random_rows) -> None:
    """Two pairs cannot fill three parts."""
    with pytest.raises(TrainError, match="2 distinct pairs: train, valid and test need 3"):
        make_split(config(), make_table(random_rows(2)))


def test_replicates_never_straddle(make_table, random_rows) -> None:
    """Rows of one pair are in one part, whatever the order of the rows."""
    rows = random_rows(20)
    measured_again = [(heavy, light, antigen, pkd + 0.1, part) for heavy, light, antigen, pkd, part in rows]
    shuffled = [(rows + measured_again)[at] for at in np.random.default_rng(0).permutation(40)]
    table = make_table(shuffled)
    assert len(table.pair_of_row) == 40
    part_R = make_split(config(), table).part_N[table.pair_of_row]
    part_of = {}
    for row, part in zip(shuffled, part_R.tolist(), strict=True):
        assert part_of.setdefault(row[:3], part) == part


def test_names_and_digest_tell_the_parts(make_table, random_rows) -> None:
    """The digest is SHA-256 over length-prefixed ids and parts, recomputed here by hand."""
    table = make_table(random_rows(10))
    split = make_split(config(), table)
    assert split.names() == [PARTS[part] for part in split.part_N]
    whole = b"".join(struct.pack("<q", len(name)) for name in table.id) + "".join(table.id).encode()
    assert split.digest == hashlib.sha256(whole + bytes(split.part_N.tolist())).hexdigest()
    assert make_split(config(split_seed=1), table).digest != split.digest


def with_parts(rows, parts):
    return [(*row[:4], part) for row, part in zip(rows, parts, strict=True)]


def test_column_with_three_words(make_table, random_rows) -> None:
    """The words train, valid and test need no mapping."""
    parts = ["train"] * 6 + ["valid"] * 2 + ["test"] * 3
    table = make_table(with_parts(random_rows(11), parts), split=True)
    assert make_split(config(split="column"), table).names() == parts


def test_column_with_a_mapping(make_table, random_rows) -> None:
    """Several values may make one part."""
    parts = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]
    table = make_table(with_parts(random_rows(10), parts), split=True)
    mapping = {"train": ("a", "b"), "valid": ("c",), "test": ("d",)}
    expected = ["train"] * 7 + ["valid"] * 2 + ["test"]
    assert make_split(config(split="column", split_values=mapping), table).names() == expected


@pytest.mark.parametrize("values", [{}, {"train": ("train",), "test": ("test",)}])
def test_column_draws_validation_from_train_where_none_is_named(make_table, random_rows, values) -> None:
    """A tenth of the training pairs, by seed; the test part stays as it is."""
    parts = ["train"] * 40 + ["test"] * 10
    table = make_table(with_parts(random_rows(50), parts), split=True)
    split = make_split(config(split="column", split_values=values), table)
    assert sizes(split) == [36, 4, 10]
    assert split.rows("test").tolist() == list(range(40, 50))
    again = make_split(config(split="column", split_values=values, split_seed=1), table)
    assert again.rows("valid").tolist() != split.rows("valid").tolist()


def test_column_lists_values_that_no_part_names(make_table, random_rows) -> None:
    """The message shows the strange values and the key that names them."""
    table = make_table(with_parts(random_rows(5), ["train", "train", "valid", "tset", "hold"]), split=True)
    with pytest.raises(TrainError, match=r"'hold', 'tset'.*train\.split_values"):
        make_split(config(split="column"), table)


def test_column_that_is_not_declared(make_table, random_rows) -> None:
    """The message names the key."""
    with pytest.raises(TrainError, match=r"pairs\.split"):
        make_split(config(split="column"), make_table(random_rows(5)))


@pytest.mark.parametrize(
    ("parts", "values", "empty"),
    [
        (["train"] * 5, {}, "test"),
        (["test"] * 5, {}, "train"),
        (["a"] * 5, {"train": ("a",), "valid": ("v",), "test": ("t",)}, "valid"),
        (["a"] + ["b"] * 4, {"train": ("a",), "test": ("b",)}, "valid"),
    ],
)
def test_column_that_leaves_a_part_empty(make_table, random_rows, parts, values, empty) -> None:
    """The empty part is named; one training pair cannot lend a validation pair."""
    table = make_table(with_parts(random_rows(5), parts), split=True)
    with pytest.raises(TrainError, match=f"leaves {empty} empty"):
        make_split(config(split="column", split_values=values), table)


@pytest.mark.parametrize(("group", "column"), [("antibody", 0), ("antigen", 1)])
def test_groups_are_never_divided(make_table, random_rows, group, column) -> None:
    """No antibody, or no antigen, is in two parts, and no part is empty."""
    table = make_table(random_rows(55))
    split = make_split(config(split="group", group=group), table)
    assert parts_that_share(table, split, column) == []
    assert min(sizes(split)) >= 1
    assert (split.part_N >= 0).all()


def test_group_both_shares_neither_and_drops_nothing(make_table, random_rows) -> None:
    """Three islands of antibodies and antigens go to three parts whole."""
    rows = [row for seed in range(3) for row in random_rows(12, antibodies=4, antigens=3, single=1, seed=seed)]
    table = make_table(rows)
    split = make_split(config(split="group", group="both"), table)
    assert sorted(sizes(split)) == [12, 12, 12]
    assert parts_that_share(table, split, 0) == parts_that_share(table, split, 1) == []


@pytest.mark.parametrize(
    ("antigens", "group", "message"),
    [
        (1, "antigen", "All 24 pairs share one antigen"),
        (2, "antigen", "All 48 pairs fall into two groups by antigen"),
        (2, "both", "All 48 pairs are linked by shared antibodies and antigens"),
    ],
)
def test_too_few_groups_are_refused_with_the_way_out(make_table, random_rows, antigens, group, message) -> None:
    """One antigen cannot be divided by antigen."""
    table = make_table(random_rows(24 * antigens, antibodies=24, antigens=antigens))
    with pytest.raises(TrainError, match=message) as caught:
        make_split(config(split="group", group=group), table)
    assert 'split = "random"' in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), min_size=3, max_size=200), st.integers(0, 5))
def test_dealt_groups_come_near_their_shares(group_sizes, seed) -> None:
    """No part is empty, and none misses its share by more than the largest group."""
    size_G = np.array(group_sizes)
    part_G = deal_groups(size_G, np.random.default_rng(seed))
    dealt = np.bincount(part_G, weights=size_G, minlength=3)
    assert (dealt > 0).all()
    if len(size_G) > 30:
        assert (np.abs(dealt - size_G.sum() * np.array([0.8, 0.1, 0.1])) <= size_G.max()).all()


def test_large_groups_are_dealt_first() -> None:
    """Small groups fill what large ones leave, so shares that can be met are met."""
    size_G = np.array([5, 10, 60, 5, 20])
    dealt = np.bincount(deal_groups(size_G, np.random.default_rng(0)), weights=size_G)
    assert dealt.tolist() == [80, 10, 10]


def test_chance_orders_equal_groups() -> None:
    """Equal groups change places with the seed, and only with it."""
    size_G = np.full(30, 2)
    dealt = [deal_groups(size_G, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]
    assert np.bincount(dealt[0]).tolist() == [24, 3, 3]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=60))
def test_connected_groups_are_those_of_scipy(edges) -> None:
    """Two pairs have one label exactly if scipy puts them into one component."""
    antibody_N, antigen_N = np.array(edges).T
    label_N = connected_groups(antibody_N, antigen_N)
    graph = coo_array((np.ones(len(edges)), (antibody_N, antigen_N + 26)), shape=(52, 52))
    expected_N = connected_components(graph, directed=False)[1][antibody_N]
    np.testing.assert_array_equal(label_N[:, None] == label_N, expected_N[:, None] == expected_N)


def test_a_long_chain_is_one_group_in_no_time() -> None:
    """A path through 200,000 pairs, numbered at random, is the worst graph for label passing."""
    random = np.random.default_rng(0)
    antibody_N = random.permutation(100_000).repeat(2)[:-1]
    antigen_N = random.permutation(100_000).repeat(2)[1:]
    assert len(np.unique(connected_groups(antibody_N, antigen_N))) == 1


@pytest.mark.parametrize("fields", [{}, {"split": "group", "group": "antibody"}, {"split": "cluster"}])
def test_folds_test_every_pair_once_and_respect_groups(make_table, random_rows, fields) -> None:
    """The test parts of all folds are the table; no group is in two parts of a fold."""
    table = make_table(random_rows(200, antibodies=30, antigens=12))
    splits = [make_split(config(folds=4, fold=fold, **fields), table) for fold in (1, 2, 3, 4)]
    assert sorted(np.concatenate([split.rows("test") for split in splits]).tolist()) == list(range(200))
    for split in splits:
        assert min(sizes(split)) > 0
        assert sum(sizes(split)) == 200
        if fields:
            assert parts_that_share(table, split, 0 if "group" in fields else 1) == []


def test_more_folds_than_groups_are_refused(make_table, random_rows) -> None:
    """Each fold needs a group of its own, and one more must train."""
    with pytest.raises(TrainError, match=r"has 5 groups by antigen, and train\.folds = 5 needs more than 5"):
        make_split(config(split="group", folds=5, fold=1), make_table(random_rows(60)))
