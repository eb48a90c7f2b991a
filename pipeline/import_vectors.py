"""`bindcache store import`: vectors of an HDF5 file with a dataset for each sequence, as UniProt and biotrainer write.

Shapes: B vectors written at once, D width of a vector.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from embed.imported import IMPORTED, imported_facts
from embed.sequences import Antibody, BadSequence, antibody_keys, antigen_keys, normalise
from embed.stage import read_table
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.public.chains import read_sequences

_ROWS = 4096

Role = Literal["antibody", "antigen"]
Lookup = Callable[[str], Antibody | str | None]
"""The sequence that an id stands for; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedVectors:
    """What an import did."""

    folder: str
    vectors: int
    width: int
    left_out: list[str]
    """Ids whose sequence is not known."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One vector of the file."""

    dataset: str
    id: str
    sequence: Antibody | str


def import_vectors(config: Config, file: Path, role: Role, model: str, *, sequences: Path | None) -> ImportedVectors:
    """Bring the vectors of a file into the store, under a fingerprint that says that they came from a file.

    Args:
        config: Store, and the pairs table, whose ids say which sequence a vector is of unless something better does.
        file: The HDF5 file. Attributes `heavy`, `light` and `antigen`, as `store export` writes them, win.
        role: What the vectors are of.
        model: Who made them, in the user's words.
        sequences: FASTA file instead of the table: `ID` for an antigen or nanobody, `ID_H` and `ID_L` for an antibody.

    Raises:
        ConfigError: The file is not of that layout, or no id has a sequence.
        EmbedError: The table or the store cannot be used as it is.
    """
    try:
        with h5py.File(file, "r", locking=False) as root:
            entries, left_out, own = _read_entries(root, file, role, config, sequences)
            entries = _refuse_or_drop_doubles(root, entries)
            width, stored = _shape(root, entries, file)
            facts = imported_facts(
                role,
                model,
                file=_digest(file),
                sequences="" if own else _digest(sequences or config.pairs.path),
                vector_dtype=stored,
            )
            folder = _write(root, entries, role, config, facts, width)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {error.filename or file}; name the one with the vectors.") from None
    except (OSError, RuntimeError, KeyError) as error:
        raise ConfigError(f"{file} cannot be read as HDF5 ({error}).") from None
    return ImportedVectors(folder=str(folder), vectors=len(entries), width=width, left_out=left_out)


def _read_entries(
    root: h5py.File, file: Path, role: Role, config: Config, sequences: Path | None
) -> tuple[list[_Entry], list[str], bool]:
    """List the vectors whose sequence is known, the ids of the others, and whether the file itself says it of all."""
    entries: list[_Entry] = []
    left_out: list[str] = []
    lookup: Lookup | None = None
    for name in root:
        # links to other files would be read as if they were in this one
        if not isinstance(root.get(name, getlink=True), h5py.HardLink) or not isinstance(root[name], h5py.Dataset):
            raise ConfigError(f"{file.name}: {name!r} is not a dataset; the file needs one dataset for each sequence.")
        attributes = root[name].attrs
        label = str(attributes.get("original_id", name))
        sequence = _own(attributes, role)
        if sequence is None:
            lookup = lookup or _lookup(role, config, sequences)
            sequence = lookup(label) or lookup(name)
        if sequence is None:
            left_out.append(label)
        else:
            entries.append(_Entry(name, label, _normalised(sequence, label)))
    if not entries:
        where = f"a record of {sequences}" if sequences else "an id of the pairs table (pairs.id)"
        raise ConfigError(
            f"None of the {len(left_out):,} ids of {file.name}, such as {', '.join(map(repr, left_out[:3]))}, is "
            f"{where}, and vectors are kept by sequence. Give --sequences, a FASTA file with these ids."
        )
    return entries, left_out, lookup is None


def _own(attributes: h5py.AttributeManager, role: Role) -> Antibody | str | None:
    if role == "antigen":
        return str(attributes["antigen"]) if "antigen" in attributes else None
    if "heavy" not in attributes:
        return None
    return str(attributes["heavy"]), str(attributes["light"]) if "light" in attributes else None


