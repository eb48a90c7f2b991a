"""Versions of Python and of the libraries, against what the project needs and is tested with."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.doctor.findings import Finding

_OLDEST, _NEWEST_TESTED = (3, 11), (3, 13)
_TESTED = Path(__file__).parents[2] / "constraints.txt"
"""In a checkout; an installed wheel has only the oldest versions."""


def look_at_software() -> Iterator[Finding]:
    """Check Python and each library that is needed at run time."""
    yield _python()
    tested = known_good_versions()
    fine = 0
    for requirement in map(Requirement, requires("bindcache") or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        finding = judge(requirement, _installed(requirement.name), tested.get(requirement.name))
        fine += finding is None
        if finding is not None:
            yield finding
    yield Finding(name="libraries", verdict="ok", said=f"{fine} of the versions that are tested")


def known_good_versions() -> dict[str, str]:
    """Read the versions that the project is tested with; none where there is no checkout."""
    if not _TESTED.is_file():
        return {}
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", _TESTED.read_text("utf-8"), re.MULTILINE))


def judge(requirement: Requirement, found: str | None, tested: str | None) -> Finding | None:
    """Judge one library; None where it is as it should be.

    Args:
        requirement: What the project asks for.
        found: The version that is installed; None: it is missing.
        tested: The version that the project is tested with; None: not known.
    """
    name, install = requirement.name, f"pip install '{requirement}'"
    if found is None:
        return Finding(name=name, verdict="problem", said="not installed", next_step=install)
    if not requirement.specifier.contains(found, prereleases=True):
        said = f"{found}, and {requirement.specifier} is needed"
        return Finding(name=name, verdict="problem", said=said, next_step=install)
    if tested is not None and Version(found).release[:2] > Version(tested).release[:2]:
        said = f"{found} is newer than {tested}, the version that is tested"
        return Finding(
            name=name, verdict="warning", said=said, next_step=f"pip install '{name}=={tested}' if it misbehaves"
        )
    return None


def _python() -> Finding:
    said, here = f"{platform.python_version()} ({sys.executable})", sys.version_info[:2]
    if here < _OLDEST:
        step = "make an environment of Python 3.11 or newer"
        return Finding(name="Python", verdict="problem", said=said, next_step=step)
    if here > _NEWEST_TESTED:
        step = "use Python 3.11 to 3.13 if something misbehaves"
        return Finding(name="Python", verdict="warning", said=f"{said} is newer than tested", next_step=step)
    return Finding(name="Python", verdict="ok", said=said)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
