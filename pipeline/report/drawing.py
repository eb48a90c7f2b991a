"""Drawings as SVG inside HTML: text in the page's font, colours that the page names, so that they follow its theme.

matplotlib draws in stand-in colours, which become variables of the page's style sheet.
"""

import io
import logging
import re
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure as Canvas

from pipeline.report.blocks import Figure

INK, MUTED, GRID, ACCENT, SECOND, GROUND = (f"#0{n}0{n}0{n}" for n in range(1, 7))
"""Stand-ins of the page's colours."""
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    ACCENT: "--accent",
    SECOND: "--second",
    GROUND: "--ground",
}

SIZE = (4.6, 3.5)
"""Inches; on a phone one drawing is as wide as the screen, and its text can still be read."""

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "semibold",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.use": True,
}

SHADES = ListedColormap([(*to_rgb(ACCENT), alpha / 10) for alpha in range(2, 11)])
"""From few to many, by opacity: one colour in either theme."""

Draw = Callable[[Axes], None]


def draw(name: str, content: Draw, *, caption: str, size: tuple[float, float] = SIZE) -> Figure:
    """Draw into one pair of axes.

    Args:
        name: Of the drawing, unique in its page: ids of its parts begin with it.
        content: Puts what is to be seen into the axes.
        caption: What is seen, for the reader and for whoever cannot see it.
        size: Width and height, inches.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # building its font cache is no news
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=size)
        axes = canvas.add_subplot()
        content(axes)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Figure(svg=_inline(buffer.getvalue(), name), caption=caption)


def _inline(svg: str, name: str) -> str:
    """Make a drawing a part of the page: no header, ids of its own, the page's colours, as wide as there is room."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    head, _, rest = svg.partition(">")
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest
