"""What every encoder does: token ids in, the vectors of each piece out."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from embed.batching import Room
from embed.encoders.cache import last_level_cache
from embed.encoders.compilation import compile_layers, compile_pays
from embed.encoders.tokens import Ids
from embed.pooling import packed_sum, weighted_sum
from embed.sequences import Antibody

# B pieces in a batch, L tokens of each, T tokens in a row, R runs of equally long pieces, V vectors of a sequence,
# D width of all of them side by side

Weights = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Padded:
    """Pieces under each other, padded to one width."""

    ids_BL: Ints
    """Token ids."""
    weight_BVL: Weights
    """Share of each token in its sequence's vectors; 0 on special tokens and padding."""
    mask_BL: Ints | None
    """1 on tokens, 0 on padding; None when nothing is padded, which frees attention of a mask."""
    filled_BV: Flags
    """False where a vector has no token, as that of a chain that is not there."""

    @property
    def size(self) -> int:
        """Tokens that the encoder computes, padding included."""
        return self.ids_BL.size


@dataclass(frozen=True, slots=True)
class Packed:
    """Pieces end to end in one row."""

    ids_1T: Ints
    weight_VT: Weights
    """Share of each token in its sequence's vectors; 0 on special tokens and on the filler at the end."""
    runs_R2: Ints
    """Pieces in each run of equally long ones, and tokens of each; a filler is the last."""
    filled_BV: Flags
    """As in `Padded`; of the pieces without the filler."""

    @property
    def size(self) -> int:
        """Tokens that the encoder computes, the filler included."""
        return self.ids_1T.size


Batch = Padded | Packed


