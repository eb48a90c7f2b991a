"""The plain forms of what the product does better, put in its place for a measurement.

Each stands where the product's own part stood, in a process of its own; the product knows nothing of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from embed.config import EmbedConfig
from embed.encoders.checkpoint import Checkpoint
from embed.encoders.encoder import Encoder
from embed.encoders.loading import load_tokenizer
from embed.encoders.open import open_encoder
from embed.encoders.tokens import ESM2, PROT_T5, Ids
from embed.fingerprint import Source
from embed.sequences import Antibody
from train.checkpoint import Checkpointer, State

_TOKENISE = "tokenise"


@contextmanager
def standing_in(place: object, name: str, part: object) -> Iterator[None]:
    """Put a part in the place of another one for a while; there must be one."""
    before = getattr(place, name)
    setattr(place, name, part)
    try:
        yield
    finally:
        setattr(place, name, before)


class SynchronousCheckpointer(Checkpointer):
    """Saves while the training waits."""

    def save(self, state: State) -> None:
        """Return when the state is on the disk."""
        super().save(state)
        self.wait()


class OfficialTokens:
    """Tokenises one sequence after the other by the checkpoint's own tokenizer, as examples on the hub do."""

    def __init__(self, family: str, checkpoint: Checkpoint) -> None:
        """Load the tokenizer of `igt5` or `esm2`."""
        from transformers import EsmTokenizer, T5Tokenizer

        self._tokenizer: Callable[[str], Any] = load_tokenizer(
            T5Tokenizer if family == "igt5" else EsmTokenizer, checkpoint
        )

    def __call__(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Do what `Encoder.tokenise` does."""
        ids: Ids = np.array(self._tokenizer(text_of(sequence, start, end)).input_ids, np.int64)
        if not isinstance(sequence, str):
            return ids, (ids != PROT_T5.end)[None]
        return ids, ((ids >= ESM2.first) & (ids < ESM2.first + len(ESM2.letters)))[None]


def open_tokenising(source: Source, config: EmbedConfig, *, official: bool) -> Encoder:
    """Open an encoder that tokenises by its table, or by the official tokenizer."""
    encoder = open_encoder(source, config)
    if official:
        setattr(encoder, _TOKENISE, OfficialTokens(source.family, source.checkpoint))
    return encoder


def text_of(sequence: Antibody | str, start: int = 0, end: int | None = None) -> str:
    """Write a sequence as its family's tokenizer reads it: antibodies spaced, a `</s>` between their chains."""
    if isinstance(sequence, str):
        return sequence[start:end]
    return " </s> ".join(" ".join(chain) for chain in sequence if chain is not None)


@contextmanager
def pageable_memory() -> Iterator[None]:
    """Let nothing in the process pin memory."""
    empty = torch.empty

    def pageable(*arguments: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:  # noqa: ANN401
        return empty(*arguments, **options)

    with (
        standing_in(torch, "empty", pageable),
        standing_in(torch.Tensor, "pin_memory", lambda tensor: tensor),
    ):
        yield
