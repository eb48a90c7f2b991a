"""Pickled weights -> safetensors, encoder only, so that nothing pickled is ever loaded by a job."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from embed.config import Model
from embed.encoders.checkpoint import FILES, fetch
from embed.encoders.vetting import files_of, read_json, vet_config
from embed.errors import EncoderError

_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_TYPES = ("t5", "esm")
_REFUSED = "refused: "


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

    The pickles are read by a process of its own, tensors alone.

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
    kind = _type_of(folder, model)
    files = list(files_of(folder, _PICKLED[:1], model))
    if not files:
        raise EncoderError(f"{model} has no pytorch_model*.bin in {folder}; there is nothing to convert.")
    beside = list(files_of(folder, [pattern for pattern in FILES if "safetensors" not in pattern], model))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _unpickle(kind, part, files)
        written = sorted(part.glob("*.safetensors"))
        for file in beside:
            shutil.copyfile(file, part / file.name)
        part.chmod(0o755)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    written = [out / file.name for file in written]
    return Converted(
        out=out,
        revision="" if local.is_absolute() else folder.name,
        tensors=sum(_count(file) for file in written),
        digests={file.name: _digest(file) for file in written},
    )


def _type_of(folder: Path, model: str) -> str:
    files = list(files_of(folder, ["config.json"], model))
    if not files:
        raise EncoderError(f"{model}: no config.json in {folder}; name a Hugging Face model.")
    config = read_json(files[0])
    vet_config(config, model)
    if config.get("model_type") not in _TYPES:
        raise EncoderError(f"{model} is of type {config.get('model_type')!r}; only t5 and esm models can be converted.")
    return str(config["model_type"])


def _unpickle(kind: str, part: Path, files: list[Path]) -> None:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "embed.encoders.unpickle", kind, str(part), *map(str, files)],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if said.startswith(_REFUSED):
        raise EncoderError(said.removeprefix(_REFUSED))
    raise EncoderError(f"{files[0].parent}: reading its pickled weights failed (exit code {done.returncode}; {said}).")


def _count(file: Path) -> int:
    with safe_open(file, framework="numpy") as tensors:
        return len(tensors.keys())


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
