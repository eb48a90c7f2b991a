"""What a Slurm cluster is to be told, and where submissions lie."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_OURS = ("--array", "--job-name", "--open-mode", "--output", "--requeue", "--no-requeue", "--signal")
"""What the script decides itself, for the tasks to stop, go on and be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Section `[cluster]`: what `submit` asks of Slurm for each task, a part of `embed` or a worker of `sweep`."""

    partition: str = ""
    """Partition; empty: the cluster's default."""
    account: str = ""
    """Account that is charged; empty: the user's default."""
    gres: str = ""
    """Generic resources of each task, such as `gpu:1`."""
    cpus: int = 4
    """CPUs of each task; its threads are as many."""
    memory: str = ""
    """Memory of each task, such as `32G`; empty: the cluster's default."""
    time: str = "04:00:00"
    """Time limit of each start, such as `90` (minutes), `04:00:00` or `1-12`; empty: the cluster's default."""
    notice: int = 120
    """Seconds before the time limit at which a task is told to stop; it publishes its work and is queued again."""
    requeues: int = 50
    """Times that a task which was stopped is queued again, at most."""
    parallel: int = 0
    """Tasks that run at once, at most; 0: as many as the cluster gives."""
    lines: tuple[str, ...] = ()
    """More options of sbatch, such as `["--qos=long"]`."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command, such as `["module load cuda", "source ~/venv/bin/activate"]`."""
    folder: Path = Path("jobs")
    """Folder that gets a folder for each submission: script, logs and exit codes; all nodes must see it."""

    def __post_init__(self) -> None:
        """Refuse what sbatch would refuse, or what would never end.

        Raises:
            ConfigError: A value breaks its rule.
        """
        for name in ("partition", "account", "gres"):
            value = getattr(self, name)
            _refuse_unless(not re.search(r"\s", value), name, value, "is one word, without spaces")
        memory = re.fullmatch(r"(\d+[KMGT]?)?", self.memory) is not None
        _refuse_unless(memory, "memory", self.memory, "is a whole number with K, M, G or T, such as 32G, or empty")
        for name, least in (("cpus", 1), ("notice", 1), ("requeues", 0), ("parallel", 0)):
            _refuse_unless(getattr(self, name) >= least, name, getattr(self, name), f"is at least {least}")
        seconds = _seconds(self.time)
        forms = "is minutes, [hours:]minutes:seconds or days-hours[:minutes[:seconds]], or empty"
        _refuse_unless(seconds is not None, "time", self.time, forms)
        early = not seconds or self.notice < seconds
        _refuse_unless(early, "notice", self.notice, f"is less than cluster.time ({self.time}), in seconds")
        for line in self.lines:
            option = re.match(r"(--[a-z-]+|-[A-Za-z])[^\n]*\Z", line)
            _refuse_unless(option is not None, "lines", line, "holds options of sbatch on one line, such as --qos=long")
            taken = option is not None and (option[1] in _OURS or line[:2] in ("-a", "-J", "-o"))
            _refuse_unless(not taken, "lines", line, f"leaves {', '.join(_OURS)} to bindcache")


def _seconds(time: str) -> int | None:
    """Read a time limit as sbatch does; 0 where there is none, None where it is not one."""
    if not time:
        return 0
    found = _TIME.fullmatch(time)
    if found is None:
        return None
    days, *rest = (None if number is None else int(number) for number in found.groups())
    given = [number for number in rest if number is not None]
    by_count: dict[int, tuple[int, ...]] = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}
    units = by_count[3] if days is not None else by_count[len(given)]
    return (days or 0) * 86400 + sum(number * unit for number, unit in zip(given, units, strict=False))


def _refuse_unless(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ConfigError(f"cluster.{name} = {value!r}: {name} {rule}.")
