"""Text of a user's table made safe to show: no spreadsheet runs it, no terminal obeys it."""

import re

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")  # the full-width ones count as well
_NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")


def harmless(cell: str) -> str:
    """Put a `'` before what a spreadsheet would run as a formula, and escape unprintable characters."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cell)
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
