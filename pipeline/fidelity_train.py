"""The A/B test: the regressor itself, trained on the vectors of each precision with the same splits and seeds."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

from embed.config import EmbedConfig
from embed.fingerprint import Source, find_sources
from embed.pairs import PairTable
from embed.sequences import antibody_keys, antigen_keys
from embed.store.writer import ShardWriter, create_folder
from pipeline.fidelity_sample import Role, residues_of
from pipeline.fidelity_scores import SCORES, Score, Scored, compare_scores, score
from pipeline.fidelity_vectors import Arm, Encoded
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.result import TrainResult, scored_rows
from train.rundir import RunDir
from train.stage import run_train

SEEDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressorRow:
    """What the regressor reaches on the vectors of one arm, averaged over the seeds."""

    precision: str
    vector_dtype: str
    valid: Mapping[str, float | None]
    test: Mapping[str, Score]
    seconds: float
    """Of one training, scoring and baselines included."""


class RegressorTrial:
    """Trains on one arm after the other; the first one is the reference."""

    def __init__(
        self,
        embed: EmbedConfig,
        train: TrainConfig,
        table: PairTable,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._embed, self._train, self._table, self._progress = embed, train, table, progress
        self._reference: list[Scored] = []
        self.rows: list[RegressorRow] = []

    def add(self, arm: Arm, vectors: Mapping[Role, Encoded]) -> None:
        """Train on an arm's vectors, through a store of their own that is gone afterwards.

        Raises:
            TrainError: The regressor cannot be trained as the config says.
        """
        config = replace(self._embed, precision=arm.precision, antibody_precision="", antigen_precision="")
        with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
            config = replace(config, store=Path(folder), vector_dtype=arm.vector_dtype)
            folders = store_vectors(config, self._table, vectors)
            results = [self._train_once(arm, number, Path(folder), folders) for number in range(SEEDS)]
        scored = [test for _, test in results]
        self._reference = self._reference or scored
        self.rows.append(
            RegressorRow(
                precision=arm.precision,
                vector_dtype=arm.vector_dtype,
                valid={name: _mean([result.valid and result.valid[name] for result, _ in results]) for name in SCORES},
                test=compare_scores(scored, self._reference),
                seconds=float(np.mean([result.seconds for result, _ in results])),
            )
        )

    def _train_once(self, arm: Arm, number: int, folder: Path, folders: VectorFolders) -> tuple[TrainResult, Scored]:
        run = RunDir(folder / f"run-{number}")

        def progress(phase: str, done: int, total: int) -> None:
            if phase == "training":
                self._progress(f"training on {arm.name}", number * total + done, SEEDS * total)

        result = run_train(
            replace(
                self._train, run=run.root, seed=self._train.seed + number, split_seed=self._train.split_seed + number
            ),
            self._table,
            folders,
            resolved={},
            progress=progress,
        )
        return result, _test_scores(run)


def store_vectors(config: EmbedConfig, table: PairTable, vectors: Mapping[Role, Encoded]) -> VectorFolders:
    """Write vectors that are in memory into the config's store, from where training reads them."""
    sources = find_sources(config)
    # Whichever encoder read them, all antibodies may lie in one folder: the keys tell them apart.
    paired = _write(config, sources.paired, table, antibody_keys(table.antibodies), vectors["antibody"])
    antigen = _write(config, sources.antigen, table, antigen_keys(table.antigens), vectors["antigen"])
    return VectorFolders(paired=paired, single=paired, antigen=antigen)


def _write(
    config: EmbedConfig, source: Source, table: PairTable, key_NK: npt.NDArray[np.uint8], encoded: Encoded
) -> Path:
    folder = create_folder(config.store, source.name, source.facts, source.resolved)
    dim = encoded.vector_ND.shape[1]
    with ShardWriter(folder, fingerprint=source.fingerprint, dim=dim, dtype=config.vector_dtype) as writer:
        writer.add(key_NK, encoded.vector_ND, residues_of(table, source.role))
    return folder


def _test_scores(run: RunDir) -> Scored:
    table = pyarrow.parquet.read_table(run.predictions)
    test = scored_rows(table, "test")
    target_N, prediction_N = (np.array(table[name], np.float64)[test] for name in ("target", "prediction"))
    return score(target_N, prediction_N)


def _mean(values: list[object]) -> float | None:
    known = [value for value in values if isinstance(value, float)]
    return float(np.mean(known)) if known else None
