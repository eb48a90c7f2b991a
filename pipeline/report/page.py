"""From a page's blocks to one HTML file that needs nothing else: no network, no script, no other file."""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.blocks import Cell, Page, is_number

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "report.html"
_NEEDED = ("matplotlib", "jinja2")


def why_not() -> str | None:
    """Tell what is missing to make a page; None where nothing is."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed; pip install 'bindcache[report]'"


def write_page(path: Path, page: Page) -> None:
    """Put a page under its name in one step."""
    from embed.store.durable import replace_file  # brings numpy, which no --help waits for

    replace_file(path, render(page).encode("utf-8"))


def render(page: Page) -> str:
    """Lay a page out as HTML; every text in it is escaped."""
    return _template().render(page=page)


def visible(text: str) -> str:
    """Spell out what would not show or would act on a terminal: control, direction and other unprintable characters."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def shown(cell: Cell) -> str:
    """Put a cell in words."""
    if cell is None:
        return "undefined"
    if isinstance(cell, float):
        return f"{round(cell, 3) + 0.0:.3f}" if abs(cell) < 1000 else f"{cell:,.0f}"  # no minus before nothing
    return f"{cell:,}" if isinstance(cell, int) else visible(cell)


@functools.cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["visible"] = visible
    environment.tests["right"] = is_number
    return environment.get_template("page.html")
