"""Real tables and real stores, small, for the tests of the train stage."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embed.pairs import PairsConfig, PairTable, read_pairs
from embed.sequences import antibody_keys, antigen_keys
from embed.store.residue_writer import ResidueWriter
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from train.dataset import VectorFolders, build_dataset

Row = tuple[str, str, str, float, str]
"""Heavy, light ("" for none), antigen, pKd, part."""

RESIDUES = list("ACDEFGHIKLMNPQRSTVWY")


def random_sequence(random: np.random.Generator, length: int) -> str:
    return "".join(random.choice(RESIDUES, length))


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[[Sequence[Row]], PairTable]:
    """Write rows as a CSV file and read it as a user's table."""

    def make(rows: Sequence[Row], *, affinity: bool = True, split: bool = False) -> PairTable:
        path = tmp_path / "pairs.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["heavy", "light", "antigen", "pkd", "part"])
            writer.writerows(rows)
        return read_pairs(PairsConfig(path=path, affinity="pkd" if affinity else "", split="part" if split else ""))

    return make


@pytest.fixture
def random_rows() -> Callable[..., list[Row]]:
    """Draw distinct pairs of a few antibodies and antigens, some antibodies without light chain."""

    def draw(pairs: int, *, antibodies: int = 12, antigens: int = 5, single: int = 3, seed: int = 0) -> list[Row]:
        random = np.random.default_rng(seed)
        heavies = [random_sequence(random, int(random.integers(90, 130))) for _ in range(antibodies)]
        lights = ["" if i < single else random_sequence(random, 100) for i in range(antibodies)]
        targets = [random_sequence(random, int(random.integers(60, 400))) for _ in range(antigens)]
        chosen = random.permutation(antibodies * antigens)[:pairs].tolist()
        return [
            (
                heavies[at % antibodies],
                lights[at % antibodies],
                targets[at // antibodies],
                round(random.normal(8, 1), 3),
                "",
            )
            for at in chosen
        ]

    return draw


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Path]:
    """Write keys and vectors as a store folder of their own, in several shards."""

    def write(name: str, key_N16: np.ndarray, vector_ND: np.ndarray, shard_rows: int = 4) -> Path:
        facts = {"encoder": name}
        folder = create_folder(tmp_path / "store", f"{name}-{fingerprint_digest(facts)[:16]}", facts, {})
        digest = fingerprint_digest(facts)
        with ShardWriter(folder, fingerprint=digest, dim=vector_ND.shape[1], shard_rows=shard_rows) as writer:
            writer.add(key_N16, vector_ND, np.ones(len(key_N16), np.int32))
        return folder

    return write


@pytest.fixture
def publish_residues(tmp_path: Path) -> Callable[..., Path]:
    """Write keys and vectors of residues as a store folder of their own, in several shards."""

    def write(name: str, key_N16: np.ndarray, residues: Sequence[np.ndarray], shard_rows: int = 7) -> Path:
        facts = {"encoder": name, "pooling": "none, float16, residues"}
        digest = fingerprint_digest(facts)
        folder = create_folder(tmp_path / "store", f"{name}-{digest[:16]}", facts, {})
        dim, length_N = residues[0].shape[1], np.array([len(each) for each in residues], np.int32)
        with ResidueWriter(folder, fingerprint=digest, dim=dim, shard_rows=shard_rows) as writer:
            writer.add(key_N16, [each.astype(np.float16) for each in residues], length_N)
        return folder

    return write


@pytest.fixture
def embedded(publish: Callable[..., Path]) -> Callable[[PairTable], VectorFolders]:
    """Publish a random vector for every sequence of a table: antibodies 6 wide, antigens 5 wide."""

    def embed(table: PairTable, seed: int = 0) -> VectorFolders:
        random = np.random.default_rng(seed)
        antibody_UD = random.normal(size=(len(table.antibodies), 6)).astype(np.float32)
        antigen_UD = random.normal(size=(len(table.antigens), 5)).astype(np.float32)
        antibodies = publish("igt5-fp32", antibody_keys(table.antibodies), antibody_UD)
        antigens = publish("esm2-fp32", antigen_keys(table.antigens), antigen_UD)
        return VectorFolders(paired=antibodies, single=antibodies, antigen=antigens)

    return embed


def states_of(sequences: Sequence[str], dim: int, seed: int) -> list[np.ndarray]:
    """Give each residue what a letter and a place add up to, [L, D] of each sequence."""
    random = np.random.default_rng(seed)
    letter_256D, place_LD = random.normal(size=(256, dim)), random.normal(size=(500, dim))
    return [letter_256D[np.frombuffer(s.encode(), np.uint8)] + place_LD[: len(s)] for s in sequences]


@pytest.fixture
def embedded_residues(publish_residues) -> Callable[[PairTable], VectorFolders]:
    """Publish vectors of the residues of every sequence of a table: antibodies 6 wide, antigens 5 wide."""

    def embed(table: PairTable) -> VectorFolders:
        chains = [heavy + (light or "") for heavy, light in table.antibodies]
        antibodies = publish_residues("igt5-fp32", antibody_keys(table.antibodies), states_of(chains, 6, seed=1))
        antigens = publish_residues("esm2-fp32", antigen_keys(table.antigens), states_of(table.antigens, 5, seed=2))
        return VectorFolders(paired=antibodies, single=antibodies, antigen=antigens)

    return embed


@dataclass(frozen=True, slots=True)
class Planted:
    """A table whose pKd follows a rule of its vectors, and where these lie."""

    path: Path
    table: PairTable
    folders: VectorFolders


@pytest.fixture
def planted(tmp_path, make_table, random_rows, embedded) -> Callable[..., Planted]:
    """Plant a learnable rule: pKd is a curved function of a few vector columns, plus little noise."""

    def plant(pairs: int = 301, seed: int = 0) -> Planted:
        rows = random_rows(pairs, antibodies=40, antigens=10, seed=seed)
        first = make_table(rows)
        folders = embedded(first)
        dataset = build_dataset(first, folders)
        vector_NF = dataset.features(np.arange(len(dataset)))
        noise_N = np.random.default_rng(seed).normal(0, 0.05, len(dataset))
        pkd_N = 8 + vector_NF[:, 0] - vector_NF[:, 1] + np.tanh(vector_NF[:, 6]) + noise_N
        table = make_table([(*row[:3], float(pkd), row[4]) for row, pkd in zip(rows, pkd_N, strict=True)])
        return Planted(tmp_path / "pairs.csv", table, folders)

    return plant


@pytest.fixture
def planted_residues(tmp_path, make_table, random_rows, embedded_residues) -> Callable[..., Planted]:
    """Give a table of random pKd whose residues have vectors."""

    def plant(pairs: int = 301, seed: int = 0) -> Planted:
        table = make_table(random_rows(pairs, antibodies=40, antigens=10, seed=seed))
        return Planted(tmp_path / "pairs.csv", table, embedded_residues(table))

    return plant
