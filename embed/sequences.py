"""The residue alphabet: what a sequence may hold, how a cell becomes one, and the key that names it.

Array suffixes: N sequences, 16 bytes of a key.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.errors import EmbedError

RESIDUES = "ACDEFGHIKLMNPQRSTVWYX"
"""The 20 standard residues and X, the unknown one; nothing else reaches an encoder."""

KEY_BYTES = 16

Antibody = tuple[str, str | None]
"""Heavy and light chain; None where there is no light chain."""

NORMAL = "^[ACGTN]*[DEFHIKLMPQRSVWY][ACDEFGHIKLMNPQRSTVWY]*$"
"""Regular expression (RE2) of cells that surely are their own normal form: standard residues, and not only those that
are letters of DNA too."""

MOST_UNKNOWN = 0.1
"""Largest share of X in a sequence that still says something."""

SHORTEST, LONGEST = 5, 10_000
"""Residues of a sequence: fewer are a typing mistake or a name, more would hold up an encoder for all others."""

_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "None", "null", "-"})
_WIDTHLESS = re.compile("[\u200b\u200c\u200d\u2060\ufeff]+")
_NO_LETTER = re.compile("[^A-IK-Za-ik-z]")
_RARE = str.maketrans("BZUO", "XXXX")
_LONGEST_ACGTN_PEPTIDE = 60
_GAPS = "-."
_SEPARATORS = ":|/,;_+"


class BadSequence(EmbedError, ValueError):  # noqa: N818 (the reason of a rejected row, not a failure)
    """A cell holds no sequence of residues; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """A sequence over `RESIDUES`, and what had to change in the cell to get it."""

    sequence: str
    changes: tuple[str, ...]


def is_missing(cell: str) -> bool:
    """Tell whether a cell says "no value": blank, or one of the words that tables use for it."""
    return _without_blanks(cell) in _MISSING


def normalise(cell: str) -> Normalised:
    """Turn the text of a cell into a sequence, changing only what cannot change its meaning.

    Raises:
        BadSequence: No residues; the reason names the character and its position, blanks not counted.
    """
    changes = []
    text = _without_blanks(cell)
    if text != cell:
        changes.append("whitespace removed")
    if text.endswith("*"):
        text = text[:-1]
        changes.append("terminal * removed")
    _refuse_other_than_letters(text)
    if not text.isupper():
        if not text.islower():
            raise BadSequence("mixed upper and lower case, as damaged exports have it; write it in one case.")
        text = text.upper()
        changes.append("upper-cased")
    standard = text.translate(_RARE) if text.strip(RESIDUES) else text
    if standard != text:
        changes.append("B/Z/U/O -> X")
    _refuse_noise(standard)
    return Normalised(sequence=standard, changes=tuple(changes))


def _without_blanks(cell: str) -> str:
    text = "".join(cell.split())
    return text if text.isascii() else _WIDTHLESS.sub("", text)


def _refuse_other_than_letters(text: str) -> None:
    if not text:
        raise BadSequence("no residues; give the sequence.")
    if text.startswith(">"):
        raise BadSequence("a FASTA header ('>'); keep the residues alone.")
    stray = _NO_LETTER.search(text)
    if stray is None:
        return
    character, place = stray.group(), stray.start() + 1
    if character in _GAPS:
        raise BadSequence(f"{character!r} at position {place} is an alignment gap; remove the gaps.")
    if character == "*":
        raise BadSequence(f"'*' at position {place} is a stop inside the sequence; cut there or correct it.")
    if character in _SEPARATORS:
        raise BadSequence(
            f"{character!r} at position {place} separates chains, and a cell holds one; keep the one that binds, "
            "or give each a row."
        )
    name = "" if character.isascii() else f" ({unicodedata.name(character, 'unnamed character')})"
    raise BadSequence(f"{character!a}{name} at position {place} is no residue; keep the residues alone.")


def _refuse_noise(sequence: str) -> None:
    unknown = sequence.count("X")
    if unknown > MOST_UNKNOWN * len(sequence):
        raise BadSequence(
            f"{unknown} of {len(sequence)} residues are unknown (X, B, Z, U or O), and at most "
            f"{MOST_UNKNOWN:.0%} may be; is it a protein sequence?"
        )
    if len(sequence) > _LONGEST_ACGTN_PEPTIDE and not sequence.strip("ACGTN"):
        raise BadSequence(f"{len(sequence)} letters, all A, C, G, T or N: this is DNA; translate it to protein.")


def antibody_key(heavy: str, light: str | None) -> bytes:
    """Name an antibody's encoder input: 16 bytes of BLAKE2b over its length-prefixed chains.

    Without a light chain there is one part instead of two, so None differs from "".
    """
    return _key(b"antibody", (heavy,) if light is None else (heavy, light))


def antigen_key(antigen: str) -> bytes:
    """Name an antigen's encoder input: 16 bytes of BLAKE2b over its length-prefixed sequence."""
    return _key(b"antigen", (antigen,))


def antibody_keys(antibodies: Sequence[tuple[str, str | None]]) -> npt.NDArray[np.uint8]:
    """Name many antibodies; uint8 [N, 16]."""
    return _rows((antibody_key(heavy, light) for heavy, light in antibodies), len(antibodies))


def antigen_keys(antigens: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Name many antigens; uint8 [N, 16]."""
    return _rows((antigen_key(antigen) for antigen in antigens), len(antigens))


def _key(role: bytes, parts: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY_BYTES, person=role)
    for part in parts:
        text = part.encode("ascii")
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()


def _rows(keys: Iterable[bytes], count: int) -> npt.NDArray[np.uint8]:
    """Gather keys without holding them as objects."""
    return np.fromiter(keys, f"V{KEY_BYTES}", count).view(np.uint8).reshape(-1, KEY_BYTES)
