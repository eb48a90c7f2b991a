"""biotrainer 1.4.0, run by the Python that has it: its own embedding service, vectors kept in memory.

Writing its H5 file is left out of the time, as writing the store is left out of ours. With transformers 5 its mean runs
over special tokens and padding too (it asks for their mask with tensors, and is answered with zeros), which its error
shows; the time is not affected.
"""

from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from biotrainer.embedders import get_embedding_service

from benchmarks.serving import Contestant, Sequences, serve


class Biotrainer(Contestant):
    """Sorted by length, batches of as many residues as free memory suggests, float32."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.notes = {"biotrainer": version("biotrainer"), "torch": version("torch")}
        self._service = get_embedding_service(
            embedder_name=asked["checkpoint"],
            custom_tokenizer_config=None,
            use_half_precision=False,
            device=torch.device("cpu"),
        )

    def encode(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Encode and put what comes sorted back in order."""
        made = {record.seq: vector for record, vector in self._service.generate_embeddings(sequences, reduce=True)}
        return np.stack([made[sequence].numpy() for sequence in sequences])


if __name__ == "__main__":
    serve(Biotrainer)
