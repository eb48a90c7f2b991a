"""Where an encoder's files are and which they are, without loading any of them."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed.config import Model
from embed.encoders.vetting import files_of, read_json, vet_config, weight_files
from embed.errors import EncoderError

FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "vocab.txt",
)
"""All that is fetched from the hub: no pickles and no code."""

_ENTRY = 5
"""Inode, size, times of modification and change, digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The files of one encoder on this machine."""

    model: str
    """Hub id or local folder, as the user gave it."""
    revision: str
    """Commit on the hub; empty for a local folder."""
    folder: Path
    """Where the files lie."""
    config: dict[str, object]
    """The content of `config.json`."""
    weights: tuple[Path, ...]
    """The safetensors files, by name."""
    digest: str = ""
    """What `weights_digest` gives; empty where nobody asked."""


def open_checkpoint(model: Model, revision: str) -> Checkpoint:
    """Find an encoder's files, fetching them from the hub when they are not here yet.

    Args:
        model: Hub id or absolute local folder.
        revision: Commit, tag or branch on the hub; empty for the default branch.

    Raises:
        EncoderError: There is no such model, or it has no safetensors.
    """
    local = Path(model)
    if local.is_absolute():
        return _read_folder(local, model=model, revision="")
    folder = fetch(model, revision, FILES)
    return _read_folder(folder, model=model, revision=folder.name)


def weights_digest(checkpoint: Checkpoint, memory: Path) -> str:
    """Digest the weights; a file's digest is remembered as long as its inode, size and times stay.

    Args:
        checkpoint: The encoder's files.
        memory: JSON file that remembers digests; it may be missing, and is not needed for correctness.

    Returns:
        sha256 hex of the files' names and digests.
    """
    known = _recall(memory)
    fresh: dict[str, list[object]] = {}
    whole = hashlib.sha256()
    for path in checkpoint.weights:
        real = path.resolve()
        stat = real.stat()
        stamp = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        entry = known.get(str(real))
        if not entry or entry[:-1] != stamp:
            with real.open("rb") as file:
                entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            fresh[str(real)] = entry
        whole.update(f"{path.name}:{entry[-1]}\n".encode())
    if fresh:
        _remember(memory, known | fresh)
    return whole.hexdigest()


def fetch(model: str, revision: str, patterns: Sequence[str]) -> Path:
    """Fetch files of a hub model into the hub's cache, or find them there.

    Args:
        model: Hub id.
        revision: Commit, tag or branch; empty for the default branch. A cached commit needs no network.
        patterns: Names of the files, with wildcards.

    Returns:
        The folder of the snapshot, named by its commit.

    Raises:
        EncoderError: It cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    for offline in (True, False) if pinned else (False, True):
        try:
            return Path(
                snapshot_download(
                    model, revision=revision or None, allow_patterns=list(patterns), local_files_only=offline
                )
            )
        except (LocalEntryNotFoundError, OSError) as error:
            reason = error
            if (
                isinstance(error, HfHubHTTPError)
                and error.response is not None
                and error.response.status_code in (401, 403, 404)
            ):
                break
    raise EncoderError(
        f"{model}{'@' + revision if revision else ''} could not be had from the Hugging Face hub or its local cache "
        f"({type(reason).__name__}); check the name, the network or name a local folder."
    ) from reason


def _read_folder(folder: Path, *, model: str, revision: str) -> Checkpoint:
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"{model}: there is no config.json in {folder}; name a folder that holds a Hugging Face model."
        )
    for _ in files_of(folder, FILES, model):
        pass  # each is vetted
    config = read_json(folder / "config.json")
    vet_config(config, model)
    weights = weight_files(folder, model)
    if weights is None:
        pinned = f" --revision {revision}" if revision else ""
        raise EncoderError(
            f"{model} has no safetensors weights, and pickled weights are not loaded; "
            f"run `bindcache convert {model}{pinned} --out DIR` and name DIR instead."
        )
    return Checkpoint(model=model, revision=revision, folder=folder, config=config, weights=tuple(weights))


def _recall(memory: Path) -> dict[str, list[object]]:
    """Read stamps and digests; what is not one of each is not there."""
    try:
        known = json.loads(memory.read_text("utf-8")).items()
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {file: entry for file, entry in known if isinstance(entry, list) and len(entry) == _ENTRY}


def _remember(memory: Path, digests: dict[str, list[object]]) -> None:
    # lost or overwritten by a neighbour: the next start only hashes again
    part = memory.with_name(f".{memory.name}-{id(digests):x}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(digests), "utf-8")
        part.replace(memory)
    except OSError:
        part.unlink(missing_ok=True)
