"""The one place where what went wrong becomes a sentence and an exit code."""

import os
import time
from pathlib import Path
from typing import NoReturn

import click

from embed.errors import EmbedError
from pipeline.errors import ConfigError
from pipeline.signals import INTERRUPTED
from train.errors import TrainError

_IMPORTED = time.time()


class Boundary(click.Group):
    """A group of commands whose mistakes end in one or two sentences on stderr, never in a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they are defined, which is the order of use."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; leave with 2 for a user's mistake, 130 for Ctrl-C and 1 for anything else."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (EmbedError, TrainError, ConfigError) as error:
            _leave(ctx, str(error), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            _leave(ctx, "interrupted.", INTERRUPTED)
        except OSError as error:
            _leave(ctx, _sentence(error), 1)
        except Exception as error:
            # The only broad one: whatever is not foreseen is ours, and the user should see a sentence.
            if os.environ.get("BINDCACHE_TRACEBACK"):
                raise
            _leave(
                ctx,
                f"{type(error).__name__}: {error}\n"
                "This is a bug; run with BINDCACHE_TRACEBACK=1 to see where, and report it.",
                1,
            )


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of show; a file's ids and names may hold it."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def process_start() -> float:
    """Tell when this process started, in seconds since the epoch; or else when this module was imported."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return _IMPORTED
    return time.time() - uptime


def _leave(ctx: click.Context, message: str, code: int) -> NoReturn:
    click.echo(f"Error: {printable(message)}", err=True)
    ctx.exit(code)


def _sentence(error: OSError) -> str:
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names}: {error.strerror}." if names and error.strerror else f"{error}."
