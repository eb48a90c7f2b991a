"""Contestant: the encoders as transformers runs them, the official classes with their sdpa attention, eager.

Ids are remembered, so that only the first run pays for the tokenizer: what is compared is encoding.

Three ways to batch: one sequence at a time; so many a batch in file order, padded; and the honest baseline: sorted by
length, padded batches under a token budget, no mask where nothing is padded.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.serving import Contestant, Sequences, serve

# B sequences in a batch, L tokens, D width, N sequences

_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class HuggingFace(Contestant):
    """A transformers model with masked mean pooling over residues.

    Asked for: `checkpoint`, `family`, `precision`, `device`, and of `rows` (sequences a batch) or `budget` (padded
    tokens a batch) the one that is to be used.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.notes = {"transformers": version("transformers"), "torch": version("torch")}
        self._rows: int | None = asked.get("rows")
        self._budget: int | None = asked.get("budget")
        self._device = torch.device(asked["device"])
        self._family = asked["family"]
        self._ids: dict[str, list[int]] = {}
        options = {"dtype": _DTYPE[asked["precision"]], "attn_implementation": asked.get("attention", "sdpa")}
        self._tokenizer, self._model = _load(asked["family"], asked["checkpoint"], options)
        self._model.to(self._device)
        self._special = torch.tensor(self._tokenizer.all_special_ids, device=self._device)

    def encode(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Tokenise, encode batch by batch, put the vectors back in order."""
        ids = self._tokenise(sequences)
        order, padded = [], 0
        vectors = []
        with torch.inference_mode():
            for batch in self._batches([len(row) for row in ids]):
                order += batch
                vectors.append(self._forward([ids[i] for i in batch]))
                padded += len(batch) * max(len(ids[i]) for i in batch)
            vector_ND = torch.cat(vectors).cpu()
        self.notes["padding"] = 1 - sum(map(len, ids)) / padded
        ordered_ND = torch.empty_like(vector_ND)
        ordered_ND[order] = vector_ND
        return ordered_ND.numpy()

    def _tokenise(self, sequences: Sequences) -> list[list[int]]:
        if self._family == "igt5":
            sequences = [" </s> ".join(" ".join(chain) for chain in pair if chain) for pair in sequences]
        if fresh := [text for text in sequences if text not in self._ids]:
            self._ids.update(zip(fresh, self._tokenizer(fresh).input_ids, strict=True))
        return [self._ids[text] for text in sequences]

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        if self._budget is None:
            rows = self._rows or 1
            yield from (list(range(start, min(start + rows, len(lengths)))) for start in range(0, len(lengths), rows))
            return
        left = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        while left:
            rows = max(1, self._budget // lengths[left[0]])
            yield left[:rows]
            left = left[rows:]

    def _forward(self, ids: list[list[int]]) -> torch.Tensor:
        width = max(map(len, ids))
        pad = self._tokenizer.pad_token_id
        host_BL = torch.tensor([row + [pad] * (width - len(row)) for row in ids])
        ids_BL = host_BL.to(self._device)
        mask_BL = None if len(set(map(len, ids))) == 1 else (ids_BL != pad).long()
        hidden_BLD = self._model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        residue_BL1 = (~torch.isin(ids_BL, self._special)).unsqueeze(2)
        sums_BD = (hidden_BLD.float() * residue_BL1).sum(1)
        mean_BD: torch.Tensor = sums_BD / residue_BL1.sum(1)
        return mean_BD


def _load(family: str, checkpoint: str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import EsmModel, EsmTokenizer, T5EncoderModel, T5Tokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options["local_files_only"] = True
    if family == "igt5":
        return T5Tokenizer.from_pretrained(checkpoint), T5EncoderModel.from_pretrained(checkpoint, **options).eval()
    model = EsmModel.from_pretrained(checkpoint, add_pooling_layer=False, **options)
    return EsmTokenizer.from_pretrained(checkpoint), model.eval()


if __name__ == "__main__":
    serve(HuggingFace)
