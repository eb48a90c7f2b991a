"""`bindcache status`: how much of the table is in the store, how the tasks stand, and how long it will take."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.coverage import Coverage, TrialCounts, count_trials, read_coverage
from pipeline.output import two_columns
from pipeline.progress import duration
from pipeline.standing import STATES, Standing, begun_at, standings
from pipeline.submission import Submission, SubmissionDir, find_submissions

_SHOWN = 12
"""Tasks of one state that are listed; a thousand lines help nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A submission and how its tasks stand."""

    place: SubmissionDir
    submission: Submission
    tasks: list[Standing]

    @property
    def alive(self) -> bool:
        """Whether something of it runs or will."""
        return any(task.state in ("running", "queued") for task in self.tasks)

    def as_json(self) -> dict[str, object]:
        """List it as `status --json` prints it."""
        record = asdict(self.submission) | {"folder": str(self.place.root)}
        return record | {"tasks": [asdict(task) for task in self.tasks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is known of a config's work."""

    store: Path
    coverage: Coverage
    seconds_left: float | None
    """To the end of the embed stage; None where nothing says how long."""
    submissions: list[Told]
    """Those with live tasks, and the newest of each kind."""
    trials: TrialCounts | None
    """Of the config's sweep; None where none was begun."""

    def as_json(self) -> dict[str, object]:
        """List it as `status --json` prints it."""
        told = [one.as_json() for one in self.submissions]
        trials = None if self.trials is None else asdict(self.trials)
        known = {"store": str(self.store), "seconds_left": self.seconds_left, "trials": trials}
        return {**known, "submissions": told, **asdict(self.coverage)}


def read_status(config: Config, path: Path) -> Status:
    """Tell how the work of a config file stands.

    Raises:
        EmbedError: The table, an encoder or the store cannot be used as it is.
        ConfigError: The record of a submission cannot be read.
    """
    found = find_submissions(config.cluster.folder, path)
    # Slurm and the logs before the store: what ends in between counts as stored, never as lost.
    newest = {submission.kind: place for place, submission in found}
    told = [Told(place=place, submission=submission, tasks=standings(place, submission)) for place, submission in found]
    told = [one for one in told if one.alive or newest[one.submission.kind] == one.place]
    coverage = read_coverage(config)
    embeds = [one for one in told if one.submission.kind == "embed" and one.alive]
    return Status(
        store=config.embed.store,
        coverage=coverage,
        seconds_left=_seconds_left(embeds[0], coverage) if embeds else None,
        submissions=told,
        trials=count_trials(config),
    )


def status_table(status: Status) -> str:
    """Lay a status out in 80 columns, paths apart."""
    return "\n\n".join([two_columns(_facts(status)), *(_submission_text(one) for one in status.submissions)])


def coverage_text(coverage: Coverage) -> str:
    """Put in words how much the store holds."""
    held = coverage.sequences - coverage.left
    share = held / coverage.sequences if coverage.sequences else 1.0
    return f"{held:,} of {coverage.sequences:,} sequences ({int(100 * share)} %)"


def counts_text(tasks: list[Standing]) -> str:
    """Count tasks by state."""
    counts = Counter(task.state for task in tasks)
    return ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])


def _seconds_left(one: Told, coverage: Coverage) -> float | None:
    begun, done = begun_at(one.place, one.submission), one.submission.residues_left - coverage.residues_left
    if begun is None or done <= 0:
        return None
    return (time.time() - begun) * coverage.residues_left / done


def _facts(status: Status) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [("store", status.store), ("holds", coverage_text(status.coverage))]
    if status.coverage.left:
        embeds = any(one.alive and one.submission.kind == "embed" for one in status.submissions)
        about = f", about {duration(status.seconds_left)}" if status.seconds_left is not None else ""
        unsaid = ", no telling yet how long" if embeds else ", and nothing runs: `bindcache submit embed`"
        facts.append(("left", f"{status.coverage.left:,}{about or unsaid}"))
    if status.trials is not None:
        trials = status.trials
        ended = f"{trials.complete:,} complete, {trials.pruned:,} halved away, {trials.failed:,} failed"
        facts.append(("trials", f"{ended}, {trials.open:,} open"))
        facts.append(("sweep", trials.folder))
    return facts


def _submission_text(one: Told) -> str:
    by = f"job {one.submission.job}" if one.submission.way == "slurm" else "this machine"
    ago = duration(max(0.0, time.time() - one.submission.submitted))
    lines = [
        f"{one.submission.kind}, {by}, submitted {ago} ago: {counts_text(one.tasks)}",
        str(one.place.log("*")),
    ]
    word = one.place.word
    for state in STATES[1:]:
        of_state = [task for task in one.tasks if task.state == state]
        shown = of_state if state in ("running", "failed", "stopped") else [t for t in of_state if t.reason]
        lines += [f"  {word} {task.task} {state}: {task.reason}".rstrip(": ") for task in shown[:_SHOWN]]
        if len(shown) > _SHOWN:
            lines.append(f"  ... and {len(shown) - _SHOWN:,} more {state}")
    return "\n".join(lines)
