"""`bindcache sweep`: one worker in this process, or several in processes of their own, on one sweep's folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embed.fingerprint import find_sources
from embed.stage import read_table
from pipeline.config import Config, resolved, sweep_section, train_section
from pipeline.devices import processors, visible_gpus
from pipeline.errors import ConfigError, WorkerError
from pipeline.signals import STOPPED
from pipeline.training import pinned, vector_folders_of

if TYPE_CHECKING:
    from train.sweep.outcome import SweepResult
    from train.sweep.trials import Trials

Progress = Callable[[str, int, int], None]
Stop = Callable[[], bool]

_POLL_SECONDS = 0.5
_LAST_LINES = 3


def sweep(
    config: Config,
    path: Path,
    *,
    trials: int,
    workers: int,
    command: Sequence[str],
    progress: Progress,
    stop: Stop,
) -> "SweepResult":
    """Bring a sweep to its number of trials.

    Args:
        config: The whole config.
        path: The file it came from, for errors.
        trials: Trials in all, those before included.
        workers: Processes that work on it; 0 takes one for each processor, or for each GPU.
        command: What starts one worker, in place of this process.
        progress: Told the trials done.
        stop: Polled; when true, the trials in work are saved and the result says `stopped`.

    Raises:
        ConfigError: The config has no section [train] or [sweep], Optuna is missing, or a worker failed.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: Vectors are missing, or the sweep cannot be begun or gone on with.
    """
    train, section = train_section(config, path), sweep_section(config, path)
    _need_optuna()
    workers = workers or _workers(train.device)
    if workers == 1:
        return _work(config, path, trials=trials, progress=progress, stop=stop)
    from train.sweep.outcome import conclude
    from train.sweep.space import read_space
    from train.sweep.trials import Trials

    section.folder.mkdir(parents=True, exist_ok=True)
    all_trials = Trials(section.folder, section, read_space(section.space, asdict(train)))
    started = time.time()
    _run_workers(all_trials, section.folder / "workers", command, workers, trials, progress, stop)
    result = conclude(all_trials, section)
    result.seconds = time.time() - started
    result.stopped = stop() and (all_trials.running() > 0 or result.trials < trials)
    return result


def _work(config: Config, path: Path, *, trials: int, progress: Progress, stop: Stop) -> "SweepResult":
    table = read_table(config.embed, config.pairs)
    sources = find_sources(config.embed)
    whole = pinned(config, sources)
    from train.sweep.stage import run_sweep

    return run_sweep(
        sweep_section(config, path),
        train_section(config, path),
        table,
        vector_folders_of(sources),
        wanted=trials,
        resolved=lambda train: resolved(replace(whole, train=train, sweep=None)),
        progress=progress,
        stop=stop,
    )


def _run_workers(
    trials: "Trials",
    logs: Path,
    command: Sequence[str],
    workers: int,
    wanted: int,
    progress: Progress,
    stop: Stop,
) -> None:
    """Start workers, show how far they are, pass a wish to stop on, and wait until all have left."""
    logs.mkdir(exist_ok=True)
    with ExitStack() as files:
        running = [
            subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=files.enter_context((logs / f"{number}.log").open("wb")),
                env={**os.environ, **_share(number, workers)},
                start_new_session=True,  # Ctrl-C reaches them through us alone
            )
            for number in range(workers)
        ]
        told = False
        while any(worker.poll() is None for worker in running):
            progress("trials", trials.done(), wanted)
            if stop() and not told:
                told = True
                for worker in running:
                    worker.send_signal(signal.SIGTERM)
            time.sleep(_POLL_SECONDS)
    progress("trials", trials.done(), wanted)
    for number, worker in enumerate(running):
        if worker.returncode not in (0, STOPPED):
            kind = WorkerError if worker.returncode == 1 else ConfigError
            raise kind(_failure(logs / f"{number}.log", worker.returncode))


def _failure(log: Path, code: int) -> str:
    if code < 0:
        return f"A worker was ended by {signal.Signals(-code).name}; run the same command again to go on."
    lines = log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return "\n".join(lines).removeprefix("Error: ") or f"A worker left with {code} and said nothing."


def _share(number: int, workers: int) -> dict[str, str]:
    """Give a worker its share of the processors, or its GPU."""
    gpus = visible_gpus()
    if gpus:
        return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
    return {"OMP_NUM_THREADS": str(max(1, processors() // workers))}


def _workers(device: str) -> int:
    if device == "cpu" or not visible_gpus():
        return processors()
    return 1 if device.startswith("cuda:") else len(visible_gpus())


def worker_command(arguments: Sequence[str]) -> list[str]:
    """Name the command of one worker, with these arguments of `bindcache sweep`."""
    return [sys.executable, "-P", "-m", "pipeline", "sweep", *arguments, "--workers", "1", "--parent", str(os.getpid())]


def _need_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("A sweep needs Optuna, which is not installed: pip install 'bindcache[sweep]'.") from None
