"""What is checked on a GPU beside the encoders' speed: each check stands alone and says what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_race import Clock
from benchmarks.report import today
from embed.config import EmbedConfig


class Unfit(Exception):  # noqa: N818 (a check's answer)
    """The check does not apply here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Pairs of each stage."""

    embedded: int
    trained: int
    antigens: int
    checked: int
    """Of each short training of the checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What came of one."""

    name: str
    says: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the checks find what they need."""

    folder: Path
    device: str
    antibody: Path
    antigen: Path
    sizes: Sizes

    def embed_config(self, **settings: Any) -> EmbedConfig:  # noqa: ANN401
        """Make a config of the two encoders on this device."""
        antibody: Any = str(self.antibody)
        antigen: Any = str(self.antigen)
        return EmbedConfig(**{"antibody": antibody, "antigen": antigen, "device": self.device, **settings})


def run(named: Mapping[str, Callable[[Place], str]], place: Place, clock: Clock) -> list[Check]:
    """Run every check there is time for; one that raises has failed, and the others still run.

    Args:
        named: What each is called, and does: it returns what came of it.
        place: Where everything lies.
        clock: For the time.
    """
    checks = []
    for name, check in named.items():
        clock.tell(name)
        checks.append(_attempt(name, check, place, clock))
        torch.compiler.reset()
        if place.device != "cpu":
            torch.cuda.empty_cache()
    return checks


def markdown(checks: list[Check], device: str, commit: str) -> str:
    """Lay the checks out for people."""
    head = [f"# Stages and checks, {device}, {today()}", "", f"* `python -m benchmarks.gpu`, commit {commit}", ""]
    lines = [f"| {check.name} | {'**FAILED**: ' if check.failed else ''}{check.says} |" for check in checks]
    return "\n".join([*head, "| | |", "|---|---|", *lines, ""])


def _attempt(name: str, check: Callable[[Place], str], place: Place, clock: Clock) -> Check:
    if clock.left < 0:
        return Check(name=name, says="no time left")
    try:
        return Check(name=name, says=check(place))
    except Unfit as unfit:
        return Check(name=name, says=str(unfit))
    except Exception as error:  # the others must still run
        said = (str(error).splitlines() or [""])[0]
        return Check(name=name, says=f"{type(error).__name__}: {said}", failed=True)
