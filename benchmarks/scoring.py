"""From seconds and vectors to the columns of the table: pure functions."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contestants import REFERENCE, is_baseline
from benchmarks.measuring import Measured
from benchmarks.shapes import Shape

# N sequences, D width

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A median with the least and the most of the rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant's columns; None where there is nothing to say."""

    name: str
    says: str
    why_not: str = ""
    residues_per_second: Span | None = None
    tokens_per_second: float | None = None
    ratio: Span | None = None
    """Residues a second over the honest baseline's in the same round."""
    of_matmul: float | None = None
    """Share of the rate of one large matrix product in the same arithmetic, measured in the same rounds."""
    peak_bytes: int | None = None
    relative_error: float | None = None
    """Largest, over sequences, of |v - v32| / |v32| with v32 the vectors of ours in fp32."""
    spread_over_error: float | None = None
    """Distance of the sequences from their mean over that of the errors from theirs, root mean squares."""
    neighbours_over_error: float | None = None
    """Median, over sequences, of the distance to the nearest neighbour over how much their two errors differ."""
    first_seconds: float | None = None
    large_seconds: tuple[float, ...] = ()
    small_seconds: tuple[float, ...] = ()
    notes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the seconds of a round bought."""

    shape: Shape
    residues: int
    """Of the large table less the small one."""
    tokens: int
    """Likewise, special tokens included, padding not."""


def score(results: Sequence[Measured], work: Work, rates: Mapping[str, float]) -> tuple[list[Row], str]:
    """Turn measurements into rows.

    Args:
        results: One a contestant.
        work: What was encoded.
        rates: Operations a second of a large matrix product, by arithmetic.

    Returns:
        The rows in the same order, and the name of the honest baseline, empty where none ran.
    """
    baseline = _best_baseline(results)
    reference = next((result.vector_ND for result in results if result.contestant.name == REFERENCE), None)
    return [_row(result, work, rates, baseline, reference) for result in results], (
        baseline.contestant.name if baseline else ""
    )


def span(values: Sequence[float]) -> Span:
    """Summarise rounds."""
    return Span(median=statistics.median(values), least=min(values), most=max(values))


def relative_error(vector_ND: Vectors, reference_ND: Vectors) -> float:
    """Largest |v - v32| / |v32| over sequences."""
    error_N = np.linalg.norm(vector_ND - reference_ND, axis=1)
    return float((error_N / np.linalg.norm(reference_ND, axis=1)).max())


def spread_over_error(vector_ND: Vectors, reference_ND: Vectors) -> float:
    """Spread between sequences over the error that differs between them; infinite without such an error.

    An error that all sequences share moves them together and confuses nobody; only the rest of it counts.
    """
    error_ND = vector_ND.astype(np.float64) - reference_ND
    error = np.linalg.norm(error_ND - error_ND.mean(0))
    spread = np.linalg.norm(reference_ND - reference_ND.mean(0, dtype=np.float64))
    return float(spread / error) if error else float("inf")


def neighbours_over_error(vector_ND: Vectors, reference_ND: Vectors) -> float:
    """Distance of a sequence from its nearest neighbour over the difference of their errors, median over sequences.

    Near 1 or below, two mutants can change places: what is left of the error after what both share.
    """
    error_ND = vector_ND.astype(np.float64) - reference_ND
    nearest_N, distance_N = nearest_neighbours(reference_ND)
    differs_N = np.linalg.norm(error_ND - error_ND[nearest_N], axis=1)
    with np.errstate(divide="ignore"):
        return float(np.median(distance_N / differs_N))


def nearest_neighbours(vector_ND: Vectors) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Find each vector's nearest neighbour and its distance; at least two distinct vectors."""
    whole_ND = vector_ND.astype(np.float64)
    nearest = []
    distance = []
    for n, vector_D in enumerate(whole_ND):
        distance_N = np.linalg.norm(whole_ND - vector_D, axis=1)
        distance_N[n] = np.inf
        nearest.append(int(distance_N.argmin()))
        distance.append(float(distance_N.min()))
    return np.array(nearest, np.int64), np.array(distance)


def _row(
    result: Measured, work: Work, rates: Mapping[str, float], baseline: Measured | None, reference: Vectors | None
) -> Row:
    contestant = result.contestant
    if result.why_not or not result.large:
        return Row(name=contestant.name, says=contestant.says, why_not=result.why_not or "ran no round")
    if min(result.seconds) <= 0:
        too_short = "the large table took no longer than the small one: use more --sequences"
        return Row(name=contestant.name, says=contestant.says, why_not=too_short)
    seconds = statistics.median(result.seconds)
    operations = 2 * contestant.products * work.shape.weights * work.tokens
    rate = rates.get(contestant.rate)
    error, spread, neighbours = _fidelity(result, reference)
    return Row(
        name=contestant.name,
        says=contestant.says,
        residues_per_second=span([work.residues / s for s in result.seconds]),
        tokens_per_second=work.tokens / seconds,
        ratio=_ratio(result, baseline),
        of_matmul=operations / seconds / rate if rate else None,
        peak_bytes=result.peak_bytes,
        relative_error=error,
        spread_over_error=spread,
        neighbours_over_error=neighbours,
        first_seconds=result.first_seconds,
        large_seconds=tuple(result.large),
        small_seconds=tuple(result.small),
        notes=result.notes,
    )


def _fidelity(result: Measured, reference: Vectors | None) -> tuple[float | None, float | None, float | None]:
    vector_ND = result.vector_ND
    if reference is None or vector_ND is None or result.contestant.name == REFERENCE:
        return None, None, None
    return (
        relative_error(vector_ND, reference),
        spread_over_error(vector_ND, reference),
        neighbours_over_error(vector_ND, reference),
    )


def _ratio(result: Measured, baseline: Measured | None) -> Span | None:
    if baseline is None:
        return None
    # a round that broke off leaves fewer
    return span([theirs / ours for theirs, ours in zip(baseline.seconds, result.seconds, strict=False)])


def _best_baseline(results: Sequence[Measured]) -> Measured | None:
    ran = [r for r in results if is_baseline(r.contestant.name) and not r.why_not and r.large and min(r.seconds) > 0]
    return min(ran, key=lambda r: statistics.median(r.seconds), default=None)
