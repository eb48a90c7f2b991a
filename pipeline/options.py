"""Options that commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """Lay commands out as the end of a command's `--help`."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of a table.")


_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override a value of the config; TOML or a bare word. May be given again.",
)


def config_options(command: _Command) -> _Command:
    """Add `--config`, `--set` and `--json`."""
    return _config_file(required=True, help="TOML config.")(_overrides(as_json(command)))


def demo_options(command: _Command) -> _Command:
    """Add the same where the demo serves without a config."""
    return _config_file(required=False, help="TOML config; the demo, made anew, unless given.")(
        _overrides(as_json(command))
    )


def optional_config(command: _Command) -> _Command:
    """Add the same where the machine alone is looked at without a config."""
    return _config_file(required=False, help="TOML config; the machine alone, unless given.")(
        _overrides(as_json(command))
    )


def _config_file(*, required: bool, help: str) -> Callable[[_Command], _Command]:
    path = click.Path(path_type=Path)
    return click.option("--config", "path", type=path, required=required, metavar="FILE", help=help)


def out_file(command: _Command) -> _Command:
    """Add `--out`, a Parquet file."""
    return click.option(
        "--out", type=click.Path(path_type=Path), required=True, metavar="FILE.parquet", help="File to write."
    )(command)


def profile_file(command: _Command) -> _Command:
    """Add `--profile`, a Chrome trace."""
    return click.option(
        "--profile",
        type=click.Path(path_type=Path),
        metavar="FILE.json[.gz]",
        help="Write a torch profiler trace of a few steady steps.",
    )(command)


class Part(click.ParamType[tuple[int, int]]):
    """`i/N` with 1 <= i <= N."""

    name = "i/N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the two numbers."""
        share, slash, parts = str(value).partition("/")
        if slash and share.isdecimal() and parts.isdecimal() and 1 <= int(share) <= int(parts):
            return int(share), int(parts)
        return self.fail(f"{value!r} is not i/N with 1 <= i <= N, such as 2/8.", param, ctx)
