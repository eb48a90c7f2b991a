"""Residues -> token ids by one table lookup, and the proof that the checkpoint's own tokenizer agrees."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.errors import EncoderError

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Token ids of one encoder family; a byte that is no residue maps to `unknown`."""

    letters: str
    """Residues in the order of their ids."""
    first: int
    """Id of the first residue."""
    pad: int
    end: int
    """Id after a sequence, and between two chains."""
    unknown: int

    def table(self) -> npt.NDArray[np.int64]:
        """Build the lookup table, int64 `[256]`."""
        table = np.full(256, self.unknown, np.int64)
        for offset, letter in enumerate(self.letters):
            table[ord(letter)] = self.first + offset
        return table


PROT_T5 = Vocabulary(letters="ALGVSREDTIPKFQNYMHWCXBOUZ", first=3, pad=0, end=1, unknown=2)
"""ProtT5 and IgT5 (Elnaggar et al. 2022; Kenlay et al. 2024)."""

ESM2 = Vocabulary(letters="LAGVSERTIDPKQNFYMHWCXBUZO", first=4, pad=1, end=2, unknown=3)
"""ESM-2 (Lin et al. 2023), `vocab.txt` of facebook/esm2_*."""


def lookup(table: npt.NDArray[np.int64], sequence: str, vocabulary: Vocabulary) -> Ids:
    """Turn a normalised sequence into token ids, int64 `[len(sequence)]`.

    Raises:
        EncoderError: A letter is not in the vocabulary, which normalisation should have refused.
    """
    ids = table[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)]
    if (ids == vocabulary.unknown).any():
        letter = sequence[int((ids == vocabulary.unknown).argmax())]
        raise EncoderError(
            f"Residue {letter!r} has no token; normalise the sequence with embed.sequences.normalise first."
        )
    return ids


def prove(name: str, expected: dict[str, list[int]], actual: dict[str, list[int]]) -> None:
    """Compare our ids with the checkpoint's tokenizer on every probe.

    Raises:
        EncoderError: They differ; vectors would be of other sequences than the user's.
    """
    for text, ids in expected.items():
        if actual[text] != ids:
            raise EncoderError(
                f"{name}: its tokenizer reads {text!r} as {actual[text]}, where this encoder family has {ids}; "
                "name a checkpoint with the published vocabulary."
            )
