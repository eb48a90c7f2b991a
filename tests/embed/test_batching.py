"""Batches, windows and shares of work as properties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.batching import auto_edges, coverage, cut_batches, share_of_work, windows

lengths = st.lists(st.integers(1, 1500), min_size=1, max_size=120).map(lambda values: np.array(values, np.int64))
budgets = st.integers(1, 5000)


@given(lengths, budgets)
def test_each_piece_is_in_exactly_one_batch_within_the_budget(tokens_N, budget):
    """Nothing is lost or read twice, a row holds its piece, and only a lone piece exceeds the budget."""
    batches = list(cut_batches(tokens_N, auto_edges(tokens_N, budget), budget))
    assert sorted(i for index_B, _ in batches for i in index_B) == list(range(len(tokens_N)))
    for index_B, width in batches:
        assert tokens_N[index_B].max() <= width
        assert len(index_B) == 1 or len(index_B) * width <= budget


@given(lengths, budgets)
def test_auto_buckets_pad_at_most_five_percent(tokens_N, budget):
    """The padding that automatic buckets cause stays below their promise."""
    batches = cut_batches(tokens_N, auto_edges(tokens_N, budget), budget)
    padded = sum(len(index_B) * width for index_B, width in batches)
    assert 1 - tokens_N.sum() / padded <= 0.05 + 1e-9


def test_a_length_that_fills_batches_alone_is_never_padded():
    """Common lengths keep buckets of their own."""
    tokens_N = np.array([234] * 100 + [235] * 100, np.int64)
    assert auto_edges(tokens_N, 2048) == (234, 235)


@given(lengths, st.lists(st.integers(1, 1200), min_size=1, max_size=5, unique=True).map(sorted), budgets)
def test_given_buckets_are_kept(tokens_N, edges, budget):
    """A row is padded to the first edge that holds it; longer pieces share a bucket of their own length."""
    for index_B, width in cut_batches(tokens_N, edges, budget):
        longest = tokens_N[index_B].max()
        expected = next((edge for edge in edges if edge >= longest), None)
        assert width == expected if expected is not None else width >= longest


def test_the_published_buckets():
    """`[256, 384, 512]` pads 300 tokens to 384 and leaves 600 as they are."""
    batches = dict(
        (tuple(index_B), width) for index_B, width in cut_batches(np.array([10, 300, 600]), [256, 384, 512], 10**6)
    )
    assert batches == {(0,): 256, (1,): 384, (2,): 600}


@given(st.integers(1, 6000), st.integers(1, 1022), st.integers(1, 1022))
def test_windows_cover_every_residue(length, window, stride):
    """Windows begin every `stride` residues, fit, end at the end, and leave no residue out."""
    stride = min(stride, window)
    pieces = windows(length, window, stride)
    assert all(start == n * stride and end - start <= window for n, (start, end) in enumerate(pieces))
    assert pieces[-1][1] == length
    assert len(pieces) == 1 or pieces[-2][1] < length
    expected = [sum(start <= i < end for start, end in pieces) for i in range(0, length, 97)]
    assert min(expected) >= 1
    assert coverage(length, pieces)[::97].tolist() == expected


@settings(max_examples=40)
@given(lengths, st.integers(1, 9), st.randoms())
def test_parts_are_disjoint_complete_balanced_and_blind_to_order(length_N, parts, random):
    """The N parts share out all sequences, by key and not by place in the table, each with its fair cost."""
    key_NK = np.random.default_rng(len(length_N)).integers(0, 256, (len(length_N), 16), np.uint8)
    shares = [share_of_work(length_N, key_NK, (i, parts)) for i in range(1, parts + 1)]
    assert (np.sum(shares, axis=0) == 1).all()
    costs = [int(length_N[share].sum()) for share in shares]
    assert max(costs) - min(costs) <= length_N.max()
    order = list(range(len(length_N)))
    random.shuffle(order)
    shuffled = share_of_work(length_N[order], key_NK[order], (1, parts))
    assert (shuffled == shares[0][order]).all()
