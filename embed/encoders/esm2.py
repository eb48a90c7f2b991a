"""ESM-2: reads an antigen as `<cls> residues <eos>` (Lin et al. 2023)."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from embed.encoders.checkpoint import Checkpoint
from embed.encoders.encoder import Encoder
from embed.encoders.loading import Arithmetic, load_model, load_tokenizer
from embed.encoders.tokens import ESM2, Ids, lookup, prove
from embed.sequences import Antibody

_CLS = 0
_BOTH_ENDS = 2


@final
class Esm2(Encoder):
    """An ESM-2 protein language model without pooler and language-model head."""

    pad = ESM2.pad

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic) -> None:
        from transformers import EsmModel, EsmTokenizer

        self.device = torch.device(arithmetic.device)
        self.dim = int(str(checkpoint.config["hidden_size"]))
        self._table = ESM2.table()
        _prove_vocabulary(checkpoint, load_tokenizer(EsmTokenizer, checkpoint))
        # hub checkpoints have no pooler: with one, it would be random and crash under load_in_8bit
        self.model = load_model(EsmModel, checkpoint, arithmetic, add_pooling_layer=False)
        del self.model.contact_head  # never used

    def token_count(self, residues: int, chains: int) -> int:
        """Count residues, `<cls>` and `<eos>`."""
        return residues + _BOTH_ENDS

    def tokenise(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Turn residues `start` to `end` of an antigen into token ids.

        Returns:
            ids int64 `[L]`, and True on the tokens that the mean runs over, bool `[L]`.
        """
        assert isinstance(sequence, str)
        residues = lookup(self._table, sequence[start:end], ESM2)
        ids = np.pad(residues, 1, constant_values=(_CLS, ESM2.end))
        pooled = np.ones(len(ids), bool)
        pooled[[0, -1]] = False
        return ids, pooled


def _prove_vocabulary(checkpoint: Checkpoint, tokenizer: Callable[[str], Any]) -> None:
    ids = {letter: ESM2.first + offset for offset, letter in enumerate(ESM2.letters)}
    texts = [*ESM2.letters, ESM2.letters]
    expected = {text: [_CLS, *(ids[c] for c in text), ESM2.end] for text in texts}
    actual = {text: list(tokenizer(text).input_ids) for text in texts}
    prove(checkpoint.model, expected, actual)