class Encoder(ABC):
    """A frozen protein language model with its tokenizer and pooling; each family fills it in once, for good."""

    pad_id: int
    hidden: int
    """Width of a token's state."""
    vectors = 1
    """That a sequence's stored vector is made of, side by side."""
    model: Any
    device: torch.device
    compiled = False
    """Compiled layers want every row filled up to one length."""

    @property
    def dim(self) -> int:
        """Width of a stored vector."""
        return self.vectors * self.hidden

    @abstractmethod
    def token_count(self, residues: int, chains: int) -> int:
        """Count the tokens of a piece of so many residues in so many chains."""

    @abstractmethod
    def tokenise(self, sequence: Antibody | str, start: int, end: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Turn residues `start` to `end` of a sequence into token ids.

        Returns:
            ids int64 `[L]`, and True on the tokens that each vector's mean runs over, bool `[V, L]`.
        """

    def forward(self, batch: Batch) -> torch.Tensor:
        """Encode one batch.

        Returns:
            Weighted sums of hidden states, float32 `[B, D]`, on the encoder's device.
        """
        with torch.inference_mode():
            if isinstance(batch, Packed):
                return self._forward_packed(batch)
            return weighted_sum(self._hidden(batch), self._to_device(batch.weight_BVL))

    def residues(self, batch: Batch) -> torch.Tensor:
        """Encode one batch without pooling.

        Returns:
            Hidden states of the tokens that weigh more than 0, piece after piece, float16 `[T, D]`, on the encoder's
            device.
        """
        weight_T = batch.weight_VT[0] if isinstance(batch, Packed) else batch.weight_BVL[:, 0].ravel()
        with torch.inference_mode():
            hidden_TD = self._hidden(batch).flatten(0, 1)
            return hidden_TD.index_select(0, self._to_device(np.flatnonzero(weight_T))).half()

    def _forward_packed(self, batch: Packed) -> torch.Tensor:
        hidden_1TD = self._hidden(batch)
        sum_BD = packed_sum(hidden_1TD[0], self._to_device(batch.weight_VT), batch.runs_R2.tolist())
        return sum_BD[: len(batch.filled_BV)]  # without the filler

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """Compute the hidden states of all tokens, [B, L, D], or of a row [1, T, D]."""
        hidden: torch.Tensor
        if isinstance(batch, Packed):
            ids, runs = self._to_device(batch.ids_1T), torch.from_numpy(batch.runs_R2)
            hidden = self.model(input_ids=ids, runs_R2=runs, **self.packed_inputs(batch)).last_hidden_state
        else:
            mask_BL = None if batch.mask_BL is None else self._to_device(batch.mask_BL)
            hidden = self.model(input_ids=self._to_device(batch.ids_BL), attention_mask=mask_BL).last_hidden_state
        return hidden

    def prepare(self, asked: Literal["auto", "on", "off"], tokens: int) -> str:
        """Compile the layers if that pays for so many tokens; tell what was chosen and why."""
        parameters = sum(weight.numel() for weight in (*self.layers.parameters(), *self.layers.buffers()))
        self.compiled, why = compile_pays(asked, device=self.device, parameters=parameters, tokens=tokens)
        if self.compiled:
            compile_layers(self.layers)
        return f"{'on' if self.compiled else 'off'} ({why})"

    @property
    @abstractmethod
    def layers(self) -> Any:  # noqa: ANN401 (an nn.ModuleList)
        """The layers of the official model."""

    def room(self) -> Room:
        """Tell what decides the size of a batch here."""
        config = self.model.config
        hidden, wide = self.hidden, int(getattr(config, "d_ff", 0) or config.intermediate_size)
        heads = int(getattr(config, "d_kv", hidden // config.num_attention_heads)) * config.num_attention_heads
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return Room(device="cuda", bytes=free, width=4 * hidden + 5 * heads + 3 * wide)
        return Room(device="cpu", bytes=last_level_cache(), width=max(3 * heads, wide))

    @abstractmethod
    def packed_inputs(self, batch: Packed) -> dict[str, torch.Tensor]:
        """List what the model needs besides ids and runs to read pieces end to end."""

    def _to_device(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def pad(pieces: Sequence[tuple[Ids, Weights]], pad_id: int, width: int) -> Padded:
    """Lay pieces under each other, padded to `width` tokens.

    Args:
        pieces: ids int64 `[L]` and weights float32 `[V, L]` of each piece, none longer than `width`.
        pad_id: Id of the padding token.
        width: Tokens of each row.
    """
    ids_BL = np.full((len(pieces), width), pad_id, np.int64)
    weight_BVL = np.zeros((len(pieces), len(pieces[0][1]), width), np.float32)
    mask_BL = np.zeros((len(pieces), width), np.int64)
    for row, (ids, weights) in enumerate(pieces):
        ids_BL[row, : len(ids)] = ids
        weight_BVL[row, :, : len(ids)] = weights
        mask_BL[row, : len(ids)] = 1
    return Padded(ids_BL, weight_BVL, None if mask_BL.all() else mask_BL, _filled(pieces))


def pack(pieces: Sequence[tuple[Ids, Weights]], pad_id: int, width: int | None) -> Packed:
    """Lay pieces end to end.

    Args:
        pieces: ids int64 `[L]` and weights float32 `[V, L]` of each piece.
        pad_id: Id of the padding token.
        width: Tokens of the row, filled up with a piece of padding that nothing else sees; None: as long as it gets.
    """
    lengths = [len(ids) for ids, _ in pieces]
    filler = 0 if width is None else max(0, width - sum(lengths))
    whole = [*lengths, filler] if filler else lengths
    beyond_VT = np.zeros((len(pieces[0][1]), filler), np.float32)
    return Packed(
        ids_1T=np.concatenate([*(ids for ids, _ in pieces), np.full(filler, pad_id, np.int64)])[None],
        weight_VT=np.concatenate([*(weights for _, weights in pieces), beyond_VT], axis=1),
        runs_R2=np.array([(len(list(run)), length) for length, run in itertools.groupby(whole)], np.int64),
        filled_BV=_filled(pieces),
    )


def _filled(pieces: Sequence[tuple[Ids, Weights]]) -> Flags:
    return np.stack([weights.any(axis=1) for _, weights in pieces])
