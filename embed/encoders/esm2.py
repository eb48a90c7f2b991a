"""ESM-2: reads an antigen as `<cls> residues <eos>` (Lin et al. 2023)."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from embed.encoders.checkpoint import Checkpoint
from embed.encoders.encoder import Encoder, Packed
from embed.encoders.loading import Arithmetic, load_model, load_tokenizer
from embed.encoders.tokens import ESM2, Ids, lookup, prove
from embed.sequences import Antibody

_CLS = 0
_BOTH_ENDS = 2
_POSITIONS = 2048


@final
class Esm2(Encoder):
    """An ESM-2 protein language model without pooler and language-model head."""

    pad_id = ESM2.pad

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic) -> None:
        from transformers import EsmModel, EsmTokenizer

        self.device = torch.device(arithmetic.device)
        self.dim = int(str(checkpoint.config["hidden_size"]))
        self._table = ESM2.table()
        _prove_vocabulary(checkpoint, load_tokenizer(EsmTokenizer, checkpoint))
        # hub checkpoints have no pooler: with one, it would be random and crash under load_in_8bit
        self.model: Any = load_model(EsmModel, checkpoint, arithmetic, add_pooling_layer=False)
        del self.model.contact_head  # never used
        self.model.rotary_embeddings = _RotaryTable(self.model.rotary_embeddings)

    def packed_inputs(self, batch: Packed) -> dict[str, torch.Tensor]:
        """List the position of each token in its own piece, which turns its queries and keys."""
        return {"position_ids": self._to_device(batch.position_1T)}

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


class _RotaryTable(nn.Module):
    """The official rotary embedding, computed once for each position instead of once for each token."""

    def __init__(self, rotary: Any) -> None:  # noqa: ANN401
        super().__init__()
        self._rotary = rotary
        self._table: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        longest = _POSITIONS if self._table is None else len(self._table[0])
        while longest < x.shape[1]:
            longest *= 2
        if self._table is None or longest > len(self._table[0]) or self._table[0].device != x.device:
            cos_1PD, sin_1PD = self._rotary(x, torch.arange(longest, device=x.device).unsqueeze(0))
            self._table = cos_1PD[0], sin_1PD[0]
        cos_PD, sin_PD = self._table
        return cos_PD[position_ids], sin_PD[position_ids]


def _prove_vocabulary(checkpoint: Checkpoint, tokenizer: Callable[[str], Any]) -> None:
    ids = {letter: ESM2.first + offset for offset, letter in enumerate(ESM2.letters)}
    texts = [*ESM2.letters, ESM2.letters]
    expected = {text: [_CLS, *(ids[c] for c in text), ESM2.end] for text in texts}
    actual = {text: list(tokenizer(text).input_ids) for text in texts}
    prove(checkpoint.model, expected, actual)
