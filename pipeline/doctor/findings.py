"""One thing that the doctor looked at, and how it is laid out."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import click

Verdict = Literal["ok", "warning", "problem"]

_WIDTH = 80
_MARK = 9
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, what was found, and what to do next."""

    name: str
    verdict: Verdict
    said: str
    next_step: str = ""
    """Empty where all is well."""

    def __post_init__(self) -> None:
        """A finding that is not ok says what to do."""
        assert self.verdict == "ok" or self.next_step, self.name


def lay_out(finding: Finding) -> str:
    """Put a finding into lines of 80 columns, the verdict first; colours are for a terminal, and click drops them."""
    space = " " * _MARK
    said = textwrap.fill(
        f"{finding.name}: {finding.said}", _WIDTH, initial_indent=space, subsequent_indent=space + "  "
    )
    mark = click.style(f"{finding.verdict:<{_MARK}}", fg=_COLOURS[finding.verdict], bold=finding.verdict != "ok")
    lines = [mark + said[_MARK:]]
    if finding.next_step:
        lines.append(
            textwrap.fill(
                f"-> {finding.next_step}",
                _WIDTH,
                initial_indent=space + "  ",
                subsequent_indent=space + "     ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def summary(findings: Iterable[Finding]) -> str:
    """Count the verdicts."""
    verdicts = [finding.verdict for finding in findings]
    counted = [(verdicts.count(verdict), verdict) for verdict in ("problem", "warning", "ok")]
    return ", ".join(f"{count} {word}{'s' * (word != 'ok' and count != 1)}" for count, word in counted if count)
