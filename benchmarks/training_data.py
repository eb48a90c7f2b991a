"""A pairs table of the real widths with a planted rule: as the user's table and store, and as one HDF5 file.

Shape suffixes: U distinct sequences, N pairs, D width, L latent factors.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from embed.pairs import PairsConfig, PairTable, read_pairs
from embed.sequences import antibody_keys, antigen_keys
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from train.dataset import VectorFolders

Vectors = npt.NDArray[np.float32]

WIDTHS = (1024, 1280)
"""Of an IgT5 vector and an ESM-2 650M vector."""
_LATENT = 32
_LENGTH = 30
_AT_ONCE = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where everything lies."""

    folder: Path

    @property
    def table(self) -> Path:
        """The pairs table."""
        return self.folder / "pairs.csv"

    @property
    def file(self) -> Path:
        """The same in one HDF5 file: `antibody` and `antigen` vectors, `row` of each pair in them, `pkd`."""
        return self.folder / "vectors.h5"

    def read(self) -> PairTable:
        """Read the table as the command line does."""
        return read_pairs(PairsConfig(path=self.table, affinity="pkd"))

    def folders(self) -> VectorFolders:
        """Name the store's folders."""
        antibodies, antigens = (next((self.folder / "store").glob(f"{name}-*")) for name in ("antibody", "antigen"))
        return VectorFolders(paired=antibodies, single=antibodies, antigen=antigens)


def write_data(folder: Path, *, pairs: int, antibodies: int, antigens: int) -> Data:
    """Draw sequences, vectors and affinities, and write them down; the same arguments write the same.

    Vectors have 32 latent factors behind correlated columns of unequal scale. The rule is additive and bilinear in
    both factors with a bend, plus noise of a tenth of its spread.
    """
    random = np.random.default_rng(0)
    row_N2 = _draw_pairs(random, pairs, antibodies, antigens)
    factors = [random.standard_normal((rows, _LATENT), np.float32) for rows in (antibodies, antigens)]
    antibody_NL, antigen_NL = (factor_UL[row_N] for factor_UL, row_N in zip(factors, row_N2.T, strict=True))
    rule_N = np.tanh(antibody_NL[:, 0]) + antigen_NL[:, 0] + (antibody_NL[:, :4] * antigen_NL[:, :4]).sum(axis=1) / 4
    pkd_N = 8 + rule_N + random.normal(0, 0.1 * rule_N.std(), pairs)
    data = Data(folder=folder)
    texts = [_draw_sequences(random, rows) for rows in (antibodies, antigens)]
    columns = {"heavy": texts[0][row_N2[:, 0]], "light": [""] * pairs, "antigen": texts[1][row_N2[:, 1]], "pkd": pkd_N}
    pa.csv.write_csv(pa.table(columns), data.table)
    vectors = [_mix(random, factor_UL, dim) for factor_UL, dim in zip(factors, WIDTHS, strict=True)]
    keys = antibody_keys([(heavy, None) for heavy in texts[0].tolist()]), antigen_keys(texts[1].tolist())
    for name, key_U16, vector_UD in zip(("antibody", "antigen"), keys, vectors, strict=True):
        _publish(folder / "store", name, key_U16, vector_UD)
    with h5py.File(data.file, "w") as file:
        file["antibody"], file["antigen"] = vectors
        file["row"], file["pkd"] = row_N2, pkd_N.astype(np.float32)
    return data


def _draw_pairs(random: np.random.Generator, pairs: int, antibodies: int, antigens: int) -> npt.NDArray[np.int64]:
    """Draw distinct pairs that use every sequence as evenly as can be."""
    number_N = np.arange(pairs)
    antibody_N, lap_N = number_N % antibodies, number_N // antibodies
    antigen_N = (random.permutation(antibodies)[antibody_N] + lap_N) % antigens
    return np.stack([antibody_N, antigen_N], axis=1)


def _draw_sequences(random: np.random.Generator, rows: int) -> npt.NDArray[np.str_]:
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)[random.integers(0, 20, (rows, _LENGTH))]
    return letters.view(f"S{_LENGTH}")[:, 0].astype(str)


def _mix(random: np.random.Generator, factor_UL: Vectors, dim: int) -> Vectors:
    mixing_LD = random.standard_normal((_LATENT, dim), np.float32) / np.float32(_LATENT**0.5)
    scale_D = np.exp(random.normal(0, 1, dim)).astype(np.float32)
    vector_UD = factor_UL @ mixing_LD
    vector_UD += 0.3 * random.standard_normal(vector_UD.shape, np.float32)
    vector_UD *= scale_D
    return vector_UD


def _publish(store: Path, name: str, key_U16: npt.NDArray[np.uint8], vector_UD: Vectors) -> None:
    facts = {"encoder": name, "of": "benchmarks.train"}
    digest = fingerprint_digest(facts)
    folder = create_folder(store, f"{name}-{digest[:16]}", facts, {})
    with ShardWriter(folder, fingerprint=digest, dim=vector_UD.shape[1], max_seconds=600) as writer:
        for start in range(0, len(vector_UD), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            writer.add(key_U16[part], vector_UD[part], np.full(len(key_U16[part]), _LENGTH, np.int32))


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    write_data(Path(asked.pop("folder")), **asked)
