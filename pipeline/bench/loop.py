"""The training loop that has its encoders inside: batches of 12, four of them a step, everything in plain torch.

Shapes: B pairs at once, M validation pairs, D width of a vector.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from embed.pairs import PairTable
from pipeline.bench.ladder import ACCUMULATION, BATCH
from pipeline.bench.naive import Index, Network, Reader
from pipeline.bench.optimisations import Optimisation
from train.config import TrainConfig
from train.loader import epoch_order
from train.metrics import rmse, spearman
from train.splits import make_split

WIDE_BATCH = 128
"""Validation pairs in a batch, where a larger one is on."""


class Loop:
    """Trains a network on the pairs of a table."""

    def __init__(
        self,
        config: TrainConfig,
        table: PairTable,
        readers: Sequence[Reader],
        on: Collection[Optimisation],
        device: torch.device,
    ) -> None:
        """Take the readers of antibodies and of antigens."""
        assert table.affinity_N is not None
        split = make_split(config, table)
        self.train_rows, self.valid_rows = split.rows("train"), split.rows("valid")
        self.valid_batch = WIDE_BATCH if Optimisation.WIDE_VALIDATION in on else BATCH
        self._config, self._readers, self._device = config, readers, device
        self._pair_N2 = table.pair_N2.astype(np.int64)
        train_target = table.affinity_N[self.train_rows]
        self._mean, self._std = float(train_target.mean()), float(train_target.std()) or 1.0
        self._target_N = table.affinity_N
        scaled_N = (table.affinity_N - self._mean) / self._std
        self._scaled_N = torch.from_numpy(scaled_N.astype(np.float32)).to(device)
        torch.manual_seed(config.seed)
        width = sum(reader(np.zeros(1, np.int64)).shape[1] for reader in readers)
        recompute = Optimisation.CHECKPOINTED in on
        self.network = Network(width, config.widths, dropout=config.dropout, recompute=recompute).to(device)
        self._forward: Any = torch.compile(self.network) if Optimisation.COMPILED in on else self.network
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self._batches = self._epoch = 0

    def train_batches(self) -> Iterator[None]:
        """Train one epoch, a batch for each item; what fills no batch is left out."""
        order = self.train_rows[epoch_order(self._config.seed, self._epoch, len(self.train_rows))]
        self._epoch += 1
        self.network.train()
        batch = min(BATCH, len(order))
        for start in range(0, len(order) - batch + 1, batch):
            self._train_batch(order[start : start + batch])
            yield

    def valid_batches(self) -> Iterator[npt.NDArray[np.float32]]:
        """Predict the validation pairs in scaled units, a batch for each item."""
        self.network.eval()
        for start in range(0, len(self.valid_rows), self.valid_batch):
            with torch.no_grad():
                score_B = self.network(self._vectors(self.valid_rows[start : start + self.valid_batch]))
            yield score_B.cpu().numpy()

    def learn(self) -> float | None:
        """Train all epochs; returns the validation Spearman of the one with the least validation error."""
        best, score = math.inf, None
        target_M = self._target_N[self.valid_rows]
        for _ in range(self._config.epochs):
            for _ in self.train_batches():
                pass
            prediction_M = np.concatenate(list(self.valid_batches())).astype(np.float64) * self._std + self._mean
            error = rmse(target_M, prediction_M)
            if error is not None and error < best:
                best, score = error, spearman(target_M, prediction_M)
        return score

    def state(self) -> dict[str, Any]:
        """Gather what a checkpoint holds."""
        return {
            "model": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._batches,
            "best_step": 0,
        }

    def _train_batch(self, row_B: Index) -> None:
        error_B = self._forward(self._vectors(row_B)) - self._scaled_N[torch.from_numpy(row_B).to(self._device)]
        (error_B.square().mean() / ACCUMULATION).backward()
        self._batches += 1
        if self._batches % ACCUMULATION == 0:
            self._optimizer.step()
            self._optimizer.zero_grad()

    def _vectors(self, row_B: Index) -> torch.Tensor:
        return torch.cat([read(self._pair_N2[row_B, side]) for side, read in enumerate(self._readers)], dim=1)
