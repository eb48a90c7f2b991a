"""Batches, windows and shares of work as properties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.batching import Room, auto_edges, coverage, cut_buckets, cut_rows, share_of_work, token_budget, windows

lengths = st.lists(st.integers(1, 1500), min_size=1, max_size=120).map(lambda values: np.array(values, np.int64))
budgets = st.integers(1, 5000)


@given(lengths, budgets)
def test_each_piece_is_in_exactly_one_batch_within_the_budget(tokens_N, budget):
    """Nothing is lost or read twice, a row holds its piece, and only a lone piece exceeds the budget."""
    batches = list(cut_buckets(tokens_N, auto_edges(tokens_N, budget), lambda: budget))
    assert sorted(i for index_B, _ in batches for i in index_B) == list(range(len(tokens_N)))
    for index_B, width in batches:
        assert tokens_N[index_B].max() <= width
        assert len(index_B) == 1 or len(index_B) * width <= budget


@given(lengths, budgets)
def test_rows_hold_every_piece_once_longest_first(tokens_N, budget):
    """No piece is lost or read twice, only a lone one exceeds the budget, longest first."""
    rows = list(cut_rows(tokens_N, lambda: budget))
    order = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    assert sorted(order.tolist()) == list(range(len(tokens_N)))
    assert (np.diff(tokens_N[order]) <= 0).all()
    assert all(len(row) == 1 or tokens_N[row].sum() <= budget for row in rows)


def test_a_budget_that_falls_makes_the_rows_to_come_smaller():
    """After out of memory the rest is cut at half the size."""
    budget = [400]
    rows = cut_rows(np.full(20, 100), lambda: budget[0])
    assert len(next(rows)) == 4
    budget[0] = 200
    assert [len(row) for row in rows] == [2] * 8


def test_the_budget_follows_cache_and_memory():
    """Wider models and smaller caches read fewer tokens at once; a number is taken as it is."""
    small, large = (Room(device="cpu", bytes=size * 2**20, width=2560) for size in (8, 32))
    assert token_budget("auto", small) < token_budget("auto", large)
    assert token_budget("auto", Room(device="cpu", bytes=32 * 2**20, width=16384)) < token_budget("auto", large)
    assert token_budget(77, small) == 77
    assert token_budget("auto", Room(device="cuda", bytes=70 * 2**30, width=20000)) > 10_000


@given(lengths, budgets)
def test_auto_buckets_pad_at_most_five_percent(tokens_N, budget):
    """The padding that automatic buckets cause stays below their promise."""
    batches = cut_buckets(tokens_N, auto_edges(tokens_N, budget), lambda: budget)
    padded = sum(len(index_B) * width for index_B, width in batches)
    assert 1 - tokens_N.sum() / padded <= 0.05 + 1e-9


def test_a_length_that_fills_batches_alone_is_never_padded():
    """Common lengths keep buckets of their own."""
    tokens_N = np.array([234] * 100 + [235] * 100, np.int64)
    assert auto_edges(tokens_N, 2048) == (234, 235)


@given(lengths, st.lists(st.integers(1, 1200), min_size=1, max_size=5, unique=True).map(sorted), budgets)
def test_given_buckets_are_kept(tokens_N, edges, budget):
    """A row is padded to the first edge that holds it; longer pieces share a bucket of their own length."""
    for index_B, width in cut_buckets(tokens_N, edges, lambda: budget):
        longest = tokens_N[index_B].max()
        expected = next((edge for edge in edges if edge >= longest), None)
        assert width == expected if expected is not None else width >= longest


def test_the_published_buckets():
    """`[256, 384, 512]` pads 300 tokens to 384 and leaves 600 as they are."""
    batches = dict(
        (tuple(index_B), width)
        for index_B, width in cut_buckets(np.array([10, 300, 600]), [256, 384, 512], lambda: 10**6)
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
