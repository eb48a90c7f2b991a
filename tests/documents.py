"""What the pages of docs/ hold: fenced blocks with what is said of them, command lines, links and anchors.

A comment before a fence, which readers do not see, says what the tests do with it:

    <!-- file: NAME -->             the block is written to this file
    <!-- output -->                 what the block of commands before it printed, digits apart
    <!-- slow -->                   its commands run among the slow tests, and are parsed in every test
    <!-- only checked: WHY -->      its commands are parsed and never run, as they need a cluster, a network or a GPU

Blocks of `sh` and `python` without any run in every test.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from pipeline.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S
)
_INLINE = re.compile(r"`(bindcache [^`]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)

_OF_LARGE_TABLES = ("Spearman per ",)
"""Lines of output that small tables do not have."""

How = Literal["run", "slow", "only checked"]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def how(self) -> How:
        """Tell what becomes of its commands."""
        if self.mark in ("", "slow"):
            return "slow" if self.mark else "run"
        assert re.fullmatch(r"only checked: (a cluster|a network|a GPU|a server|a shell's start)", self.mark), self
        return "only checked"

    @property
    def commands(self) -> list[str]:
        """List its command lines, continued ones joined and remarks left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """List the fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page=page.name,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            mark=found["mark"] or "",
            text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.M),
        )
        for found in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """Read a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def inline_commands(page: Path) -> list[str]:
    """List what stands between backticks and begins with `bindcache`."""
    return [" ".join(found.split()) for found in _INLINE.findall(prose(page))]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield target and anchor of each relative link; empty where there is none."""
    for target, anchor in _LINK.findall(prose(page)):
        yield target, anchor.removeprefix("#")


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", found) for found in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check(line: str) -> None:
    """Parse a command line; of another program's, which is not run, the commands of bindcache that it is given.

    Raises:
        click.UsageError: A command of bindcache would be refused.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "bindcache":
        parse(line)
        return
    assert words[0] in ("sbatch", "curl", "tar", "tensorboard"), line
    for word in words:
        if word.startswith("bindcache "):
            parse(word)


def parse(line: str) -> None:
    """Parse a command line as click would run it, and run nothing.

    Raises:
        click.UsageError: A command, option or value is not known, or one that is required is missing.
    """
    words, command = shlex.split(line, comments=True)[1:], main
    context = click.Context(main, info_name="bindcache")
    name = "bindcache"
    while isinstance(command, click.Group) and words:
        name, command, words = command.resolve_command(context, words)
    command.make_context(name, list(words), parent=context)


def mentioned(line: str) -> None:
    """Check that a command which prose names exists, with the options that it names; others may be missing.

    Raises:
        click.UsageError: It does not.
    """
    words, command = shlex.split(line)[1:], main
    context = click.Context(main, info_name="bindcache")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        for name in words[0].split("|"):
            _, found, _ = command.resolve_command(context, [name])
        command, words = found, words[1:]
    known = {word for option in command.get_params(context) for word in option.opts}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    if unknown:
        raise click.UsageError(f"{line}: there is no option {' '.join(unknown)}.")


def shape(text: str) -> set[str]:
    """Tell what the lines of output are about: their first cells, numbers apart."""
    cells = (re.split(r" {2,}", line.strip())[0] for line in text.splitlines() if line.strip())
    return {re.sub(r"[\d,.]+", "0", cell) for cell in cells if not cell.startswith(_OF_LARGE_TABLES)}
