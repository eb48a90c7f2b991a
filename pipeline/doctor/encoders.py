"""The config's encoders: whether their weights are here, whole, or can be fetched."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from embed.config import EmbedConfig, Model, is_table
from embed.encoders.checkpoint import FILES, Checkpoint, open_checkpoint
from embed.errors import EncoderError
from embed.imported import is_imported
from pipeline.doctor.findings import Finding
from pipeline.output import human_bytes

Role = Literal["antibody", "antigen", "single_chain"]
_HUB_SECONDS = 10.0
_LARGEST_HEADER = 100_000_000


def look_at_encoders(embed: EmbedConfig) -> Iterator[tuple[Finding, Checkpoint | None]]:
    """Check each encoder; with the finding comes its checkpoint, if it is here and whole."""
    roles: list[tuple[Role, Model, str]] = [
        ("antibody", embed.antibody, embed.antibody_revision),
        ("antigen", embed.antigen, embed.antigen_revision),
    ]
    if embed.single_chain not in ("same", "error"):
        roles.append(("single_chain", embed.single_chain, embed.single_chain_revision))
    for role, model, revision in roles:
        if is_table(model):
            yield Finding(name=f"{role} encoder", verdict="ok", said=f"{model}, a table: there are no weights"), None
        elif is_imported(model):
            yield Finding(name=f"{role} encoder", verdict="ok", said=f"imported vectors in {model}"), None
        elif Path(model).is_absolute():
            yield _local(role, model, "")
        else:
            yield _hub(role, model, revision)


def _local(role: Role, model: Model, revision: str) -> tuple[Finding, Checkpoint | None]:
    name = f"{role} encoder"
    try:
        checkpoint = open_checkpoint(model, revision)
        for path in checkpoint.weights:
            refuse_cut_off(path)
    except EncoderError as error:
        step = "fetch the model again, or name another folder or hub id"
        return Finding(name=name, verdict="problem", said=str(error), next_step=step), None
    size = human_bytes(sum(path.stat().st_size for path in checkpoint.weights))
    where = f"{model}, weights whole ({size})"
    return Finding(name=name, verdict="ok", said=where), checkpoint


def _hub(role: Role, model: Model, revision: str) -> tuple[Finding, Checkpoint | None]:
    from huggingface_hub import snapshot_download

    name, pinned = f"{role} encoder", f"{model}{'@' + revision[:12] if revision else ''}"
    try:
        folder = snapshot_download(model, revision=revision or None, allow_patterns=list(FILES), local_files_only=True)
    except (OSError, ValueError):  # not in the cache
        return _reachable(name, model, revision, pinned), None
    finding, checkpoint = _local(role, Model(folder), "")
    if finding.verdict == "ok":
        return Finding(name=name, verdict="ok", said=f"{pinned} in the hub's cache, weights whole"), checkpoint
    return finding, None


def _reachable(name: str, model: Model, revision: str, pinned: str) -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        said = f"{pinned} is not in the hub's cache, and HF_HUB_OFFLINE is set: offline"
        return Finding(
            name=name, verdict="problem", said=said, next_step="unset HF_HUB_OFFLINE, or name a local folder"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = HfApi().model_info(model, revision=revision or None, timeout=_HUB_SECONDS, files_metadata=True)
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        said = f"{pinned} is not here, and the hub does not give it ({type(error).__name__}): offline or no such model"
        step = "check the name and the network, fetch it on another machine, or name a local folder"
        return Finding(name=name, verdict="problem", said=said, next_step=step)
    files = found.siblings or []
    size = sum(each.size or 0 for each in files if each.rfilename.endswith(".safetensors"))
    if not size:
        step = f"bindcache convert {model} --out DIR, and name DIR"
        return Finding(name=name, verdict="problem", said=f"{pinned} has no safetensors on the hub", next_step=step)
    said = f"{pinned} is on the hub, {human_bytes(size)} to fetch at first use"
    return Finding(name=name, verdict="ok", said=said)


def refuse_cut_off(path: Path) -> None:
    """Check that a safetensors file is as long as its header says, as an interrupted copy is not.

    Raises:
        EncoderError: It is not, or has no header.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _LARGEST_HEADER):
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise EncoderError(f"{path} is no safetensors file ({error})") from None
    if 8 + length + max(ends, default=0) != size:
        raise EncoderError(f"{path} has {size:,} bytes, and its header speaks of {8 + length + max(ends, default=0):,}")
