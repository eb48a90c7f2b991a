"""The folder that transformers is shown: the files that were vetted, and nothing that names another."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embed.encoders.checkpoint import Checkpoint
from embed.encoders.vetting import INDEX, files_of, read_json

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "vocab.txt",
)
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_ELSEWHERE = ("auto_map", "init_inputs", "chat_template", "name_or_path")
"""Settings of a tokenizer that name code, files or models; so does every one that ends in `_file` or `_files`."""


@contextmanager
def view(checkpoint: Checkpoint) -> Iterator[Path]:
    """Show a checkpoint as a folder of links to its vetted files; it is gone after the `with`.

    Adapters, pickles, code, templates and other weights that lie beside them are not in it.

    Raises:
        EncoderError: A file leads out of the checkpoint's folder.
    """
    with tempfile.TemporaryDirectory(prefix="bindcache-") as name:
        folder = Path(name)
        index = [checkpoint.folder / INDEX] if (checkpoint.folder / INDEX).is_file() else []
        tokenizer = list(files_of(checkpoint.folder, _TOKENIZER, checkpoint.model))
        for path in (checkpoint.folder / "config.json", *checkpoint.weights, *index, *tokenizer):
            if path.name in _SETTINGS:
                (folder / path.name).write_text(json.dumps(_harmless(read_json(path))), "utf-8")
            else:
                (folder / path.name).symlink_to(path.resolve())
        yield folder


def _harmless(settings: dict[str, object]) -> dict[str, object]:
    return {
        key: value for key, value in settings.items() if key not in _ELSEWHERE and not key.endswith(("_file", "_files"))
    }
