"""In what arithmetic vectors were made and a regressor trained, and how true that arithmetic was measured to be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed.errors import StoreError
from embed.store.folder import read_fingerprint
from pipeline.fidelity_file import kept_fidelity
from pipeline.report.blocks import Block, Cell, Code, Facts, Note, Section, Table

_HOW_TO = "The fidelity of this precision was not measured yet; bindcache fidelity --config FILE does it."
_FIDELITY = ("precision", "error", "lowest cosine", "10 neighbours kept", "ridge R²", "ridge Spearman", "seconds")


def precision(store: Path, folders: Mapping[str, str], *, digest: str, trained: Mapping[str, Any]) -> Section:
    """Tell the recorded facts, and the fidelity that was measured for this store.

    Args:
        store: Folder of the store.
        folders: Its folders by what they hold: `paired`, `single`, `antigen`.
        digest: SHA-256 of the pairs table.
        trained: Details of the training; empty where there is none.
    """
    facts: list[tuple[str, Cell]] = [
        (name, str(trained[name])) for name in ("device", "precision", "compile", "placement") if name in trained
    ]
    named = {"precision": "training arithmetic"}
    blocks: list[Block] = [Facts([(named.get(name, name), value) for name, value in facts])] if facts else []
    blocks += [_encoder(store / folder, uses) for folder, uses in _uses(folders).items()]
    return Section("Precision and fidelity", [*blocks, *_fidelity(store, digest)])


def _uses(folders: Mapping[str, str]) -> dict[str, list[str]]:
    uses: dict[str, list[str]] = {}
    for use, folder in folders.items():
        uses.setdefault(folder, []).append({"paired": "antibodies", "single": "single chains"}.get(use, f"{use}s"))
    return uses


def _encoder(folder: Path, uses: list[str]) -> Block:
    title = f"Encoder of {' and '.join(uses)}: {folder.name}"
    try:
        fingerprint = read_fingerprint(folder)
    except StoreError as error:
        return Note(f"{title}. Its facts cannot be read: {error}")
    return Code(title=title, text=json.dumps({**fingerprint.resolved, **fingerprint.facts}, indent=1))


def _fidelity(store: Path, digest: str) -> list[Block]:
    kept = kept_fidelity(store)
    if kept is None:
        return [Note(_HOW_TO)]
    found, table = kept
    of = "this table" if table == digest else "another table than this one"
    blocks: list[Block] = [Note(f"Measured on {found['pairs']:,} pairs of {of}: {found['recommendation']}")]
    for role, each in found["roles"].items():
        rows = [_fidelity_row(row) for row in each["rows"]]
        caption = f"{role}: each precision against fp32 on the same sequences."
        blocks.append(Table(header=_FIDELITY, rows=rows, caption=caption))
    return blocks


def _fidelity_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    vectors, ridge = row["vectors"], row["ridge"] or {}
    name = row["precision"] if row["vector_dtype"] == "float32" else f"{row['precision']}, {row['vector_dtype']}"
    kept = vectors["neighbours_kept"]
    return (
        name,
        f"{vectors['relative_error']:.1e}",
        f"{vectors['lowest_cosine']:.6f}",
        None if kept is None else f"{kept:.1%}",
        *(ridge[score]["value"] if score in ridge else None for score in ("r2", "spearman")),
        round(row["seconds"], 3),
    )
