"""Many points in one drawing: one by one where there are few, as shaded cells where there are many.

Shape suffix: N points.
"""

import numpy as np
from matplotlib.axes import Axes

from pipeline.report.drawing import ACCENT, SHADES
from pipeline.report.finished import Floats

MOST_POINTS = 2000
"""Above this a drawing would take megabytes and its points would hide each other."""
_CELLS = 42


def scatter(axes: Axes, x_N: Floats, y_N: Floats) -> None:
    """Put points or cells into axes."""
    if len(x_N) <= MOST_POINTS:
        size = float(np.clip(4000 / max(len(x_N), 1), 6, 26))
        axes.scatter(x_N, y_N, s=size, color=ACCENT, alpha=0.55, linewidths=0)
    elif np.ptp(x_N) and np.ptp(y_N):
        axes.hexbin(x_N, y_N, gridsize=_CELLS, bins="log", mincnt=1, cmap=SHADES, linewidths=0)
    else:
        axes.scatter(x_N[:1], y_N[:1], s=26, color=ACCENT, linewidths=0)


def how_drawn(points: int) -> str:
    """Say in a caption how points are drawn."""
    return f"All {points:,} pairs; darker cells hold more." if points > MOST_POINTS else f"{points:,} pairs."
