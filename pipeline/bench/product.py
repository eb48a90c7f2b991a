"""The product, measured with one optimisation off: by its settings, or by a plain part in the place of its own.

Shapes: N distinct sequences, D width of a vector.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import train.build
import train.material
import train.stage
from embed.config import EmbedConfig, Precision
from embed.encoders.encoder import Encoder
from embed.encoders.loading import choose_device
from embed.fingerprint import Source
from embed.pairs import PairTable
from pipeline.bench.machine import machine_of
from pipeline.bench.optimisations import Optimisation
from pipeline.bench.settings import embed_without, train_without
from pipeline.bench.standins import SynchronousCheckpointer, open_tokenising, pageable_memory, standing_in
from pipeline.fidelity_sample import ROLES, Role, residues_of
from pipeline.fidelity_train import store_vectors
from pipeline.fidelity_vectors import Encoded, encode_role
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.predict import Predictor
from train.result import TrainResult, peak_memory_bytes
from train.splits import make_split

SEEDS = 3

_SPECIAL_TOKENS = 2
"""Most of a piece: two `</s>`, or `<cls>` and `<eos>`."""


def measure_encoding(
    config: EmbedConfig, table: PairTable, without: Optimisation | None, *, instead: Precision, vectors: Path
) -> dict[str, object]:
    """Encode the distinct sequences of a table, and leave their vectors in a folder.

    Args:
        config: With everything on.
        table: The pairs.
        without: What is off.
        instead: Precision of the encoders when INT8 is off.
        vectors: The folder.

    Returns:
        `seconds` of encoding alone, `peak_memory_bytes`, and the `machine`.
    """
    models: list[torch.nn.Module] = []

    def opener(source: Source, asked: EmbedConfig) -> Encoder:
        encoder = open_tokenising(source, asked, official=without is Optimisation.FAST_TOKENS)
        models.append(encoder.model)
        return encoder

    seconds = 0.0
    with ExitStack() as stack:
        if without is Optimisation.PINNED:
            stack.enter_context(pageable_memory())
        for role in ROLES:
            asked = embed_without(config, without, longest=_longest(config, table, role), instead=instead)
            encoded = encode_role(asked, table, role, opener)
            seconds += encoded.seconds
            np.save(vectors / f"{role}.npy", encoded.vector_ND)
    device = torch.device(choose_device(config.device))
    return {"seconds": seconds, "peak_memory_bytes": _peak(device), "machine": machine_of(device, models)}


def measure_training(
    embed: EmbedConfig, config: TrainConfig, table: PairTable, without: Optimisation | None, *, vectors: Path
) -> dict[str, object]:
    """Train on vectors that lie in a folder, with three seeds after one epoch to warm up.

    Returns:
        `seconds` of an epoch (validation and checkpoints included, median of the seeds), the validation `spearman` of
        each seed, and `peak_memory_bytes`.
    """
    asked = train_without(config, without)
    held = {role: Encoded(np.load(vectors / f"{role}.npy"), 0.0) for role in ROLES}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bindcache-")))
        folders = store_vectors(replace(embed, store=folder), table, held)
        stack.enter_context(standing_in(train.material, "baselines", lambda *_: {}))  # not what is measured
        if without is Optimisation.ASYNC_SAVES:
            stack.enter_context(standing_in(train.stage, "Checkpointer", SynchronousCheckpointer))
        if without is Optimisation.WIDE_VALIDATION:
            small = partial(Predictor, pairs_at_once=config.batch_size)
            stack.enter_context(standing_in(train.build, "Predictor", small))
        if without is Optimisation.PINNED:
            stack.enter_context(pageable_memory())
        _train(replace(asked, epochs=1), table, folders, folder / "warm-up")
        seeds = [
            replace(asked, seed=asked.seed + number, split_seed=asked.split_seed + number) for number in range(SEEDS)
        ]
        results = [_train(each, table, folders, folder / f"run-{each.seed}") for each in seeds]
        rows = len(make_split(asked, table).rows("train"))
        return {
            "seconds": float(np.median([rows / result.pairs_per_second for result in results])),
            "spearman": [result.valid and result.valid["spearman"] for result in results],
            "peak_memory_bytes": _peak(torch.device(str(results[0].details["device"]))),
        }


def _train(config: TrainConfig, table: PairTable, folders: VectorFolders, run: Path) -> TrainResult:
    return train.stage.run_train(replace(config, run=run), table, folders, resolved={})


def _longest(config: EmbedConfig, table: PairTable, role: Role) -> int:
    """Count the tokens of the longest piece."""
    residues = int(residues_of(table, role).max())
    return _SPECIAL_TOKENS + (min(residues, config.window) if role == "antigen" else residues)


def _peak(device: torch.device) -> int:
    """Tell the largest memory of the CUDA device that was in use, or that this process had resident."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory_bytes()
