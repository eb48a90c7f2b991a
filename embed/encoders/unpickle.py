"""Reads pickled weights in a process of its own and leaves the encoder's tensors as safetensors.

`python -m embed.encoders.unpickle TYPE OUT FILE...`: what it has to say against a file goes to stderr, exit code 2.
"""

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from embed.encoders.vetting import INDEX
from embed.errors import EncoderError

KEPT = {"t5": ("shared.", "encoder."), "esm": ("esm.embeddings.", "esm.encoder.", "esm.rotary_embeddings.")}
"""The weights of the encoder by model type; decoder, heads and poolers stay behind."""

_TIED = "encoder.embed_tokens.weight"


def unpickle(kind: str, out: Path, files: Sequence[Path]) -> None:
    """Write the encoder's tensors of pickled weights to a folder.

    Args:
        kind: `t5` or `esm`.
        out: Folder to write to.
        files: Output of `torch.save`.

    Raises:
        EncoderError: A file is damaged or holds more than tensors.
    """
    tensors = {name: tensor for file in files for name, tensor in _tensors(file, KEPT[kind])}
    plan = split_torch_state_dict_into_shards(tensors, filename_pattern="model{suffix}.safetensors")
    for name, keys in plan.filename_to_tensors.items():
        save_file({key: tensors[key] for key in keys}, out / name, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), "utf-8")


def _tensors(file: Path, kept: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise EncoderError(
            f"{file} is damaged or holds more than tensors, and was not loaded; fetch it again."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{file} is damaged ({said}); fetch it again.") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise EncoderError(f"{file} is damaged or holds more than tensors, and was not loaded; fetch it again.")
    for name, tensor in state.items():
        if str(name).startswith(kept) and name != _TIED:
            yield str(name), tensor.contiguous().clone()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        unpickle(sys.argv[1], Path(sys.argv[2]), [Path(file) for file in sys.argv[3:]])
    except EncoderError as error:
        sys.exit(f"refused: {error}")
