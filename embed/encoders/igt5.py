"""IgT5: reads an antibody as `heavy </s> light </s>`, or one chain as `heavy </s>` (Kenlay et al. 2024, model card)."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from embed.config import Pooling
from embed.encoders.checkpoint import Checkpoint
from embed.encoders.encoder import Encoder, Packed
from embed.encoders.loading import Arithmetic, load_model, load_tokenizer
from embed.encoders.tokens import PROT_T5, Ids, lookup, prove
from embed.sequences import Antibody


@final
class IgT5(Encoder):
    """The encoder half of a T5 protein language model with the ProtT5 vocabulary."""

    pad_id = PROT_T5.pad

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic, pooling: Pooling) -> None:
        from transformers import T5EncoderModel, T5Tokenizer

        self.device = torch.device(arithmetic.device)
        self.dim = int(str(checkpoint.config["d_model"]))
        self._pool_separator = pooling == "card"
        self._table = PROT_T5.table()
        _prove_vocabulary(checkpoint, load_tokenizer(T5Tokenizer, checkpoint))
        self.model: Any = load_model(T5EncoderModel, checkpoint, arithmetic)
        self._attention: Any = self.model.encoder.block[0].layer[0].SelfAttention
        self._bias_HE: torch.Tensor | None = None
        if arithmetic.packed:
            nothing = torch.zeros(1, device=self.device)  # all pairs of tokens of a row would not fit in memory
            self._attention.compute_bias = lambda *_, **__: nothing

    @property
    def layers(self) -> Any:  # noqa: ANN401
        """The blocks of the official model."""
        return self.model.encoder.block

    def packed_inputs(self, batch: Packed) -> dict[str, torch.Tensor]:
        """List the bias of scores by distance; the model's own, by pairs of tokens, would span the whole row."""
        longest = int(batch.runs_R2[:, 1].max())
        if self._bias_HE is None or self._bias_HE.shape[1] < 2 * longest - 1:
            self._bias_HE = self._bias_by_distance(longest)
        return {"bias_HE": self._bias_HE}

    def _bias_by_distance(self, longest: int) -> torch.Tensor:
        attention = self._attention
        bucket_E = attention._relative_position_bucket(
            torch.arange(1 - longest, longest, device=self.device),
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        bias_EH: torch.Tensor = attention.relative_attention_bias(bucket_E)
        return bias_EH.T.float().contiguous()

    def token_count(self, residues: int, chains: int) -> int:
        """Count residues and one `</s>` after each chain."""
        return residues + chains

    def tokenise(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Turn a whole antibody into token ids; antibodies are never cut, so `start` and `end` are its bounds.

        Returns:
            ids int64 `[L]`, and True on the tokens that the mean runs over, bool `[L]`.
        """
        assert not isinstance(sequence, str)
        chains = [chain for chain in sequence if chain is not None]
        stop = np.array([PROT_T5.end], np.int64)
        ids = np.concatenate([part for chain in chains for part in (lookup(self._table, chain, PROT_T5), stop)])
        pooled = ids != PROT_T5.end
        if self._pool_separator and len(chains) > 1:
            pooled[len(chains[0])] = True
        return ids, pooled


def _prove_vocabulary(checkpoint: Checkpoint, tokenizer: Callable[[str], Any]) -> None:
    spaced = " ".join
    chain, other = PROT_T5.letters, PROT_T5.letters[::-1]
    ids = {letter: PROT_T5.first + offset for offset, letter in enumerate(chain)}
    expected = {letter: [ids[letter], PROT_T5.end] for letter in chain}
    paired = f"{spaced(chain)} </s> {spaced(other)}"
    expected[paired] = [*(ids[c] for c in chain), PROT_T5.end, *(ids[c] for c in other), PROT_T5.end]
    actual = {text: list(tokenizer(text).input_ids) for text in expected}
    prove(checkpoint.model, expected, actual)
