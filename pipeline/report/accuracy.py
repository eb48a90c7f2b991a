"""How close predictions come: against the measurements, against the baselines, and where they miss most.

Shape suffixes: M pairs of the test part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline.report.blocks import Cell, Figure, Section, Table
from pipeline.report.drawing import ACCENT, GROUND, MUTED, SECOND, draw
from pipeline.report.finished import Finished, Floats
from pipeline.report.scatter import how_drawn, scatter

_WORST = 10
_LEAST_FOR_TENTHS = 50
_OURS = "regressor"


def against_baselines(found: Finished) -> Section:
    """Compare the regressor with the baselines on the test pairs."""
    scores = test_scores(found.result)
    known = [(name, each) for name, each in scores.items() if each["spearman"] is not None]
    blocks: list[Figure | Table] = []
    if known:
        blocks.append(
            draw(
                "baselines",
                lambda axes: _draw_intervals(axes, known),
                caption="Spearman on the test pairs, with 95 % bootstrap intervals over pairs.",
                size=(4.6, 0.9 + 0.42 * len(known)),
            )
        )
    header = (f"test, {found.result['test']['n']:,} pairs", "Spearman", "95 %", "R²", "RMSE")
    rows = [
        (name, each["spearman"], interval(each["spearman_ci"]), each["r2"], each["rmse"])
        for name, each in scores.items()
    ]
    return Section("Against the baselines", [*blocks, Table(header=header, rows=rows, caption=_CAPTION)])


_CAPTION = (
    "RMSE in pKd units. The mean predicts the training mean for all; the ridges are linear models, one on the "
    "residue composition of the sequences, one on the very vectors that the regressor reads."
)


def predictions(found: Finished) -> Section:
    """Show predictions against measurements, errors against predictions, and the largest errors."""
    target_M, prediction_M = found.of("test")
    error_M = prediction_M - target_M
    told = how_drawn(len(target_M))
    tenths = "Orange: the mean of each tenth. " if len(target_M) >= _LEAST_FOR_TENTHS else ""
    return Section(
        "Predicted and measured",
        [
            draw(
                "parity",
                lambda axes: _draw_parity(axes, target_M, prediction_M),
                caption=f"Predicted against measured pKd, test part. On the line they agree. {told}",
            ),
            draw(
                "residuals",
                lambda axes: _draw_residuals(axes, prediction_M, error_M),
                caption=f"Predicted minus measured, against the prediction. {tenths}{told}",
            ),
            draw(
                "errors",
                lambda axes: _draw_errors(axes, found),
                caption="How errors are spread in the three parts; training far narrower than test is overfitting.",
            ),
            _worst(found, error_M),
            *_intervals(found.result.get("intervals", {})),
        ],
    )


def test_scores(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """List the scores on the test pairs by name, the regressor's first."""
    return {_OURS: result["test"]} | {name: each["test"] for name, each in result["baselines"].items()}


def interval(bounds: Sequence[float] | None) -> str:
    """Put the bounds of an interval in words."""
    return "" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _draw_intervals(axes: Axes, known: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    for place, (name, each) in enumerate(reversed(known)):
        colour = ACCENT if name == _OURS else MUTED
        if each["spearman_ci"] is not None:
            axes.plot(each["spearman_ci"], [place, place], color=colour, linewidth=2.2)
        axes.plot(each["spearman"], place, "o", color=colour, markeredgecolor=GROUND, markersize=8)
    axes.set_yticks(range(len(known)), [name for name, _ in reversed(known)])
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Spearman")


def _draw_parity(axes: Axes, target_M: Floats, prediction_M: Floats) -> None:
    both = np.concatenate([target_M, prediction_M])
    margin = 0.04 * float(np.ptp(both)) or 0.5
    ends = float(both.min()) - margin, float(both.max()) + margin
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    scatter(axes, target_M, prediction_M)
    axes.set(xlabel="measured pKd", ylabel="predicted pKd", xlim=ends, ylim=ends)


def _draw_residuals(axes: Axes, prediction_M: Floats, error_M: Floats) -> None:
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    scatter(axes, prediction_M, error_M)
    if len(error_M) >= _LEAST_FOR_TENTHS:
        order_M = np.argsort(prediction_M, kind="stable")
        tenths = np.array_split(order_M, 10)
        middle, mean = [prediction_M[t].mean() for t in tenths], [error_M[t].mean() for t in tenths]
        axes.plot(middle, mean, color=SECOND, marker="o", markersize=4)
    axes.set(xlabel="predicted pKd", ylabel="predicted - measured")


def _draw_errors(axes: Axes, found: Finished) -> None:
    spread = {part: np.subtract(*found.of(part)[::-1]) for part in ("train", "valid", "test")}
    widest = max(float(np.abs(error_M).max(initial=0)) for error_M in spread.values()) or 1.0
    edges = np.linspace(-widest, widest, 42)
    styles = {"train": (MUTED, 1.4), "valid": (SECOND, 1.4), "test": (ACCENT, 2.2)}
    for part, error_M in spread.items():
        if len(error_M):
            colour, width = styles[part]
            count = np.histogram(error_M, edges)[0] / len(error_M)
            axes.stairs(count, edges, color=colour, linewidth=width, label=part)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.legend()
    axes.set(xlabel="predicted - measured pKd", ylabel="share of the part's pairs")


def _intervals(intervals: Mapping[str, Any]) -> list[Table]:
    """List how wide intervals are and what they held; nothing for runs from before there were any."""
    caption = (
        "Intervals around predictions, from the errors of the validation pairs. On pairs as new as the test pairs they "
        "hold the share that they name; undefined where there are too few validation pairs."
    )
    rows = [
        (f"{float(level):.0%}", each["half_width"], None if each["coverage"] is None else f"{each['coverage']:.1%}")
        for level, each in intervals.items()
    ]
    header = ("interval", "±, pKd", "test pairs inside")
    return [Table(header=header, rows=rows, caption=caption)] if rows else []


def _worst(found: Finished, error_M: Floats) -> Table:
    row_M = found.rows("test")
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-np.abs(error_M), kind="stable")[:_WORST].tolist():
        row = int(row_M[place])
        rows.append(
            (found.ids[row], float(found.target_N[row]), float(found.prediction_N[row]), f"{error_M[place]:+.3f}")
        )
    caption = "The largest errors of the test part; a wrong measurement, unit or sequence often shows here first."
    return Table(header=("pair", "measured", "predicted", "error"), rows=rows, caption=caption)
