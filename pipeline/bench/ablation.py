"""`bindcache bench --ablate`: each of the ten optimisations alone off, everything else on.

1. encode a sample with everything on, then with each optimisation of encoding off; the vectors are kept
2. train with everything on, on each of these vectors, then with each optimisation of training off
3. measure with everything on once more: what differs between twice the same is noise
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pipeline.bench.optimisations import Machine, Optimisation, cannot_matter
from pipeline.bench.processes import Bench
from pipeline.fidelity_sample import ROLES
from pipeline.fidelity_scores import VectorFidelity, compare_vectors

LEAST_NOISE = 0.05
"""Share by which measurements differ on a machine that does other things too, at least."""

ALL = "everything on"
CONFIGURED = "as configured"

ENCODING: Mapping[str, dict[str, str]] = {
    ALL: {},
    "batched embedding": {"without": Optimisation.BATCHED},
    "packing": {"without": Optimisation.PACKED},
    "INT8 (fp32 instead)": {"without": Optimisation.INT8, "instead": "fp32"},
    "INT8 (bf16 instead)": {"without": Optimisation.INT8, "instead": "bf16"},
    "fast tokenising": {"without": Optimisation.FAST_TOKENS},
    "pinned memory": {"without": Optimisation.PINNED},
}
"""What is asked for each row of encoding, by what is off."""

TRAINING: Mapping[str, dict[str, Any]] = {
    ALL: {},
    "activation checkpointing": {"without": Optimisation.CHECKPOINTED},
    "compiled regressor": {"without": Optimisation.COMPILED},
    "cuDNN benchmark": {"without": Optimisation.CUDNN},
    "larger validation batch": {"without": Optimisation.WIDE_VALIDATION},
    "asynchronous checkpoints": {"without": Optimisation.ASYNC_SAVES},
    "pinned memory": {"without": Optimisation.PINNED},
    CONFIGURED: {"as_configured": True},
}

_REFERENCE = "INT8 (fp32 instead)"
"""The row whose vectors the others are compared with."""

Verdict = Literal["pays", "does not pay", "makes no difference", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One optimisation off."""

    name: str
    seconds: float
    """Of encoding, or of an epoch."""
    factor: float
    """Seconds without the optimisation over seconds with everything on."""
    verdict: Verdict
    peak_memory_bytes: int
    vectors: Mapping[str, VectorFidelity] | None
    """By role, against fp32; of encoding."""
    spearman: Sequence[float]
    """Of the validation pairs, for each seed where it is defined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What `bindcache bench --ablate` found."""

    machine: Machine
    sample: int
    """Pairs, at most."""
    noise: Mapping[str, float]
    """By stage: the share by which twice the same differed, at least 5 %."""
    encoding: Sequence[Row]
    training: Sequence[Row]
    cannot_matter: Mapping[str, str]
    """Optimisations that change nothing on this machine, and why."""

    def as_json(self) -> dict[str, object]:
        """List the result as `bench --json` prints it."""
        return asdict(self)


MEASUREMENTS = 2 * len(ENCODING) + len(TRAINING) + 1
"""Processes of an ablation where nothing is left out; the base is measured twice."""


def ablate(bench: Bench) -> Ablation:
    """Measure every row that can matter on this machine."""
    base = bench.run(kind="encode", vectors=str(bench.vectors(ALL)))
    machine = Machine(**base["machine"])
    encoded = {ALL: base}
    for name, asked in _possible(ENCODING, machine).items():
        encoded[name] = bench.run(kind="encode", vectors=str(bench.vectors(name)), **asked)
    encoded_again = bench.run(kind="encode", vectors=str(bench.vectors("again")))
    scores = {name: bench.run(kind="train", vectors=str(bench.vectors(name))) for name in encoded}
    on_all = str(bench.vectors(ALL))
    trained = {ALL: scores[ALL]} | {
        name: bench.run(kind="train", vectors=on_all, **asked) for name, asked in _possible(TRAINING, machine).items()
    }
    trained_again = bench.run(kind="train", vectors=on_all)
    noise = {
        "encoding": noise_of(base["seconds"], encoded_again["seconds"]),
        "training": noise_of(trained[ALL]["seconds"], trained_again["seconds"]),
    }
    vectors = {name: _fidelity(bench, name) for name in encoded}
    spearman = {name: answer["spearman"] for name, answer in scores.items()}
    return Ablation(
        machine=machine,
        sample=bench.sample,
        noise=noise,
        encoding=[
            _row(name, answer, base, noise["encoding"], spearman=spearman[name], vectors=vectors[name])
            for name, answer in encoded.items()
        ],
        training=[
            _row(name, answer, trained[ALL], noise["training"], spearman=answer["spearman"])
            for name, answer in trained.items()
        ],
        cannot_matter={name: why for name in Optimisation if (why := cannot_matter(name, machine))},
    )


def noise_of(once: float, again: float) -> float:
    """Tell by which share two measurements of the same differ, at least 5 %."""
    return max(LEAST_NOISE, max(once, again) / min(once, again) - 1)


def judge(factor: float, noise: float) -> Verdict:
    """Say what an optimisation is worth that makes things faster by a factor."""
    if factor > 1 + noise:
        return "pays"
    return "does not pay" if factor < 1 / (1 + noise) else "makes no difference"


def _possible(asked: Mapping[str, dict[str, Any]], machine: Machine) -> dict[str, dict[str, Any]]:
    """Leave out the base, and what cannot matter."""
    return {
        name: settings
        for name, settings in asked.items()
        if name != ALL and not ("without" in settings and cannot_matter(settings["without"], machine))
    }


def _fidelity(bench: Bench, name: str) -> dict[str, VectorFidelity]:
    here, reference = bench.vectors(name), bench.vectors(_REFERENCE)
    return {role: compare_vectors(np.load(here / f"{role}.npy"), np.load(reference / f"{role}.npy")) for role in ROLES}


def _row(
    name: str,
    answer: Mapping[str, Any],
    base: Mapping[str, Any],
    noise: float,
    *,
    spearman: Sequence[float | None],
    vectors: Mapping[str, VectorFidelity] | None = None,
) -> Row:
    factor = answer["seconds"] / base["seconds"]
    return Row(
        name=name,
        seconds=answer["seconds"],
        factor=factor,
        verdict="" if name in (ALL, CONFIGURED) else judge(factor, noise),
        peak_memory_bytes=answer["peak_memory_bytes"],
        vectors=vectors,
        spearman=[score for score in spearman if score is not None],
    )
