"""Sequences: what is normalised, what is refused and with which words, and keys."""

import hashlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.sequences import (
    NORMAL,
    RESIDUES,
    BadSequence,
    Normalised,
    antibody_key,
    antibody_keys,
    antigen_key,
    antigen_keys,
    is_missing,
    normalise,
)

HEAVY = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIY"
protein = st.text(alphabet=RESIDUES[:-1], min_size=1, max_size=59)


@pytest.mark.parametrize(
    ("cell", "sequence", "changes"),
    [
        (HEAVY, HEAVY, ()),
        (HEAVY.lower(), HEAVY, ("upper-cased",)),
        (f"  {HEAVY}\r\n", HEAVY, ("whitespace removed",)),
        (f"\ufeff{HEAVY}\u00a0\u200b", HEAVY, ("whitespace removed",)),
        (" ".join(HEAVY), HEAVY, ("whitespace removed",)),
        (HEAVY[:30] + "\n" + HEAVY[30:], HEAVY, ("whitespace removed",)),
        (HEAVY + "*", HEAVY, ("terminal * removed",)),
        (HEAVY + "BZ", HEAVY + "XX", ("B/Z/U/O -> X",)),
        (HEAVY + "UO", HEAVY + "XX", ("B/Z/U/O -> X",)),
        (HEAVY + "X", HEAVY + "X", ()),
        (
            f" {HEAVY.lower()}b*",
            HEAVY + "X",
            ("whitespace removed", "terminal * removed", "upper-cased", "B/Z/U/O -> X"),
        ),
        ("A" * 9 + "X", "A" * 9 + "X", ()),
        ("ACGT" * 15, "ACGT" * 15, ()),
    ],
)
def test_harmless_differences_are_normalised_and_named(cell, sequence, changes):
    """Case, blanks, one terminal stop and the rare letters change nothing else, and each is reported."""
    normal = normalise(cell)
    assert (normal.sequence, normal.changes) == (sequence, changes)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "no residues; give the sequence."),
        (" *", "no residues; give the sequence."),
        ("EVQnanLVES", "mixed upper and lower case, as damaged exports have it; write it in one case."),
        ("EVQ-LVES", "'-' at position 4 is an alignment gap; remove the gaps."),
        ("E V Q . L", "'.' at position 4 is an alignment gap; remove the gaps."),
        ("EVQ*LVES", "'*' at position 4 is a stop inside the sequence; cut there or correct it."),
        ("EVQLVES**", "'*' at position 8 is a stop inside the sequence; cut there or correct it."),
        ("EVJLVES", "'J' at position 3 is no residue; keep the residues alone."),
        ("EVQ7LVES", "'7' at position 4 is no residue; keep the residues alone."),
        (
            "EV\u0410LVES",
            "'\\u0410' (CYRILLIC CAPITAL LETTER A) at position 3 is no residue; keep the residues alone.",
        ),
        (
            "\uff25VQLVES",
            "'\\uff25' (FULLWIDTH LATIN CAPITAL LETTER E) at position 1 is no residue; keep the residues alone.",
        ),
        (
            "EV\u0131LVES",
            "'\\u0131' (LATIN SMALL LETTER DOTLESS I) at position 3 is no residue; keep the residues alone.",
        ),
        (">ab1\nEVQLVES", "a FASTA header ('>'); keep the residues alone."),
        ('"EVQLVES"', "'\"' at position 1 is no residue; keep the residues alone."),
        ("EVQ(pE)LVES", "'(' at position 4 is no residue; keep the residues alone."),
        ("EVQ[ac]LVES", "'[' at position 4 is no residue; keep the residues alone."),
        ("EVQ<mask>LVES", "'<' at position 4 is no residue; keep the residues alone."),
        ("EVQ</s>LVES", "'<' at position 4 is no residue; keep the residues alone."),
        ("EVQ\x1b[31mLVES", "'\\x1b' at position 4 is no residue; keep the residues alone."),
        (
            "AAAAAAAAXX",
            "2 of 10 residues are unknown (X, B, Z, U or O), and at most 10% may be; is it a protein sequence?",
        ),
        (
            "AAAAAAAABX",
            "2 of 10 residues are unknown (X, B, Z, U or O), and at most 10% may be; is it a protein sequence?",
        ),
        ("ACGT" * 15 + "N", "61 letters, all A, C, G, T or N: this is DNA; translate it to protein."),
        ("acgt" * 15 + "n", "61 letters, all A, C, G, T or N: this is DNA; translate it to protein."),
    ],
)
def test_what_is_no_sequence_is_refused_with_its_place(cell, reason):
    """The reason names the character, where it is, and what to do."""
    with pytest.raises(BadSequence, match=f"^{re.escape(reason)}$"):
        normalise(cell)


