"""Predictions of a trained regressor: in float32 and uncompiled, however it was trained.

Shape suffixes: N pairs.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from train.acceleration import resolve_device
from train.dataset import Dataset
from train.errors import TrainError
from train.loader import Loader
from train.regressor import Regressor
from train.rundir import RunDir
from train.weights import load_regressor

_BATCH = 2048


def predict_batches(regressor: Regressor, loader: Loader, rows: int) -> npt.NDArray[np.float32]:
    """Predict the pKd of all `rows` pairs of a loader, float32 [rows]; it stays in evaluation mode."""
    regressor.eval()
    with torch.no_grad():
        predictions = [regressor(batch.antibody_BD, batch.antigen_BD) for batch in loader.epoch()]
    if not predictions:
        return np.zeros(0, np.float32)
    prediction_N: npt.NDArray[np.float32] = torch.cat(predictions)[:rows].cpu().numpy()
    return prediction_N


def predict_rows(run: Path, dataset: Dataset, *, device: str = "auto") -> npt.NDArray[np.float32]:
    """Predict the pKd of every pair of a dataset with the best weights of a run, float32 [N].

    Args:
        run: Folder of a run that has ended at least one epoch.
        dataset: Pairs with vectors of the same encoders as the run's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        TrainError: The run has no weights, they are damaged, or the vectors have other widths.
    """
    regressor, _ = load_regressor(RunDir(run).weights)
    there = (dataset.antibodies.dim, dataset.antigens.dim)
    if there != regressor.dims:
        raise TrainError(
            f"The run {run} reads vectors of widths {regressor.dims}, the store's have {there}: "
            "embed with the encoders that the run was trained on."
        )
    target = resolve_device(device)
    loader = Loader(dataset, np.arange(len(dataset)), _BATCH, target)
    return predict_batches(regressor.to(target), loader, len(dataset))
