"""Vectors that no encoder of ours made: what is known of them, for their fingerprint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from embed.encoders.checkpoint import Checkpoint
from embed.errors import EncoderError
from embed.store.folder import read_fingerprint
from embed.store.schema import FINGERPRINT_FILE

IMPORTED = "imported"
"""The fact `encoder` of such vectors, and the start of their folder's name."""


def imported_facts(
    role: Literal["antibody", "antigen"], model: str, *, file: str, sequences: str, vector_dtype: str
) -> dict[str, object]:
    """State all that is known: who is said to have made them, and of which bytes they are.

    Args:
        role: What the vectors are of.
        model: The model, in the user's words; nothing proves it.
        file: sha256 hex of the file that held them.
        sequences: sha256 hex of the file that says which sequence an id stands for; empty where the vectors' file does.
        vector_dtype: How they are stored.
    """
    return {
        "encoder": IMPORTED,
        "role": role,
        "model": model,
        "file": file,
        "sequences": sequences,
        "vector_dtype": vector_dtype,
    }


def is_imported(model: str) -> bool:
    """Tell whether a config's encoder is a store folder with vectors in place of a model."""
    folder = Path(model)
    return folder.is_absolute() and (folder / FINGERPRINT_FILE).is_file()


def open_imported(model: str, role: Literal["antibody", "antigen"]) -> tuple[Checkpoint, Mapping[str, object], str]:
    """Open a folder of imported vectors as if it were an encoder.

    Returns:
        A checkpoint without weights, the facts and the fingerprint.

    Raises:
        EncoderError: The folder's vectors were not imported, or are of the other role.
        StoreError: It cannot be read.
    """
    folder = Path(model)
    fingerprint = read_fingerprint(folder)
    facts = fingerprint.facts
    if (facts.get("encoder"), facts.get("role")) != (IMPORTED, role):
        raise EncoderError(
            f"embed.{role} = {model!r} holds vectors of {facts.get('encoder')} ({facts.get('role', 'encoded here')}); "
            f"name an encoder, or a folder that `bindcache store import --role {role}` made."
        )
    said = Checkpoint(model=str(facts["model"]), revision="", folder=folder, config={}, weights=())
    return said, facts, fingerprint.digest
