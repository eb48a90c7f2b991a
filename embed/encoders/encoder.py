"""What every encoder does: token ids in, one vector a piece out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from embed.encoders.tokens import Ids
from embed.pooling import weighted_sum
from embed.sequences import Antibody

# B pieces in a batch, L tokens, D width

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """One padded batch on the host."""

    ids_BL: npt.NDArray[np.int64]
    """Token ids."""
    weight_BL: Weights
    """Share of each token in its sequence's vector; 0 on special tokens and padding."""
    mask_BL: npt.NDArray[np.int64] | None
    """1 on tokens, 0 on padding; None when nothing is padded, which frees attention of a mask."""


class Encoder(ABC):
    """A frozen protein language model with its tokenizer and pooling; each family fills it in once, for good."""

    pad: int
    dim: int
    model: torch.nn.Module
    device: torch.device

    @abstractmethod
    def token_count(self, residues: int, chains: int) -> int:
        """Count the tokens of a piece of so many residues in so many chains."""

    @abstractmethod
    def tokenise(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Turn residues `start` to `end` of a sequence into token ids.

        Returns:
            ids int64 `[L]`, and True on the tokens that the mean runs over, bool `[L]`.
        """

    def forward(self, batch: Batch) -> torch.Tensor:
        """Encode one batch.

        Returns:
            Weighted sums of hidden states, float32 `[B, D]`, on the encoder's device.
        """
        ids_BL, weight_BL = self._to_device(batch.ids_BL), self._to_device(batch.weight_BL)
        mask_BL = None if batch.mask_BL is None else self._to_device(batch.mask_BL)
        with torch.inference_mode():
            hidden_BLD = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
            return weighted_sum(hidden_BLD, weight_BL)

    def _to_device(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def collate(pieces: Sequence[tuple[Ids, Weights]], pad: int, width: int) -> Batch:
    """Lay pieces under each other, padded to `width` tokens.

    Args:
        pieces: ids int64 `[L]` and weights float32 `[L]` of each piece, none longer than `width`.
        pad: Id of the padding token.
        width: Tokens of each row.
    """
    ids_BL = np.full((len(pieces), width), pad, np.int64)
    weight_BL = np.zeros((len(pieces), width), np.float32)
    mask_BL = np.zeros((len(pieces), width), np.int64)
    for row, (ids, weights) in enumerate(pieces):
        ids_BL[row, : len(ids)] = ids
        weight_BL[row, : len(ids)] = weights
        mask_BL[row, : len(ids)] = 1
    return Batch(ids_BL, weight_BL, None if mask_BL.all() else mask_BL)
