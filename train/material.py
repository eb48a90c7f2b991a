"""What trainings on one split read, whatever their networks: prepared once, kept for the next training.

Shape suffixes: M pairs of one part, U distinct vectors.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from embed.pairs import PairTable
from train.baselines import baselines
from train.dataset import Dataset, Matrix, VectorFolders, build_dataset, distinct_rows
from train.errors import TrainError
from train.features import Preparation, fit_preparation, read_preparation, write_preparation
from train.leakage import Leakage, find_leakage
from train.loader import Pairs, Rows
from train.placement import Placement, find_placement
from train.prepared import Mapped, Prepared, map_file, place, unplaced
from train.regressor import Prepare
from train.residue_scale import ResidueScale
from train.splits import Split
from train.streamed import Streamed

Features = Literal["standardise", "whiten"]
Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""

_SIDES = ("antibody", "antigen")


class Material:
    """The pairs, their split and their vectors; what is prepared from them is made when first asked for."""

    def __init__(
        self,
        table: PairTable,
        folders: VectorFolders,
        split: Split,
        device: torch.device,
        *,
        files: Path | None = None,
    ) -> None:
        """Find the vectors of all pairs.

        Args:
            table: The pairs, with their pKd.
            folders: Where the store holds their vectors.
            split: The part of every pair.
            device: Where training runs.
            files: Folder in which prepared vectors lie as files, mapped by all processes of a machine that train
                on the very same split and vectors; None holds them in this process alone.

        Raises:
            TrainError: Vectors are missing in the store, or train or valid hold no measured affinity.
        """
        self.table = table
        self.folders = folders
        self.split = split
        self.device = device
        self.dataset: Dataset = build_dataset(table, folders)
        for part in ("train", "valid"):
            if not len(self.dataset.measured(split.rows(part))):
                raise TrainError(
                    f"No pair of {part} has a measured affinity, all are bounds; use another split or train.split_seed."
                )
        self._files = files
        self._preparations: dict[Features, tuple[Preparation, Preparation]] = {}
        self._leakages: dict[float, Leakage] = {}
        self._pairs: dict[tuple[object, ...], tuple[Pairs, Placement]] = {}

    @cached_property
    def target_mean(self) -> float:
        """Mean measured pKd of the training pairs."""
        return float(self._train_target.mean())

    @cached_property
    def target_std(self) -> float:
        """Deviation of the training pairs' pKd; 1 where they are all alike."""
        return float(self._train_target.std()) or 1.0

    @cached_property
    def baselines(self) -> dict[str, dict[str, object]]:
        """Scores of the baselines on this split."""
        return baselines(self.dataset, self.table, self.split)

    def leakage(self, identity: float) -> Leakage:
        """Tell what test pairs share with training, sequences being near from an identity on."""
        if identity not in self._leakages:
            self._leakages[identity] = find_leakage(self.split, self.table, identity)
        return self._leakages[identity]

    def preparations(self, features: Features) -> tuple[Preparation, Preparation]:
        """Give how antibody and antigen vectors are prepared, by the statistics of the training pairs."""
        if features not in self._preparations:
            train_M2 = self.dataset.row_N2[self.split.rows("train")]
            matrices = (self.dataset.antibodies, self.dataset.antigens)
            antibody, antigen = (
                self._preparation(features, side, matrix, train_M2[:, number])
                for number, (side, matrix) in enumerate(zip(_SIDES, matrices, strict=True))
            )
            self._preparations[features] = antibody, antigen
        return self._preparations[features]

    @property
    def has_residues(self) -> tuple[bool, bool]:
        """Whether residues of antibodies, and of antigens, have vectors."""
        return self.dataset.antibodies.has_residues, self.dataset.antigens.has_residues

    @cached_property
    def scales(self) -> tuple[ResidueScale | None, ResidueScale | None]:
        """How vectors of residues are scaled, on the device; None for a side that has none."""
        train_M2 = self.dataset.row_N2[self.split.rows("train")]
        matrices = (self.dataset.antibodies, self.dataset.antigens)
        antibody, antigen = (
            ResidueScale(matrix.dim).fit(matrix, np.unique(row_M)).to(self.device) if matrix.has_residues else None
            for matrix, row_M in zip(matrices, train_M2.T, strict=True)
        )
        return antibody, antigen

    def pairs(
        self,
        part: Literal["train", "valid"],
        features: Features,
        dtype: torch.dtype,
        asked: Literal["auto"] | Placement,
        *,
        antigens_near: bool,
        progress: Progress,
    ) -> tuple[Pairs, Placement]:
        """Renumber the pairs of a part among the vectors it uses, and place these.

        Args:
            part: Which pairs.
            features: How their vectors are prepared.
            dtype: What prepared vectors are rounded to.
            asked: Where they wait; `auto` chooses.
            antigens_near: Whether antigens wait on the device anyway, being few.
            progress: Told how many are prepared.
        """
        key = (part, features, dtype, asked, antigens_near)
        if key not in self._pairs:
            self._pairs[key] = self._place(part, features, dtype, asked, antigens_near, progress)
        return self._pairs[key]

    @cached_property
    def _train_target(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return self.dataset.target_N[self.dataset.measured(self.split.rows("train"))].astype(np.float64)

    def _preparation(self, features: Features, side: str, matrix: Matrix, row_M: Rows) -> Preparation:
        path = None if self._files is None else self._files / f"{side}-{features}.npz"
        if path is not None and path.exists():
            return read_preparation(path)
        found = fit_preparation(matrix, np.bincount(row_M, minlength=len(matrix)), features)
        if path is not None:
            write_preparation(path, found)
        return found

    def _place(
        self,
        part: Literal["train", "valid"],
        features: Features,
        dtype: torch.dtype,
        asked: Literal["auto"] | Placement,
        antigens_near: bool,
        progress: Progress,
    ) -> tuple[Pairs, Placement]:
        dataset, index_M = self.dataset, self.split.rows(part)
        row_M2, row_U = distinct_rows(dataset.row_N2[index_M])
        sides = [
            unplaced(matrix, rows, _prepare(preparation).to(self.device), scale, dtype)
            for matrix, rows, preparation, scale in zip(
                (dataset.antibodies, dataset.antigens), row_U, self.preparations(features), self.scales, strict=True
            )
        ]
        placement = self._placement(sides, asked)
        wheres: tuple[Placement, Placement] = (placement, "device" if antigens_near else placement)
        antibodies, antigens = (
            self._hold(side, where, f"{name}-{features}-{part}-{str(dtype).rpartition('.')[2]}", progress)
            for name, side, where in zip(_SIDES, sides, wheres, strict=True)
        )
        target_M = (dataset.target_N[index_M] - self.target_mean) / self.target_std
        pairs = Pairs(
            row_M2=row_M2,
            target_M=target_M.astype(np.float32),
            antibodies=antibodies,
            antigens=antigens,
            side_M=None if dataset.side_N is None else dataset.side_N[index_M],
        )
        return pairs, placement

    def _placement(self, sides: list[Mapped | Streamed], asked: Literal["auto"] | Placement) -> Placement:
        held = [side for side in sides if isinstance(side, Mapped)]
        if len(held) < len(sides):
            if asked not in ("auto", "mapped"):
                raise TrainError(
                    f'train.placement = "{asked}": vectors of residues are read from the shards for every batch; use '
                    '"auto" or "mapped".'
                )
            return "mapped"
        return find_placement(sum(side.nbytes for side in held), self.device) if asked == "auto" else asked

    def _hold(self, side: Mapped | Streamed, where: Placement, name: str, progress: Progress) -> Prepared:
        if isinstance(side, Streamed):
            return side
        if self._files is None or where == "mapped" or self.device.type != "cpu":
            return place(side, where, progress)
        return map_file(side, self._files / f"{name}.bin", progress)


def _prepare(preparation: Preparation) -> Prepare:
    prepare = Prepare(*preparation.map_DK.shape)
    prepare.fit(preparation)
    return prepare