def _lookup(role: Role, config: Config, sequences: Path | None) -> Lookup:
    if sequences is not None:
        records = read_sequences(sequences)
        # >sp|P00698|LYSC_CHICK is P00698 in UniProt's own files of vectors
        records |= {name.split("|")[1]: text for name, text in records.items() if name.count("|") == 2}
        if role == "antigen":
            return records.get

        def chains(label: str) -> Antibody | None:
            heavy = records.get(f"{label}_H") or records.get(label)
            return None if heavy is None else (heavy, records.get(f"{label}_L"))

        return chains
    table = read_table(config.embed, config.pairs)
    place = {name: pair for pair, name in zip(table.pair_of_row.tolist(), table.row_ids, strict=True) if pair >= 0}

    def of_pair(label: str) -> Antibody | str | None:
        if label not in place:
            return None
        antibody, antigen = (int(index) for index in table.pair_N2[place[label]])
        return table.antibodies[antibody] if role == "antibody" else table.antigens[antigen]

    return of_pair


def _normalised(sequence: Antibody | str, label: str) -> Antibody | str:
    try:
        if isinstance(sequence, str):
            return normalise(sequence).sequence
        heavy, light = sequence
        return normalise(heavy).sequence, None if light is None else normalise(light).sequence
    except BadSequence as error:
        raise ConfigError(f"The sequence of {label!r} cannot be used: {error}") from None


def _refuse_or_drop_doubles(root: h5py.File, entries: list[_Entry]) -> list[_Entry]:
    """Keep one of several ids that stand for one sequence, if their vectors are the same."""
    first: dict[Antibody | str, _Entry] = {}
    for entry in entries:
        known = first.setdefault(entry.sequence, entry)
        if known is not entry and not np.array_equal(root[known.dataset][()], root[entry.dataset][()]):
            raise ConfigError(
                f"{known.id!r} and {entry.id!r} are one sequence with different vectors; remove one from the file."
            )
    return list(first.values())


def _shape(root: h5py.File, entries: list[_Entry], file: Path) -> tuple[int, Literal["float16", "float32"]]:
    shapes, kinds = set(), set()
    for entry in entries:
        dataset = root[entry.dataset]
        if dataset.ndim != 1 or dataset.dtype.kind != "f" or dataset.external or dataset.is_virtual:
            raise ConfigError(
                f"{file.name}: {entry.id!r} is {dataset.dtype} of shape {dataset.shape}, and a vector has one "
                "dimension (averaged over the residues); take the file of per-sequence vectors."
            )
        shapes.add(dataset.shape[0])
        kinds.add(dataset.dtype.itemsize)
    if len(shapes) > 1:
        raise ConfigError(f"{file.name} holds vectors of widths {sorted(shapes)}; a model gives one.")
    return shapes.pop(), "float16" if kinds == {2} else "float32"


def _write(
    root: h5py.File, entries: list[_Entry], role: Role, config: Config, facts: dict[str, object], width: int
) -> Path:
    digest = fingerprint_digest(facts)
    resolved = {"model": str(facts["model"]), "file": Path(root.filename).name}
    folder = create_folder(config.embed.store, f"{IMPORTED}-{role}-{digest[:16]}", facts, resolved)
    dtype: Literal["float16", "float32"] = "float16" if facts["vector_dtype"] == "float16" else "float32"
    with ShardWriter(folder, fingerprint=digest, dim=width, dtype=dtype, shard_rows=_ROWS) as writer:
        for batch in _batches(entries):
            vector_BD = np.stack([root[entry.dataset][()] for entry in batch]).astype(np.float32)
            texts = [entry.sequence for entry in batch]
            antigens = [text for text in texts if isinstance(text, str)]
            antibodies = [text for text in texts if not isinstance(text, str)]
            length_B = np.array([len("".join(filter(None, text))) for text in texts], np.int32)
            writer.add(antigen_keys(antigens) if antigens else antibody_keys(antibodies), vector_BD, length_B)
    return folder


def _batches(entries: list[_Entry]) -> Iterator[list[_Entry]]:
    for start in range(0, len(entries), _ROWS):
        yield entries[start : start + _ROWS]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
