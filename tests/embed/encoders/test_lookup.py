"""Vectors without a model: the matrix, the layout, and that no two sequences share a vector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from embed.encoders.blosum62 import RESIDUES, ROWS
from embed.encoders.lookup import FRONT, SLOTS, Lookup
from embed.errors import EncoderError
from embed.texts import Texts

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
ROBINSON = dict(
    A=0.07805, R=0.05129, N=0.04487, D=0.05364, C=0.01925, Q=0.04264, E=0.06295, G=0.07377, H=0.02199, I=0.05142,
    L=0.09019, K=0.05744, M=0.02243, F=0.03856, P=0.05203, S=0.07120, T=0.05841, W=0.01330, Y=0.03216, V=0.06441,
)  # fmt: skip
"""Frequencies of residues in proteins (Robinson and Robinson 1991), which BLAST computes its statistics with."""

chains = st.text(LETTERS + "X", min_size=1, max_size=SLOTS)
roles = st.sampled_from(["antibody", "antigen"])
names = st.sampled_from(["onehot", "blosum62"])


def row_of(name, residue):
    """The 20 numbers of a residue, told letter by letter in the order of the matrix."""
    if name == "onehot":
        return [1 / 20 if residue == "X" else float(residue == other) for other in RESIDUES[:20]]
    return [float(ROWS[RESIDUES.index(residue), column]) for column in range(20)]


def laid_out(name, chain, front):
    """The slots of a chain, one residue after the other."""
    slots = [[0.0] * 20 for _ in range(SLOTS)]
    if len(chain) <= SLOTS:
        for place, residue in enumerate(chain):
            slots[place if place < front else SLOTS - len(chain) + place] = row_of(name, residue)
        return np.array(slots)
    members = [[] for _ in range(SLOTS)]
    for place, residue in enumerate(chain):
        members[place * SLOTS // len(chain)].append(row_of(name, residue))
    return np.array([np.mean(of, axis=0) for of in members])


def test_blosum62_is_the_published_matrix():
    """Symmetric; known entries; and the scale and entropy that BLAST publishes for it, computed from its entries."""
    entry = {(a, b): ROWS[i, j] for i, a in enumerate(RESIDUES) for j, b in enumerate(RESIDUES[:20])}
    assert all(entry[a, b] == entry[b, a] for a in LETTERS for b in LETTERS)
    known = {"WW": 11, "CC": 9, "HH": 8, "AA": 4, "WC": -2, "IV": 3, "DE": 2, "KR": 2, "FY": 3, "GI": -4, "PF": -4}
    assert {pair: entry[tuple(pair)] for pair in known} == known
    assert [entry["X", letter] for letter in "ASTCPW"] == [0, 0, 0, -2, -2, -2]
    assert {entry["X", letter] for letter in set(LETTERS) - set("ASTCPW")} == {-1}
    share_R = np.array([ROBINSON[letter] for letter in RESIDUES[:20]])
    score_RR, chance_RR = ROWS[:20].astype(np.float64), np.outer(share_R, share_R)
    scale = brentq(lambda by: (chance_RR * np.exp(by * score_RR)).sum() - 1, 0.1, 1)
    assert scale == pytest.approx(0.3176, abs=5e-5), "lambda of ungapped BLOSUM62 (Altschul et al. 1997)"
    entropy = scale * (chance_RR * np.exp(scale * score_RR) * score_RR).sum()
    assert entropy == pytest.approx(0.4012, abs=5e-5), "nats a pair"


@pytest.mark.parametrize("name", ["onehot", "blosum62"])
@pytest.mark.parametrize("length", [1, 40, 92, 93, 101, 120, 128, 129, 255, 256, 257, 300, 512, 1000])
def test_vectors_are_those_told_residue_by_residue(name, length):
    """Of each chain its slots, of no light chain zeros; whatever the length, for both roles."""
    random = np.random.default_rng(length)
    heavy, light = ("".join(random.choice(list(LETTERS + "X"), size)) for size in (length, max(1, length - 7)))
    expected = [laid_out(name, heavy, FRONT["heavy"]), laid_out(name, light, FRONT["light"])]
    found = Lookup(name, "antibody").encode([(heavy, light), (heavy, None)])
    assert found.dtype == np.float32
    assert found.shape == (2, Lookup(name, "antibody").dim) == (2, 2 * SLOTS * 20)
    np.testing.assert_allclose(found[0], np.concatenate(expected).ravel(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[1], np.where(np.arange(found.shape[1]) < SLOTS * 20, found[0], 0))
    antigen = Lookup(name, "antigen").encode([heavy])
    np.testing.assert_allclose(antigen[0], laid_out(name, heavy, FRONT["antigen"]).ravel(), rtol=1e-6, atol=1e-6)


@given(names, roles, st.lists(chains, min_size=2, max_size=6, unique=True))
@settings(deadline=None, max_examples=60)
def test_no_two_sequences_of_up_to_256_residues_share_a_vector(name, role, some):
    """Shorter, longer, with unknown residues; and none is all zero."""
    sequences = some if role == "antigen" else [(chain, some[0]) for chain in some] + [(some[0], None)]
    found = Lookup(name, role).encode(sequences)
    assert len(np.unique(found, axis=0)) == len(sequences)
    assert found.any(axis=1).all()


@given(roles, st.text(LETTERS, min_size=5, max_size=SLOTS), st.data())
@settings(deadline=None, max_examples=60)
def test_each_point_mutation_changes_two_numbers(role, chain, data):
    """One residue less at its place, another more: nothing else moves, so positions are compared with themselves."""
    places = data.draw(st.sets(st.integers(0, len(chain) - 1), max_size=4))
    residues = list(chain)
    for place in places:
        residues[place] = data.draw(st.sampled_from([letter for letter in LETTERS if letter != chain[place]]))
    pair = [chain, "".join(residues)]
    vector_2D = Lookup("onehot", role).encode(pair if role == "antigen" else [(each, chain) for each in pair])
    assert np.count_nonzero(vector_2D[0] != vector_2D[1]) == 2 * len(places)


def test_frameworks_of_unlike_cdr3_lengths_stay_together():
    """What precedes CDR3 and what follows it lies in the same slots, whatever is between them."""
    framework, end = "EVQLVESGGG" * 9 + "AVYYCA", "WGQGTLVTVSS"
    short, long = Lookup("onehot", "antibody").encode(
        [(f"{framework}RDGFDY{end}", None), (f"{framework}RDGYYGSSGFDY{end}", None)]
    )
    differing = np.flatnonzero((short != long).reshape(-1, 20).any(axis=1))
    assert set(differing) <= set(range(len(framework), SLOTS - len(end)))


def test_a_vector_is_its_sequences_alone():
    """Alone, among others, in any order: the same bits."""
    random = np.random.default_rng(0)
    some = ["".join(random.choice(list(LETTERS), size)) for size in (30, 256, 400, 120)]
    for lookup in (Lookup("onehot", "antigen"), Lookup("blosum62", "antigen")):
        together = lookup.encode(Texts.of(some))
        for place, sequence in enumerate(some):
            np.testing.assert_array_equal(together[place], lookup.encode([sequence])[0])
        np.testing.assert_array_equal(lookup.encode(some[::-1]), together[::-1])


def test_no_mean_of_rows_is_zero():
    """Every row of the matrix sums to less than zero, so no mean of some, and no vector, can be all zero."""
    assert (ROWS.sum(axis=1) < 0).all()


def test_what_is_no_residue_is_refused():
    """Normalisation should have refused it, and silence would make a vector of another sequence."""
    with pytest.raises(EncoderError, match="'B' has no token"):
        Lookup("onehot", "antigen").encode(["ACB"])
