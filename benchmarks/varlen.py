"""Contestant: ESM-2 as FAESM and esm-efficient run it, sequences end to end under FlashAttention's variable lengths.

Their own packages load neither this transformers nor plain checkpoints, so the official class runs here with
`flash_attention_2` and the lengths handed through; it needs the package flash-attn and a CUDA device.
"""

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.hugging_face import HuggingFace
from benchmarks.serving import RefusedError, Sequences


class Varlen(HuggingFace):
    """A transformers ESM-2 on packed rows of at most `budget` tokens; asked for as `HuggingFace`."""

    def __init__(self, asked: dict[str, Any]) -> None:
        if importlib.util.find_spec("flash_attn") is None:
            raise RefusedError("not installed: flash-attn")
        if asked["family"] != "esm2":
            raise RefusedError("FlashAttention has no bias, which T5 needs")
        super().__init__({**asked, "attention": "flash_attention_2"})

    def encode(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Encode as it does, but nothing is padded."""
        vector_ND = super().encode(sequences)
        self.notes["padding"] = 0.0
        return vector_ND

    def _forward(self, ids: list[list[int]]) -> torch.Tensor:
        lengths = [len(row) for row in ids]
        ids_1T = torch.tensor([[token for row in ids for token in row]]).to(self._device)
        position_1T = torch.cat([torch.arange(length) for length in lengths])[None].to(self._device)
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(self._device)
        hidden_1TD = self._model(
            input_ids=ids_1T,
            position_ids=position_1T,
            cu_seq_lens_q=ends,
            cu_seq_lens_k=ends,
            max_length_q=max(lengths),
            max_length_k=max(lengths),
        ).last_hidden_state
        residue_T1 = (~torch.isin(ids_1T[0], self._special)).unsqueeze(1)
        sums = [part.sum(0) for part in (hidden_1TD[0].float() * residue_T1).split(lengths)]
        counts = [part.sum() for part in residue_T1.split(lengths)]
        return torch.stack([total / count for total, count in zip(sums, counts, strict=True)])
