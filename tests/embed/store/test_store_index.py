"""The key index against a dict."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.store.index import NO_KEYS, KeyIndex, build_index
from embed.store.schema import key_halves

# few different bytes, so that halves and whole keys collide often
KEYS = st.lists(
    st.sampled_from(
        [bytes([a] * 7 + [b] + [c] * 7 + [d]) for a in (0, 255) for b in (0, 1) for c in (0, 9) for d in (0, 1, 255)]
    ),
    max_size=30,
)


def rows(keys):
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


@settings(deadline=None, max_examples=200)
@given(KEYS, KEYS, KEYS, st.randoms(use_true_random=False))
def test_an_index_finds_what_a_dict_of_lowest_ranks_finds(first, second, asked, random):
    """Built in two steps, with equal keys and equal halves everywhere, every look-up is that of a dict."""
    rank = list(range(len(first) + len(second)))
    random.shuffle(rank)
    expected: dict[bytes, int] = {}
    for location, key in enumerate(first + second):
        if key not in expected or rank[location] < rank[expected[key]]:
            expected[key] = location
    index, start = NO_KEYS, 0
    for keys in (first, second):
        added = KeyIndex(*key_halves(rows(keys)), np.arange(start, start + len(keys)))
        index, start = (
            build_index(index, added, lambda location: np.array(rank, np.int64)[location]),
            start + len(keys),
        )
    assert len(index) == len(expected)
    assert index.find(rows(asked)).tolist() == [expected.get(key, -1) for key in asked]


def test_the_order_of_halves_is_the_order_of_bytes():
    """Sorting pairs of halves sorts keys as bytes."""
    key_N16 = np.random.default_rng(0).integers(0, 256, (500, 16), dtype=np.uint8)
    high_N, low_N = key_halves(key_N16)
    by_halves = [key_N16[i].tobytes() for i in np.lexsort((low_N, high_N))]
    assert by_halves == sorted(key.tobytes() for key in key_N16)
