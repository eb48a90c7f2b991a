"""ESM-2: reads an antigen as `<cls> residues <eos>` (Lin et al. 2023)."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from embed.encoders.checkpoint import Checkpoint
from embed.encoders.encoder import Encoder, Packed
from embed.encoders.loading import Arithmetic, load_model, load_tokenizer
from embed.encoders.tokens import ESM2, Ids, lookup, prove
from embed.sequences import Antibody

_CLS = 0
_BOTH_ENDS = 2
_PLACES = 1024
_TURNED_LATER = "turned by our attention"


@final
class Esm2(Encoder):
    """An ESM-2 protein language model without pooler and language-model head."""

    pad_id = ESM2.pad

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic) -> None:
        from transformers import EsmModel, EsmTokenizer

        self.device = torch.device(arithmetic.device)
        self.hidden = int(str(checkpoint.config["hidden_size"]))
        self._table = ESM2.table()
        _prove_vocabulary(checkpoint, load_tokenizer(EsmTokenizer, checkpoint))
        # hub checkpoints have no pooler: with one, it would be random and crash under load_in_8bit
        self.model: Any = load_model(EsmModel, checkpoint, arithmetic, add_pooling_layer=False)
        del self.model.contact_head  # never used
        self._turn_2PD: torch.Tensor | None = None
        if arithmetic.packed:  # our attention turns queries and keys by their place in their own sequence
            self.model.position_embedding_type = _TURNED_LATER
            for layer in self.model.encoder.layer:
                layer.attention.self.position_embedding_type = _TURNED_LATER

    @property
    def layers(self) -> Any:  # noqa: ANN401
        """The layers of the official model."""
        return self.model.encoder.layer

    def packed_inputs(self, batch: Packed) -> dict[str, torch.Tensor]:
        """List the official rotary embedding by place in a sequence, computed once."""
        longest = int(batch.runs_R2[:, 1].max())
        if self._turn_2PD is None or self._turn_2PD.shape[1] < longest:
            like = torch.empty(0, dtype=self.model.dtype, device=self.device)
            places_1P = torch.arange(max(longest, _PLACES), device=self.device).unsqueeze(0)
            self._turn_2PD = torch.cat(self.model.rotary_embeddings(like, places_1P))
        return {"turn_2PD": self._turn_2PD}

    def token_count(self, residues: int, chains: int) -> int:
        """Count residues, `<cls>` and `<eos>`."""
        return residues + _BOTH_ENDS

    def tokenise(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Turn residues `start` to `end` of an antigen into token ids.

        Returns:
            ids int64 `[L]`, and True on the tokens that the mean runs over, bool `[1, L]`.
        """
        assert isinstance(sequence, str)
        residues = lookup(self._table, sequence[start:end], ESM2)
        ids = np.pad(residues, 1, constant_values=(_CLS, ESM2.end))
        pooled_1L = np.ones((1, len(ids)), bool)
        pooled_1L[:, [0, -1]] = False
        return ids, pooled_1L


def _prove_vocabulary(checkpoint: Checkpoint, tokenizer: Callable[[str], Any]) -> None:
    ids = {letter: ESM2.first + offset for offset, letter in enumerate(ESM2.letters)}
    texts = [*ESM2.letters, ESM2.letters]
    expected = {text: [_CLS, *(ids[c] for c in text), ESM2.end] for text in texts}
    actual = {text: list(tokenizer(text).input_ids) for text in texts}
    prove(checkpoint.model, expected, actual)
