"""The loop that everybody writes first: both encoders inside the training step, and what stands in its parts' places.

Shapes: B pairs or sequences at once, L tokens, D width of a vector, N distinct sequences.
"""

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from embed.config import EmbedConfig
from embed.encoders.encoder import Encoder
from embed.fingerprint import Source
from embed.inference import encode
from embed.pairs import PairTable
from embed.sequences import Antibody
from pipeline.bench.optimisations import Optimisation
from pipeline.bench.standins import open_tokenising, text_of
from pipeline.fidelity_sample import Role, sequences_of
from pipeline.fidelity_vectors import readers_of

Index = npt.NDArray[np.int64]
Reader = Callable[[Index], torch.Tensor]
"""Row numbers of distinct sequences, [B], to their vectors, float32 [B, D] on the device."""


class HuggingFace:
    """An encoder as its model card uses it, float32."""

    def __init__(self, source: Source, sequences: Sequence[Antibody | str], device: torch.device) -> None:
        from transformers import EsmModel, EsmTokenizer, T5EncoderModel, T5Tokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = source.checkpoint.folder
        self._sequences, self._device = sequences, device
        if source.family == "igt5":
            self._tokenizer: Any = T5Tokenizer.from_pretrained(folder)
            self.model: Any = T5EncoderModel.from_pretrained(folder, dtype=torch.float32)
        else:
            self._tokenizer = EsmTokenizer.from_pretrained(folder)
            self.model = EsmModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
        self.model.eval().to(device)
        self._special = torch.tensor(self._tokenizer.all_special_ids, device=device)

    def one_by_one(self, index_B: Index) -> torch.Tensor:
        """Run the encoder once for each sequence."""
        return torch.cat([self.batched(index_B[i : i + 1]) for i in range(len(index_B))])

    @torch.no_grad()
    def batched(self, index_B: Index) -> torch.Tensor:
        """Run the encoder once, the sequences padded to the longest one; means run over residues."""
        texts = [text_of(self._sequences[i]) for i in index_B.tolist()]
        inputs = self._tokenizer(texts, padding=True, return_tensors="pt").to(self._device)
        hidden_BLD = self.model(**inputs).last_hidden_state
        residue_BL1 = (~torch.isin(inputs.input_ids, self._special)).unsqueeze(2)
        mean_BD: torch.Tensor = (hidden_BLD * residue_BL1).sum(1) / residue_BL1.sum(1)
        return mean_BD


def open_reader(
    config: EmbedConfig,
    table: PairTable,
    role: Role,
    on: Collection[Optimisation],
    device: torch.device,
) -> tuple[Reader, list[nn.Module]]:
    """Open what reads the sequences of a role with these optimisations on; the second value is its models."""
    packed = Optimisation.PACKED in on
    asked = replace(
        config,
        precision="int8" if Optimisation.INT8 in on else "fp32",
        antibody_precision="",
        antigen_precision="",
        batching="packed",
    )
    sequences: list[Antibody | str] = [*sequences_of(table, role)]
    owner_N, readers, models = np.zeros(len(sequences), np.int64), [], []
    for number, (source, index) in enumerate(readers_of(asked, table, role)):
        owner_N[index] = number
        if packed:
            encoder = open_tokenising(source, asked, official=Optimisation.FAST_TOKENS not in on)
            readers.append(product_reader(encoder, sequences, asked))
            models.append(encoder.model)
        else:
            plain = HuggingFace(source, sequences, device)
            readers.append(plain.batched if Optimisation.BATCHED in on else plain.one_by_one)
            models.append(plain.model)
    return (readers[0] if len(readers) == 1 else _dispatch(readers, owner_N)), models


def _dispatch(readers: Sequence[Reader], owner_N: Index) -> Reader:
    """Let each sequence be read by its own reader."""

    def read(index_B: Index) -> torch.Tensor:
        parts = [(owner_N[index_B] == number).nonzero()[0] for number in range(len(readers))]
        vectors = [reader(index_B[part]) for reader, part in zip(readers, parts, strict=True) if len(part)]
        return torch.cat(vectors)[np.argsort(np.concatenate(parts))]

    return read


def product_reader(encoder: Encoder, sequences: Sequence[Antibody | str], config: EmbedConfig) -> Reader:
    """Let one of the product's encoders read each batch."""

    def read(index_B: Index) -> torch.Tensor:
        vector_BD, _ = encode(encoder, [sequences[i] for i in index_B.tolist()], config)
        return torch.from_numpy(vector_BD).to(encoder.device)

    return read


def kept_reader(vector_ND: torch.Tensor) -> Reader:
    """Look vectors up that were encoded before."""
    return lambda index_B: vector_ND[torch.from_numpy(index_B).to(vector_ND.device)]


class Network(nn.Module):
    """The regressor without preparation: vectors as they come, in, score out."""

    def __init__(self, width: int, widths: Sequence[int], *, dropout: float, recompute: bool) -> None:
        super().__init__()
        edges = [width, *widths]
        self._recompute = recompute
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.GELU(), nn.Dropout(dropout))
            for before, after in itertools.pairwise(edges)
        )
        self.head = nn.Linear(edges[-1], 1)

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        """Score pairs, float32 [B]."""
        for block in self.blocks:
            x_BD = checkpoint(block, x_BD, use_reentrant=False) if self._recompute and self.training else block(x_BD)
        score_B: torch.Tensor = self.head(x_BD).squeeze(1)
        return score_B
