"""What a model's folder may hold: refused before any of it is read as a model."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from embed.errors import EncoderError

INDEX = "model.safetensors.index.json"

_REFUSED = {
    "auto_map": "names code of its own, and only the official classes are run",
    "quantization_config": "says that its weights are quantised already; name the original",
    "transformers_weights": "names other files as weights; rename them to model.safetensors",
}
"""Keys of config.json by which transformers would read or run something else."""

_MOST_LAYERS = 1000
_MOST_BYTES = 1 << 26
"""Of a JSON file; the longest index of the models read here has 50 kB."""


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        EncoderError: It is none, or no model's, being larger than 64 MiB.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("larger than 64 MiB")
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is not readable as JSON ({error}); fetch the model again.") from None
    return content


def vet_config(config: dict[str, object], model: str) -> None:
    """Refuse a config.json that would have other things run or read.

    Raises:
        EncoderError: It would.
    """
    for key, what in _REFUSED.items():
        if config.get(key):
            raise EncoderError(f"{model}: its config.json {what} ({key}).")
    for key in ("num_layers", "num_hidden_layers"):
        layers = config.get(key, 1)
        if not isinstance(layers, int) or not 1 <= layers <= _MOST_LAYERS:
            raise EncoderError(f"{model}: its config.json has {key} = {layers!r}; a model has 1 to {_MOST_LAYERS:,}.")


def files_of(folder: Path, patterns: Sequence[str], model: str) -> Iterator[Path]:
    """List the files of a folder that match, each once.

    Raises:
        EncoderError: One is no plain file, or a link that leads out of the folder (or out of its hub cache).
    """
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        refuse_outside(path, folder, model)
        yield path


def refuse_outside(path: Path, folder: Path, model: str) -> None:
    """Refuse a file that lies elsewhere; the hub's cache alone may keep the files of a snapshot in its blobs.

    Raises:
        EncoderError: It leads out, or is no plain file.
    """
    home, real = folder.resolve(), path.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(real.is_relative_to(each.resolve()) for each in homes):
        raise EncoderError(f"{model}: {path} leads out of its folder, to {real}; put the file itself there.")
    if not real.is_file():
        raise EncoderError(f"{model}: {path} is no plain file; fetch the model again.")


def weight_files(folder: Path, model: str) -> list[Path] | None:
    """List the safetensors files, by name, that hold a model's weights; None where it has none.

    Raises:
        EncoderError: The index names what is not in the folder, or no safetensors.
    """
    index, single = folder / INDEX, folder / "model.safetensors"
    if not index.is_file():
        return [single] if single.is_file() else None
    weights = read_json(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise EncoderError(f"{model}: {index.name} has no weight_map; fetch the model again.")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise EncoderError(f"{model}: {index.name} names {name!r}, which is no safetensors file of its folder.")
        if not (folder / name).is_file():
            raise EncoderError(f"{model}: {index.name} names {name}, which is not in {folder}; fetch the model again.")
        refuse_outside(folder / name, folder, model)
    return [folder / name for name in names]
