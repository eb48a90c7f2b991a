"""Runs trials in a process of their own, each with a time limit, so that none can hang or crash the doctor."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STARTING = 60.0
"""Seconds for the process to load its libraries before the first trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one trial ended."""

    name: str
    seconds: float = 0.0
    problem: str = ""
    """Why it failed; empty where it did not."""
    rate: float = 0.0
    """What it measured, if it measures: tokens or steps a second."""
    error: float = 0.0
    """Relative error against fp32."""
    overtime: bool = False
    """Whether it was ended because its time was up."""


def run_trials(limits: dict[str, float], *, config: Path | None, sets: Sequence[str]) -> Iterator[Outcome]:
    """Run trials and yield each as it ends; a process that dies or hangs is started anew with those that are left.

    Args:
        limits: Seconds that each trial may take, by its name.
        config: The config file; None: there is none.
        sets: Its overrides.
    """
    left = list(limits)
    with tempfile.TemporaryDirectory(prefix="bindcache-doctor-") as folder:
        while left:
            asked = {"folder": folder, "config": str(config or ""), "sets": list(sets), "trials": left}
            for outcome in _run(json.dumps(asked), list(left), limits):
                left.remove(outcome.name)
                yield outcome


def _run(asked: str, names: list[str], limits: dict[str, float]) -> Iterator[Outcome]:
    command = [sys.executable, "-m", "pipeline.doctor.trial"]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        _hand_over(process, asked)
        trying, limit = names[0], STARTING
        try:
            while names:
                line = lines.get(timeout=limit)
                if not line:
                    yield Outcome(name=trying, problem=_last_words(said, process.wait()))
                    return
                told = json.loads(line)
                if "begun" in told:
                    trying, limit = told["begun"], limits[told["begun"]]
                    continue
                names.remove(told["done"])
                yield Outcome(name=told.pop("done"), **told)
        except queue.Empty:
            yield Outcome(name=trying, seconds=limit, problem=f"not done in {limit:.0f} seconds", overtime=True)
        finally:
            process.kill()
            reader.join()


def _hand_over(process: "subprocess.Popen[str]", asked: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once, which its exit code tells
        process.stdin.write(asked)
        process.stdin.close()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


def _last_words(said: IO[str], code: int) -> str:
    said.seek(0)
    words = [line.strip() for line in said.read().splitlines() if line.strip()]
    return words[-1] if code > 0 and words else f"its process ended with {code}"
