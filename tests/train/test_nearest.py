"""The nearest sequence that the index finds, against edit distances to all."""

import numpy as np
import pytest

from train import nearest as module
from train.identity import identities
from train.nearest import Nearest

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


def drawn(random, length: int) -> str:
    return "".join(random.choice(LETTERS, length))


def mutant(random, sequence: str, changes: int) -> str:
    """Change, insert or remove so many residues."""
    letters = list(sequence)
    for _ in range(changes):
        at, kind = int(random.integers(len(letters))), int(random.integers(4))
        letters[at : at + (kind != 1)] = [str(random.choice(LETTERS))] * (kind != 2)
    return "".join(letters)


@pytest.mark.parametrize("length", [10, 25, 120, 400])
def test_whatever_is_ninety_percent_identical_is_found(length) -> None:
    """Few holders of each word: then the run of five that both share leads there, indels and single letters or not."""
    random = np.random.default_rng(length)
    known = [drawn(random, length + int(random.integers(3))) for _ in range(60)]
    index = Nearest(known)
    for sequence in known:
        query = mutant(random, sequence, int(random.integers(length // 10 + 1)))
        best = max(identities(query, known))
        if best >= 0.9:
            assert index.identity(query, enough=1.1) == pytest.approx(best)
            assert index.identity(query, enough=0.9) >= 0.9


def test_far_relatives_are_found_and_strangers_are_not() -> None:
    """Half of the residues changed, the relative is found; a sequence of other letters shares no word at all."""
    random = np.random.default_rng(0)
    known = [drawn(random, 300) for _ in range(200)]
    index = Nearest(known)
    queries = [mutant(random, sequence, 130) for sequence in known[:50]]
    found = [index.identity(query, enough=0.9) for query in queries]
    best = [max(identities(query, known)) for query in queries]
    assert np.mean(np.isclose(found, best)) >= 0.9
    assert (np.array(found) <= np.array(best) + 1e-12).all()
    assert index.identity("X" * 50, enough=0.9) == 0.0


def test_a_framework_that_all_share_hides_no_family() -> None:
    """3,000 chains of one framework in 150 families: a new member's own family is found, not just any chain."""
    random = np.random.default_rng(1)
    frame, families = drawn(random, 90), [drawn(random, 30) for _ in range(150)]
    known = [mutant(random, frame, 3) + mutant(random, family, 1) for family in families for _ in range(20)]
    index = Nearest([known[at] for at in random.permutation(len(known))])
    queries = [mutant(random, frame, 3) + mutant(random, family, 1) for family in families[:40]]
    best = np.array([max(identities(query, known)) for query in queries])
    found = np.array([index.identity(query, enough=1.1) for query in queries])
    strangers = np.array([max(identities(query, known[-20:])) for query in queries])
    assert (best - found).max() < 0.05
    assert (found > strangers + 0.05).all()


def test_how_the_sequences_are_cut_changes_no_answer(monkeypatch) -> None:
    """Lists made in one stretch or in many hold the same."""
    random = np.random.default_rng(2)
    frame = drawn(random, 60)
    known = [mutant(random, frame, 5) + drawn(random, int(random.integers(5, 60))) for _ in range(300)]
    whole = Nearest(known)
    for at_once in (1, 1000):
        monkeypatch.setattr(module, "_AT_ONCE", at_once)
        cut = Nearest(known)
        np.testing.assert_array_equal(cut._start, whole._start)
        np.testing.assert_array_equal(cut._holder_P, whole._holder_P)


def test_of_a_word_the_first_holders_are_listed_once_each() -> None:
    """Against a dict of words."""
    random = np.random.default_rng(3)
    known = ["".join(random.choice(list("ACDX"), int(random.integers(5, 40)))) for _ in range(200)]
    index, holders = Nearest(known), {}
    for number, sequence in enumerate(known):
        for word in dict.fromkeys(sequence[at : at + 5] for at in range(len(sequence) - 4)):
            holders.setdefault(word, []).append(number)
    assert max(map(len, holders.values())) > 16
    for word, expected in holders.items():
        (code,) = module._codes(word).tolist()
        assert index._holder_P[index._start[code] : index._start[code + 1]].tolist() == expected[:16]
    assert len(index._holder_P) == sum(len(each[:16]) for each in holders.values())
