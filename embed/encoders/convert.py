"""Pickled weights -> safetensors, encoder only, so that nothing pickled is ever loaded by a job."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from embed.config import Model
from embed.encoders.checkpoint import FILES, fetch
from embed.errors import EncoderError

_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_TIED = "encoder.embed_tokens.weight"
_KEPT = {"t5": ("shared.", "encoder."), "esm": ("esm.embeddings.", "esm.encoder.", "esm.rotary_embeddings.")}
"""The weights of the encoder by model type; decoder, heads and poolers stay behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What was written."""

    out: Path
    revision: str
    """Commit on the hub; empty for a local folder."""
    tensors: int
    digests: dict[str, str]
    """sha256 hex of each safetensors file."""


def convert(model: Model, revision: str, out: Path) -> Converted:
    """Write the encoder of a checkpoint with pickled weights as safetensors beside its tokenizer.

    Args:
        model: Hub id or absolute local folder.
        revision: Commit, tag or branch on the hub; empty for the default branch.
        out: Folder to make; it must not exist yet.

    Raises:
        EncoderError: `out` exists, there are no pickled weights, or they hold more than tensors.
    """
    if out.exists():
        raise EncoderError(f"{out} exists; name a folder that does not, as nothing is overwritten.")
    local = Path(model)
    folder = local if local.is_absolute() else fetch(model, revision, (*FILES, *_PICKLED))
    config = _config(folder, model)
    tensors = dict(_encoder_tensors(folder, model, str(config.get("model_type"))))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        digests = _write(part, folder, tensors)
        part.chmod(0o755)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Converted(
        out=out, revision="" if local.is_absolute() else folder.name, tensors=len(tensors), digests=digests
    )


def _config(folder: Path, model: str) -> dict[str, object]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{model}: no readable config.json in {folder} ({error}); name a Hugging Face model."
        ) from None
    if config.get("model_type") not in _KEPT:
        raise EncoderError(f"{model} is of type {config.get('model_type')!r}; only t5 and esm models can be converted.")
    return dict(config)


def _encoder_tensors(folder: Path, model: str, kind: str) -> Iterator[tuple[str, torch.Tensor]]:
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise EncoderError(f"{model} has no pytorch_model*.bin in {folder}; there is nothing to convert.")
    for file in files:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError:
            raise EncoderError(
                f"{file} is damaged or holds more than tensors, and was not loaded; fetch it again."
            ) from None
        except (RuntimeError, EOFError, ValueError) as error:
            raise EncoderError(f"{file} is damaged ({str(error).splitlines()[0]}); fetch it again.") from None
        for name, tensor in state.items():
            if name.startswith(_KEPT[kind]) and name != _TIED:
                yield name, tensor.contiguous().clone()


def _write(part: Path, folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    plan = split_torch_state_dict_into_shards(tensors, filename_pattern="model{suffix}.safetensors")
    for name, keys in plan.filename_to_tensors.items():
        save_file({key: tensors[key] for key in keys}, part / name, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True), "utf-8")
    beside = {file for pattern in FILES if "safetensors" not in pattern for file in folder.glob(pattern)}
    for file in beside:
        shutil.copyfile(file, part / file.name)
    return {name: hashlib.sha256((part / name).read_bytes()).hexdigest() for name in plan.filename_to_tensors}
