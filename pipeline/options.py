"""Options that commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of a table.")


def config_options(command: _Command) -> _Command:
    """Add `--config`, `--set` and `--json`."""
    file = click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help="TOML config.",
    )
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Override a value of the config; TOML or a bare word. May be given again.",
    )
    return file(overrides(as_json(command)))


def out_file(command: _Command) -> _Command:
    """Add `--out`, a Parquet file."""
    return click.option(
        "--out", type=click.Path(path_type=Path), required=True, metavar="FILE.parquet", help="File to write."
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
