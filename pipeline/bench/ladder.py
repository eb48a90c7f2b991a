"""`bindcache bench --ladder`: from the loop that everybody writes first to the store, one optimisation after the other.

1. time the naive loop on a sample of its steps: both encoders inside, one sequence at a time
2. add the ten optimisations one by one, each rung in a process of its own
3. last the store: encode each distinct sequence once, as configured, and train on the vectors
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.bench.optimisations import Machine, Optimisation, cannot_matter
from pipeline.bench.processes import Bench

EPOCHS = 50
STORE = "the store"
NAIVE = "naive loop"

BATCH, ACCUMULATION, SAVE_EVERY = 12, 4, 500
"""Of the loop: pairs in a batch, batches in a step of the optimizer, batches between saves."""

RUNGS = len(Optimisation) + 2
MEASUREMENTS = RUNGS + 1
"""Processes: one for each rung, two for the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the whole table is beside the sample."""

    pairs: int
    sampled_pairs: int
    train_pairs: int
    """Of the sample, as the two below."""
    valid_pairs: int
    residues: int
    """Of distinct sequences."""
    residues_of_table: int

    @property
    def scale(self) -> float:
        """Pairs of the table for each pair of the sample."""
        return self.pairs / self.sampled_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """The loop with everything on up to here."""

    name: str
    epoch_seconds: float
    """Of the whole table."""
    hours: float
    """For 50 epochs, the encoding of the store included."""
    factor: float
    """Hours of the naive loop over these."""
    spearman: float | None
    """Of the validation pairs of the sample."""
    peak_memory_bytes: int
    remark: str
    """Why it cannot matter on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What `bindcache bench --ladder` found."""

    machine: Machine
    sizes: Sizes
    timed_batches: int
    """Of the naive loop; every rung is timed on a sample of its batches."""
    rungs: Sequence[Rung]

    def as_json(self) -> dict[str, object]:
        """List the result as `bench --json` prints it."""
        return asdict(self)


def climb(bench: Bench, sizes: Sizes) -> Ladder:
    """Measure every rung."""
    answers = {
        NAIVE if not count else str(list(Optimisation)[count - 1]): bench.run(
            kind="rung", on=tuple(Optimisation)[:count]
        )
        for count in range(len(Optimisation) + 1)
    }
    vectors = str(bench.vectors("store"))
    encoded = bench.run(kind="encode", vectors=vectors, as_configured=True)
    trained = bench.run(kind="train", vectors=vectors, as_configured=True)
    machine = Machine(**answers[NAIVE]["machine"])
    seconds = {name: loop_seconds(answer, sizes) for name, answer in answers.items()}
    hours = {name: EPOCHS * each / 3600 for name, each in seconds.items()}
    rungs = [
        Rung(
            name=name,
            epoch_seconds=seconds[name],
            hours=hours[name],
            factor=hours[NAIVE] / hours[name],
            spearman=answer["spearman"],
            peak_memory_bytes=answer["peak_memory_bytes"],
            remark="" if name == NAIVE else cannot_matter(Optimisation(name), machine) or "",
        )
        for name, answer in answers.items()
    ]
    return Ladder(
        machine=machine,
        sizes=sizes,
        timed_batches=int(answers[NAIVE]["batches"]),
        rungs=[*rungs, _store_rung(encoded, trained, sizes, hours[NAIVE])],
    )


def loop_seconds(answer: Mapping[str, Any], sizes: Sizes) -> float:
    """Compose an epoch over the whole table from the parts that were timed."""
    batches = sizes.train_pairs / BATCH
    training = batches * float(answer["batch_seconds"])
    validation = sizes.valid_pairs * float(answer["valid_pair_seconds"])
    saving = batches / SAVE_EVERY * float(answer["save_seconds"])
    return (training + validation + saving) * sizes.scale


def _store_rung(encoded: Mapping[str, Any], trained: Mapping[str, Any], sizes: Sizes, naive_hours: float) -> Rung:
    encoding = encoded["seconds"] * sizes.residues_of_table / sizes.residues
    epoch = trained["seconds"] * sizes.scale
    hours = (encoding + EPOCHS * epoch) / 3600
    scores = [score for score in trained["spearman"] if score is not None]
    return Rung(
        name=STORE,
        epoch_seconds=epoch,
        hours=hours,
        factor=naive_hours / hours,
        spearman=sum(scores) / len(scores) if scores else None,
        peak_memory_bytes=max(encoded["peak_memory_bytes"], trained["peak_memory_bytes"]),
        remark="",
    )
