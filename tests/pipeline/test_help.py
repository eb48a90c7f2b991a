"""What the command line says of itself: examples, first steps, completion."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipeline.cli import BEGIN, main

REPOSITORY = Path(__file__).parents[2]


def all_commands(group, words=()):
    """Every command and group below a group, by the words that name it."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, (*words, name))


COMMANDS = dict(all_commands(main))


def parse(line):
    """Parse a command line as click would run it, and run nothing; returns the words of the command."""
    words, command = shlex.split(line)[1:], main
    context = click.Context(main, info_name="bindcache")
    named = []
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        named.append(name)
    command.make_context(named[-1], list(words), parent=context)
    return tuple(named)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_ends_with_an_example_that_parses(bindcache, words, monkeypatch):
    """The last lines are commands that can be typed, and at 80 columns none is broken."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = bindcache(*words, "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    lines = re.sub(r"\\\n +", "", shown.rpartition("Example:\n")[2]).splitlines()
    assert lines
    for line in lines:
        assert line.startswith("    bindcache "), line
        named = parse(line)
        assert words == named[: len(words)], line


def test_an_example_that_does_not_parse_is_noticed():
    """The test above can fail."""
    with pytest.raises(click.UsageError):
        parse("bindcache embed --confg mine.toml")
    with pytest.raises(click.UsageError):
        parse("bindcache embedd --config mine.toml")


def test_without_arguments_the_three_commands_to_begin_with_are_shown(start):
    """Who types the name alone is told what to type next, and that is no mistake."""
    out, err = (process := start()).communicate()
    assert (process.returncode, err) == (0, "")
    assert re.findall(r"^  (bindcache .*)$", out, re.M) == list(BEGIN)
    assert [parse(line) for line in BEGIN] == [("demo",), ("embed",), ("train",)]
    assert len(out.splitlines()) <= 8


def test_shell_completion_knows_commands_and_options():
    """What click completes, with the variable that the README names."""

    def complete(words):
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "_BINDCACHE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "from pipeline.cli import main; main(prog_name='bindcache')"
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        return run.stdout.split()

    assert "plain,train" in complete("bindcache tr")
    assert "plain,--part" in complete("bindcache embed --pa")
    assert "plain,export" in complete("bindcache store ex")


def test_the_commands_of_the_page_on_formats_parse():
    """Every bindcache line of docs/formats.md names options that are there."""
    page = (REPOSITORY / "docs" / "formats.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("bindcache ")]
    assert len(lines) >= 12
    assert {parse(line) for line in lines} == {("import",), ("store", "export"), ("store", "import"), ("train",)}