@pytest.mark.parametrize("cell", ["", " ", "\u200b", "NA", "N/A", "NaN", "nan", "None", "null", "-", " NA "])
def test_words_for_no_value_are_missing(cell):
    """What exports write for an empty cell counts as empty."""
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["NAN", "A", "NANA", "--", "0"])
def test_sequences_are_not_missing(cell):
    """Asn-Ala-Asn is a sequence; only the spellings that exports write are missing."""
    assert not is_missing(cell)


@given(st.text(alphabet=RESIDUES + "bzuoBZUOacdef \n*\u00a0-J", max_size=80))
@settings(deadline=None, max_examples=300)
def test_normalising_twice_changes_nothing(cell):
    """A normalised sequence is over RESIDUES and is its own normal form."""
    try:
        normal = normalise(cell)
    except BadSequence:
        return
    assert set(normal.sequence) <= set(RESIDUES)
    again = normalise(normal.sequence)
    assert (again.sequence, again.changes) == (normal.sequence, ())


@pytest.mark.parametrize(
    ("cell", "usual"),
    [
        (HEAVY, True),
        ("ACGTV", True),
        ("", False),
        ("NA", False),
        ("NAN", False),
        ("ACGTN" * 13, False),
        (HEAVY + "X", False),
        (HEAVY + "B", False),
        (HEAVY + "J", False),
        (HEAVY + "*", False),
        (HEAVY + "\n", False),
        (" " + HEAVY, False),
        (HEAVY + "\u00c9", False),
        (HEAVY.lower(), False),
        (HEAVY + "\0", False),
    ],
)
def test_usual_cells(cell, usual):
    """The pattern knows only what needs no look."""
    assert pc.match_substring_regex(pa.array([cell]), NORMAL).to_pylist() == [usual]


@given(st.text(alphabet="ACGTNNAEVX- a", max_size=12) | protein | protein.map(lambda text: text + "ACGTN" * 20))
@settings(deadline=None, max_examples=300)
def test_usual_cells_are_normal(cell):
    """What the pattern lets through is a sequence that normalising leaves alone."""
    if pc.match_substring_regex(pa.array([cell]), NORMAL)[0].as_py():
        assert not is_missing(cell)
        assert normalise(cell) == Normalised(sequence=cell, changes=())


@given(protein, st.integers(0, 58), st.sampled_from(["", " ", "\n", "\u00a0"]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_blanks_case_and_stop_never_change_the_sequence(sequence, cut, blank, lower, stop):
    """However a protein is written, the same sequence comes out."""
    cell = sequence[:cut] + blank + sequence[cut:] + "*" * stop
    assert normalise(cell.lower() if lower else cell).sequence == sequence


parts = st.tuples(st.text(alphabet="AC", max_size=4), st.none() | st.text(alphabet="AC", max_size=4))


@given(parts, parts)
@settings(deadline=None, max_examples=500)
def test_distinct_antibodies_have_distinct_keys(one, other):
    """Chains that merely join to the same letters, or lack the light chain, have keys of their own."""
    assert (antibody_key(*one) == antibody_key(*other)) == (one == other)


def test_moving_a_residue_between_chains_changes_the_key():
    """("AB", "C") is not ("A", "BC"), None is not "", and an antigen is not a nanobody."""
    keys = {
        antibody_key("AC", "D"),
        antibody_key("A", "CD"),
        antibody_key("ACD", None),
        antibody_key("ACD", ""),
        antigen_key("ACD"),
    }
    assert len(keys) == 5


def test_keys_are_blake2b_of_length_prefixed_parts():
    """The definition that FORMAT.md can state: 8 little-endian bytes of length before each part, role in `person`."""
    body = b"\x02\0\0\0\0\0\0\0AC\x01\0\0\0\0\0\0\0D"
    assert antibody_key("AC", "D") == hashlib.blake2b(body, digest_size=16, person=b"antibody").digest()
    assert antigen_key("AC") == hashlib.blake2b(body[:10], digest_size=16, person=b"antigen").digest()


@pytest.mark.parametrize(
    ("key", "hexadecimal"),
    [
        (antibody_key("EVQLVES", "DIQMTQ"), "a276e3705c73b6dad121c77291a433a1"),
        (antibody_key("EVQLVES", None), "e7c369c13da3675ba8f6fd98d5016e8e"),
        (antigen_key("EVQLVES"), "05895ea6fc6d1960958a2415026f859a"),
    ],
)
def test_keys_never_change(key, hexadecimal):
    """Stores on disk hold these keys; FORMAT.md prints them."""
    assert key.hex() == hexadecimal


def test_many_keys_equal_single_keys():
    """Batches give the same bytes as one at a time; no sequences give no rows."""
    antibodies = [("ACD", "EF"), ("ACD", None)]
    assert [bytes(row) for row in antibody_keys(antibodies)] == [antibody_key(*chains) for chains in antibodies]
    assert [bytes(row) for row in antigen_keys(["AC", "D"])] == [antigen_key("AC"), antigen_key("D")]
    assert antibody_keys([]).shape == (0, 16)
    assert antigen_keys(["A"]).dtype == np.uint8
