"""A small training, killed at every operation, failed at every operation, killed at random.

`python -m tests.train.dying kills EPOCHS FOLDER` prints what it tried; it ends with 1 where a guarantee broke.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from embed.pairs import PairsConfig, read_pairs
from embed.sequences import antibody_keys, antigen_keys
from embed.store.schema import TEMPORARY_PREFIX, fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from tests.disks import FAULTS, Counting, Deadly, Disk, Failing, check_error, forked, installed
from tests.power import Recording, states
from train.build import Task
from train.checkpoint import newest_state
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.material import Material
from train.rundir import RunDir, read_metrics
from train.stage import find_material, train_task

WALL = ("seconds", "setup_seconds", "pairs_per_second", "waited_fraction", "peak_memory_bytes", "run", "details")
"""What differs between two runs of the same training."""


class Training:
    """A table, its store, and a training of few steps on them; made once, before any fork."""

    def __init__(self, home: Path, *, epochs: int) -> None:
        torch.set_num_threads(1)
        random_ = np.random.default_rng(0)
        heavies, antigens = ([_sequence(random_, 60) for _ in range(count)] for count in (12, 5))
        with (home / "pairs.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["heavy", "light", "antigen", "pkd"])
            writer.writerows(
                [heavy, heavy[::-1], antigen, round(random_.normal(8, 1), 3)]
                for heavy in heavies
                for antigen in antigens
            )
        self.table = read_pairs(PairsConfig(path=home / "pairs.csv", affinity="pkd"))
        antibody = _publish(home / "store", "antibody", antibody_keys(self.table.antibodies), 6)
        antigen = _publish(home / "store", "antigen", antigen_keys(self.table.antigens), 5)
        self.folders = VectorFolders(paired=antibody, single=antibody, antigen=antigen)
        self.config = TrainConfig(
            run=home / "unbroken", widths=(8,), batch_size=16, epochs=epochs, lr=1e-2, dropout=0.3, precision="fp32",
            checkpoint_every=2, keep=1, compile="off", device="cpu",
        )  # fmt: skip
        self.material: Material = find_material(self.config, self.table, self.folders)
        _ = self.material.baselines, self.material.preparations(self.config.features)

    def run(self, root: Path, progress: Callable[[str, int, int], None] = lambda phase, done, total: None) -> None:
        config = TrainConfig(**{**{name: getattr(self.config, name) for name in self.config.__slots__}, "run": root})
        task = Task(config=config, material=self.material)
        train_task(task, resolved={}, resume=True, progress=progress)


def _sequence(random_: np.random.Generator, length: int) -> str:
    return "".join(random_.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


def _publish(store: Path, name: str, key_N16: np.ndarray, dim: int) -> Path:
    facts = {"encoder": name}
    digest = fingerprint_digest(facts)
    folder = create_folder(store, f"{name}-{digest[:16]}", facts, {})
    with ShardWriter(folder, fingerprint=digest, dim=dim) as writer:
        vector_ND = np.random.default_rng(dim).normal(size=(len(key_N16), dim)).astype(np.float32)
        writer.add(key_N16, vector_ND, np.ones(len(key_N16), np.int32))
    return folder


def written(root: Path) -> dict[str, object]:
    """Give all that a finished run says, but for times."""
    run = RunDir(root)
    result = json.loads(run.result.read_bytes())
    return {
        "weights": run.weights.read_bytes(),
        "predictions": run.predictions.read_bytes(),
        "intervals": run.intervals.read_bytes(),
        "split": run.split.read_bytes(),
        "metrics": [{**line, "seconds": 0} for line in read_metrics(run.metrics)],
        "result": {name: value for name, value in result.items() if name not in WALL},
        "checkpoints": sorted(path.name for path in run.checkpoints.iterdir()),
        "files": sorted(path.name for path in root.iterdir() if path.name[0] != "."),
    }  # fmt: skip


def check(training: Training, root: Path, saved: Iterable[int], expected: dict[str, object]) -> None:
    """Look at a run after a death and go on: a checkpoint no older than the newest that was saved, the same end."""
    state = newest_state(RunDir(root)) if RunDir(root).checkpoints.exists() else None
    assert (0 if state is None else state["step"]) >= max(saved, default=0)
    training.run(root)
    found = written(root)
    assert not [*root.rglob(f"{TEMPORARY_PREFIX}*")], "litter"
    assert found == expected, [name for name in expected if expected[name] != found[name]]


def saved_in(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def telling(disk: Disk, note: Callable[[int], object]) -> Disk:
    """Note each checkpoint as saved when its folder was synced after its name was given."""
    named = threading.local()

    def watch(name: str, real: Callable[..., object], *arguments: object) -> object:
        result = disk(name, real, *arguments)
        if name == "replace":
            named.step = Path(str(arguments[1])).stem.removeprefix("step-")
        elif name == "fsync" and getattr(named, "step", "").isdigit():
            note(int(named.step))
            named.step = ""
        return result

    return watch


def noting(log: Path) -> Callable[[int], object]:
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    return lambda step: os.write(descriptor, b"%d\n" % step)


def count(training: Training, root: Path) -> int:
    counted = root.with_suffix(".count")

    def work() -> None:
        disk = Counting()
        with installed(disk):
            training.run(root)
        counted.write_text(str(disk.count))

    assert forked(work) == 0
    return int(counted.read_text())


def kills(home: Path, epochs: str, every: str) -> dict[str, int]:
    """Kill before each `every`-th operation, and after the last; in a longer training, before and after each."""
    training = Training(home, epochs=int(epochs))
    total = count(training, home / "unbroken")
    expected = written(home / "unbroken")
    both = (False, True) if int(epochs) > 1 else (False,)
    points = [(at, after) for at in range(1, total + 1) for after in both]
    done = 0
    for at, after in [*points[:: int(every)], (total, True)]:
        root, log = home / f"{at}-{after}", home / f"{at}-{after}.log"

        def die(root=root, log=log, at=at, after=after) -> None:
            with installed(telling(Deadly(at, after=after), noting(log))):
                training.run(root)

        assert forked(die) == -signal.SIGKILL
        assert forked(lambda root=root, log=log: check(training, root, saved_in(log), expected)) == 0, (at, after)
        shutil.rmtree(root)
        done += 1
    return {"kill points of a training and its run folder": done}


def errors(home: Path, every: str) -> dict[str, int]:
    """Fail operations, once and from there on; with `every` 1 each fault at each, else each `every`-th in turn."""
    training = Training(home, epochs=1)
    total = count(training, home / "unbroken")
    expected = written(home / "unbroken")
    cases = [(at, fault, forever) for fault in FAULTS for forever in (False, True) for at in range(1, total + 1)]
    done = 0
    for at, fault, forever in cases[:: int(every)]:
        root, log = home / f"{at}-{fault}-{forever}", home / f"{at}-{fault}-{forever}.log"

        def fail(root=root, log=log, at=at, fault=fault, forever=forever) -> None:
            disk = Failing(at, fault, forever=forever)
            try:
                with installed(telling(disk, noting(log))):
                    training.run(root)
            except OSError as error:
                check_error(error, fault, home, sized=False)
            assert disk.hits

        assert forked(fail) == 0, (at, fault, forever)
        assert forked(lambda root=root, log=log: check(training, root, saved_in(log), expected)) == 0
        shutil.rmtree(root, ignore_errors=True)
        done += 1
    return {"failing operations of a training and its run folder": done}


def power(home: Path, each: str, resumed: str) -> dict[str, int]:
    """Cut the power after each operation; the newest saved checkpoint is there, and a finished run is whole.

    Every `resumed`-th state is gone on with, to the same end.
    """
    training = Training(home, epochs=2)
    root, done = home / "unbroken", 0
    root.mkdir()
    recording, saved = Recording(root), [0]

    def note(step: int) -> None:
        saved.append(step)
        recording.promise(max(saved))

    with installed(telling(recording, note)):
        training.run(root)
    expected = written(root)
    kept = expected["checkpoints"]
    for state, promised in states(recording.events, home, each=int(each)):
        run = RunDir(state)
        found = newest_state(run) if run.checkpoints.exists() else None
        assert (0 if found is None else found["step"]) >= (promised or 0)
        if run.result.exists():
            end = written(state)
            assert {*kept} <= {*end["checkpoints"]}  # the removal of an older one may be lost
            assert {**end, "checkpoints": kept} == expected, [name for name in end if end[name] != expected[name]]
        elif done % int(resumed) == 0:
            for owner in state.glob(".owner-*"):
                owner.write_bytes(owner.read_bytes().replace(b'"boot": "', b'"boot": "one before '))
                os.utime(owner, (1e9, 1e9))
            assert forked(lambda state=state: check(training, state, [], expected)) == 0
        shutil.rmtree(state)
        done += 1
    return {"states of a run folder after a power failure": done}


def soak(home: Path, deaths: str) -> dict[str, int]:
    """Kill at random instants until as many deaths have been died; each training ends as the unbroken one."""
    training = Training(home, epochs=12)
    start = time.monotonic()
    assert forked(lambda: training.run(home / "unbroken")) == 0
    longest, expected = time.monotonic() - start, written(home / "unbroken")
    draw, died, runs = random.Random(0), 0, 0
    while died < int(deaths):
        root, ended = home / f"run-{runs}", False
        runs += 1
        while not ended:
            child = os.fork()
            if not child:
                os._exit(_run(training, root))
            if died < int(deaths):
                time.sleep(draw.random() * longest)
                os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGKILL)
            died += code != 0
            ended = code == 0
        assert written(root) == expected
        shutil.rmtree(root)
    return {"random kills of a training": died, "trainings that were killed and ended as unbroken": runs}


def _run(training: Training, root: Path) -> int:
    training.run(root)
    return 0


if __name__ == "__main__":
    what, *options, folder = sys.argv[1:]
    tried = {"kills": kills, "errors": errors, "power": power, "soak": soak}[what](Path(folder), *options)
    print(json.dumps(tried))
