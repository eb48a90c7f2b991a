"""When a command is done: its page beside its results, or one line that says why there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.page import FILE, why_not, write_page

if TYPE_CHECKING:
    from embed.result import EmbedResult
    from pipeline.config import Config
    from pipeline.report.behind import Behind
    from pipeline.report.blocks import Page

Progress = Callable[[str, int, int], None]

SWEEP_FILE = "sweep.json"
"""A folder that has it is a sweep's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where a page is, or why it is not."""

    path: Path | None
    note: str = ""

    def as_json(self) -> dict[str, str | None]:
        """Tell the place as `--json` prints it."""
        return {"report": None if self.path is None else str(self.path)}

    def place(self) -> list[tuple[str, object]]:
        """Tell the place as a row of a table; no row where there is none."""
        return [] if self.path is None else [("report", self.path)]


def write_report(folder: Path, progress: Progress, make: "Callable[[], Page]", *, again: str) -> Written:
    """Make a page and write it into a folder; what is missing for that is told and is no error.

    Args:
        folder: Of the run, the sweep or the store.
        progress: Told that the report is made.
        make: Makes the page.
        again: The command that writes it later.
    """
    why = why_not()
    if why is None:
        progress("report", 0, 1)
        try:
            write_page(folder / FILE, make())
        except OSError as error:
            why = f"{error.filename or folder / FILE}: {error.strerror}"
        else:
            progress("report", 1, 1)
            return Written(path=folder / FILE)
    return Written(path=None, note=f"No {FILE} was written: {why}, then {again}.")


def report_run(folder: Path, progress: Progress, behind: "Behind | None" = None) -> Written:
    """Write the page of a finished run, or of a sweep.

    Args:
        folder: Of the run or the sweep.
        progress: Told that the report is made.
        behind: What was trained on, where it is at hand.

    Raises:
        ConfigError: The folder holds no finished run and no sweep.
    """

    def make() -> "Page":
        from pipeline.report.finished import read_finished
        from pipeline.report.run import run_page
        from pipeline.report.sweep import sweep_page
        from train.rundir import RunDir

        if (folder / SWEEP_FILE).exists():
            return sweep_page(folder, behind)
        return run_page(read_finished(RunDir(folder), behind))

    return write_report(folder, progress, make, again=f"bindcache report --run {folder}")


def report_embedding(config: "Config", result: "EmbedResult", progress: Progress) -> Written:
    """Write the page of an embedding into the store; what is there stays if it is of this table and nothing was new."""
    path = config.embed.store / FILE
    if not result.embedded and _is_of(path, result.table_digest):
        return Written(path=path)

    def make() -> "Page":
        from pipeline.report.embedding import embedding_page

        return embedding_page(config, result)

    return write_report(config.embed.store, progress, make, again="the same bindcache embed again")


def _is_of(path: Path, digest: str) -> bool:
    try:
        return f'"{digest}"' in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
