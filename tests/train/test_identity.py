"""Near-identical sequences: exactly those that a plain table of edit distances says."""

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.identity import Library, identities


def edits(one: str, other: str) -> int:
    """Levenshtein's distance, cell by cell."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@cache
def identity(one: str, other: str) -> float:
    return 1 - edits(one, other) / max(len(one), len(other))


@st.composite
def families(draw) -> list[str]:
    """Draw mutants of one sequence, with substitutions, insertions and deletions."""
    base = draw(st.text("ACDEFG", min_size=4, max_size=40))
    changes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.sampled_from("ACDY")), max_size=8)
    found = [base]
    for mutations in draw(st.lists(changes, min_size=1, max_size=8)):
        mutant = list(base)
        for kind, place, letter in mutations:
            at = place % (len(mutant) or 1)
            mutant[at : at + (kind != 1)] = [letter] * (kind != 2)
        if mutant:
            found.append("".join(mutant))
    return found


@settings(max_examples=60, deadline=None)
@given(families(), st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95, 1.0]))
def test_near_is_what_the_edit_distance_says(sequences, least) -> None:
    """No near pair is missed by the sets of 3-mers or the band, and none is invented."""
    library, every = Library(sequences, least), np.arange(len(sequences))
    for query in sequences:
        expected = [identity(query, other) >= least - 1e-9 for other in sequences]
        assert library.near(query, every).tolist() == expected


def test_long_sequences_are_compared_too() -> None:
    """A protein of 1,200 residues is near to its mutant, an insertion included, and not to a stranger."""
    random = np.random.default_rng(0)
    one, stranger = ("".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 1200)) for _ in range(2))
    mutant = one[:300] + "W" * 20 + one[330:]
    assert Library([mutant, stranger, one], 0.95).near(one, np.arange(3)).tolist() == [True, False, True]


@settings(max_examples=60, deadline=None)
@given(families())
def test_identities_are_those_of_the_edit_distance(sequences) -> None:
    """Of any number of sequences at once, shorter or longer than the query."""
    for query in sequences:
        expected = [identity(query, other) for other in sequences]
        np.testing.assert_allclose(identities(query, sequences), expected, atol=1e-12)
    assert identities(sequences[0], []) == []
