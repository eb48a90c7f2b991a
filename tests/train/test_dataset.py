"""The dataset points every pair at its own two vectors and holds each of them once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.sequences import antibody_key, antibody_keys, antigen_key, antigen_keys
from train.dataset import Matrix, VectorFolders, blocks, build_dataset, distinct_rows
from train.errors import TrainError


def vector_of(key: bytes, dim: int) -> np.ndarray:
    """Tell the vector that these tests publish under a key."""
    return np.random.default_rng(list(key)).normal(size=dim).astype(np.float32)


def vectors_of(key_N16: np.ndarray, dim: int) -> np.ndarray:
    return np.stack([vector_of(key.tobytes(), dim) for key in key_N16])


@pytest.fixture
def table(make_table, random_rows):
    return make_table(random_rows(30))


@pytest.fixture
def folders(table, publish):
    """Nanobodies in a folder of their own, as another checkpoint leaves them."""
    paired = [antibody for antibody in table.antibodies if antibody[1] is not None]
    single = [antibody for antibody in table.antibodies if antibody[1] is None]
    assert 0 < len(single) < len(table.antibodies)
    found = {}
    for name, keys, dim in [
        ("igt5", antibody_keys(paired), 6),
        ("single", antibody_keys(single), 6),
        ("esm2", antigen_keys(table.antigens), 5),
    ]:
        found[name] = publish(name, keys, vectors_of(keys, dim))
    return VectorFolders(paired=found["igt5"], single=found["single"], antigen=found["esm2"])


def expected_features(table) -> np.ndarray:
    """Look every pair up on its own, sequence by sequence."""
    rows = []
    for antibody, antigen in table.pair_N2:
        key = antibody_key(*table.antibodies[antibody])
        rows.append(np.concatenate([vector_of(key, 6), vector_of(antigen_key(table.antigens[antigen]), 5)]))
    return np.stack(rows)


def test_every_pair_gets_its_own_vectors(table, folders) -> None:
    """Pairs with and without light chain, from two antibody folders."""
    dataset = build_dataset(table, folders)
    np.testing.assert_array_equal(dataset.features(np.arange(len(dataset))), expected_features(table))
    backwards = np.arange(len(dataset))[::-1].copy()
    np.testing.assert_array_equal(dataset.features(backwards), expected_features(table)[::-1])


def test_targets_and_ids_are_those_of_the_table(table, folders) -> None:
    """Targets are pKd as float32, ids are kept."""
    dataset = build_dataset(table, folders)
    np.testing.assert_array_equal(dataset.target_N, table.affinity_N.astype(np.float32))
    assert dataset.id == table.id


def test_without_affinities_targets_are_nan(make_table, random_rows, embedded) -> None:
    """A table to predict has no targets."""
    table = make_table(random_rows(8), affinity=False)
    assert np.isnan(build_dataset(table, embedded(table)).target_N).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_pairs_are_renumbered_among_the_rows_in_use(pairs) -> None:
    """Each side lists its rows once, in order, and the new numbers lead to the old rows."""
    row_M2 = np.array(pairs, np.int64).reshape(-1, 2)
    place_M2, sides = distinct_rows(row_M2)
    for side in (0, 1):
        assert sides[side].tolist() == sorted({pair[side] for pair in pairs})
        np.testing.assert_array_equal(sides[side][place_M2[:, side]], row_M2[:, side])


def test_gather_writes_into_the_buffer_given() -> None:
    """Resident rows land in the caller's buffer."""
    matrix = Matrix.of(np.arange(12, dtype=np.float32).reshape(4, 3))
    out_BD = np.empty((2, 3), np.float32)
    assert matrix.gather(np.array([3, 0]), out_BD) is out_BD
    np.testing.assert_array_equal(out_BD, [[9, 10, 11], [0, 1, 2]])


def test_mapped_gather_writes_into_the_buffer_given(table, folders) -> None:
    """Rows from two folders land in the caller's buffer, repeated rows too."""
    matrix = build_dataset(table, folders).antibodies
    index_B = np.concatenate([np.arange(len(matrix)), [0, 0, len(matrix) - 1]])
    out_BD = np.empty((len(index_B), 6), np.float32)
    matrix.gather(index_B, out_BD)
    np.testing.assert_array_equal(out_BD, vectors_of(antibody_keys(table.antibodies), 6)[index_B])


def test_missing_vectors_are_counted_with_the_way_out(table, folders, publish) -> None:
    """The message counts antibodies and antigens apart and names the command that completes the store."""
    some = antigen_keys(table.antigens[:2])
    partial = publish("esm2-partial", some, vectors_of(some, 5))
    with pytest.raises(TrainError) as caught:
        build_dataset(table, replace(folders, antigen=partial))
    message = str(caught.value)
    assert f"0 of {len(table.antibodies)} antibodies" in message
    assert f"{len(table.antigens) - 2} of {len(table.antigens)} antigens" in message
    assert "bindcache embed --config" in message


def test_a_store_that_does_not_exist_misses_everything(table, tmp_path) -> None:
    """Nothing was embedded yet: same message, no traceback."""
    nowhere = VectorFolders(paired=tmp_path / "s/a", single=tmp_path / "s/a", antigen=tmp_path / "s/b")
    count = len(table.antibodies)
    with pytest.raises(TrainError, match=f"{count} of {count} antibodies .* `bindcache embed"):
        build_dataset(table, nowhere)


def test_two_antibody_widths_are_refused(table, folders, publish) -> None:
    """A single-chain encoder of another width cannot share the matrix."""
    keys = antibody_keys([antibody for antibody in table.antibodies if antibody[1] is None])
    wide = publish("wide", keys, vectors_of(keys, 7))
    with pytest.raises(TrainError, match=r'widths 6 and 7.*single_chain = "same"'):
        build_dataset(table, replace(folders, single=wide))


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_blocks_cover_all_rows_once_in_order(rows) -> None:
    """No row is lost between blocks, and none is large."""
    parts = list(blocks(np.arange(rows), 2304))
    assert [row for part in parts for row in part.tolist()] == list(range(rows))
    assert all(len(part) * 2304 <= 1 << 22 for part in parts)
