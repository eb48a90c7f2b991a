"""The weights of the best epoch: one safetensors file that says which network it is, with its digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from embed.store.plain import NotPlainError, open_plain
from train.config import Head
from train.errors import TrainError
from train.regressor import Regressor

_ENTRY = "bindcache"


def weights_image(model: Mapping[str, torch.Tensor], facts: Mapping[str, object]) -> bytes:
    """Build the bytes of a weights file.

    Args:
        model: State of a Regressor, on the CPU.
        facts: At least `antibody_dim`, `antigen_dim` and `widths`; `axes` where prepared vectors have other widths,
            `head` where it is not `concat`, and `queries` of both where residues are read; JSON-able.
    """
    tensors = {name: tensor.contiguous() for name, tensor in model.items()}
    record = {**facts, "sha256": _digest(tensors, facts)}
    return save(tensors, {_ENTRY: json.dumps(record, sort_keys=True)})


def load_regressor(path: Path) -> tuple[Regressor, dict[str, Any]]:
    """Rebuild the network from a weights file, in evaluation mode on the CPU; the facts come along.

    Raises:
        TrainError: The file is missing, not ours, or damaged.
    """
    try:
        with open_plain(path) as file:
            data = file.read()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts: dict[str, Any] = dict(json.loads(header["__metadata__"][_ENTRY]))
        tensors = load(data)
    except FileNotFoundError:
        raise TrainError(f"{path} is missing: the run has finished no epoch; train it first.") from None
    except (NotPlainError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise TrainError(f"{path} is no weights file of a run ({error}); train anew.") from error
    if facts.pop("sha256", None) != _digest(tensors, facts):
        raise TrainError(f"{path} is damaged: its bytes do not match its SHA-256; train anew.")
    head = facts.get("head", "concat")  # which files of before do not name
    if head not in get_args(Head):
        raise TrainError(f"{path} has the head {head!r}, unknown here; use the bindcache that wrote it.")
    regressor = Regressor(
        facts["antibody_dim"],
        facts["antigen_dim"],
        widths=facts["widths"],
        head=head,
        axes=facts.get("axes"),
        queries=facts.get("queries", (0, 0)),
    )
    try:
        regressor.load_state_dict(tensors)
    except RuntimeError as error:
        raise TrainError(f"{path} is of a version whose network had other shapes; train anew.") from error
    return regressor.eval(), facts


def _digest(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)} ".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
