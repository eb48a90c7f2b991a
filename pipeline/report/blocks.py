"""What a page is made of: sections of blocks, plain data that the template turns into HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

Cell = str | int | float | None
"""None is shown as undefined."""

_NARROW = 5
"""Columns of a table that takes half the page's width."""
_NUMBER = re.compile(r"[+-]?[\d.,]+(?:e[+-]\d+)?%?")


def is_number(cell: Cell) -> bool:
    """Tell whether a cell stands to the right, as numbers do."""
    return not isinstance(cell, str) or _NUMBER.fullmatch(cell) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing."""

    kind: ClassVar[str] = "figure"
    svg: str
    """Trusted: from `pipeline.report.drawing` alone."""
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a header; numbers stand to the right."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    @property
    def narrow(self) -> bool:
        """Whether it may stand beside a drawing."""
        return len(self.header) <= _NARROW


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    rows: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text to be copied; folded away where it has a title."""

    kind: ClassVar[str] = "code"
    text: str
    title: str = ""


Block = Figure | Table | Facts | Note | Code


@dataclass(frozen=True, slots=True)
class Section:
    """One question and what answers it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One of the few numbers that matter most."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The answer, then everything that it rests on."""

    kind: str
    """What it is about: a run, a sweep, an embedding."""
    title: str
    answer: str
    cards: Sequence[Card] = ()
    caution: str = ""
    sections: Sequence[Section] = field(default_factory=list)
    table_digest: str = ""
    """SHA-256 of the pairs table, kept in the page."""
