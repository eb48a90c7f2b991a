"""esm-cpp 0.2.1, run by the Python that has it: packed forwards, fp32 or INT8 with its own calibration.

Its packed forward returns logits and no hidden states, so its time holds a language-model head of 33 outputs (about 1 %
of ESM-2 150M) and no pooling; its vectors come from its unpacked forward, one sequence at a time and not timed.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import esm_cpp
import numpy as np
import numpy.typing as npt

from benchmarks.serving import Contestant, Sequences, serve

_ALPHA = 0.5
"""SmoothQuant's, as its README has it."""
_CALIBRATION = 16


class EsmCpp(Contestant):
    """The C++ engine on the re-keyed checkpoint."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.notes = {"esm-cpp": version("esm-cpp"), "isa": esm_cpp.current_isa()}
        self._tokenizer = esm_cpp.Tokenizer()
        self._model = esm_cpp.Model.load_from_safetensors(str(Path(asked["checkpoint"]) / "esm-cpp.safetensors"))
        if asked["precision"] == "int8":
            self._quantise(asked["tables"]["small"][:_CALIBRATION])

    def encode(self, sequences: Sequences) -> None:
        """Run all sequences through its scheduler."""
        self._model.forward_scheduled([self._ids(sequence) for sequence in sequences])

    def vectors(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Average the last hidden state over the residues."""
        hidden = (self._model.forward_with_hidden_states(self._ids(sequence))[1][-1] for sequence in sequences)
        return np.stack([hidden_LD[1:-1].mean(0) for hidden_LD in hidden]).astype(np.float32)

    def _ids(self, sequence: str) -> npt.NDArray[np.int32]:
        return np.asarray(self._tokenizer.encode(sequence), np.int32)

    def _quantise(self, sequences: Sequences) -> None:
        observer = esm_cpp.ActivationObserver()
        for ids_L in map(self._ids, sequences):
            self._model.forward_with_observer(ids_L, np.ones_like(ids_L), observer)
        self._model.apply_smoothquant(observer.percentile(99.9), _ALPHA)
        self._model.quantize_weights()


if __name__ == "__main__":
    serve(EsmCpp)
