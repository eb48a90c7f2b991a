"""What every test may use: tiny random encoders in the published file layout, and figures told in the end."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other programs may share the machine
settings.register_profile("patient", _PATIENT)
settings.register_profile("fuzz", _PATIENT, max_examples=5_000)  # `make fuzz`
settings.load_profile("patient")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # processes that share the processors' threads out wait for no other
    threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))

LONGEST = (
    "tests/pipeline/test_slurm.py",
    "tests/train/test_train_guarantees.py",
    "tests/pipeline/test_sweep.py",
    "tests/pipeline/test_failing_disk.py",
    "tests/benchmarks/test_encoders.py",
    "tests/pipeline/test_fidelity.py",
    "tests/pipeline/test_submit.py",
    "tests/test_docs.py",
    "tests/test_notebook.py",
    "tests/test_readme.py",
)
"""Files that take longest; they begin first, so that no process has one left when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    begins = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: begins.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `igt5` and `esm2`, two random encoders as the demo writes them."""
    from pipeline.demo_checkpoints import write_esm2, write_igt5

    folder = tmp_path_factory.mktemp("checkpoints")
    for name, write, seed in (("igt5", write_igt5, 0), ("esm2", write_esm2, 1)):
        (folder / name).mkdir()
        write(folder / name, seed=seed)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tables that lies beside the project on some machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real tables do not lie beside the project")
    return folder


@pytest.fixture
def quick_folder(tmp_path):
    """A folder in memory where there is one: killed processes lose nothing that the system holds, so it serves."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def torment(quick_folder, figure):
    """Run `python -m tests.<name> <what> FOLDER` in a process that may fork, and note the figures that it prints."""

    def run(name: str, *what: str) -> None:
        command = [sys.executable, "-m", f"tests.{name}", *what, str(quick_folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        for named, count in json.loads(done.stdout.splitlines()[-1]).items():
            figure(named, count)

    return run


FIGURES = pytest.StashKey[Counter]()


@pytest.fixture
def figure(request):
    """Note a figure for the table "guarantees" at the end: `figure("kill points of the store", 84)` adds to it."""

    def note(name: str, count: int) -> None:
        request.config.stash.setdefault(FIGURES, Counter())[name] += count

    return note


def pytest_sessionfinish(session) -> None:
    """Hand the figures of a process that runs some of the tests to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = dict(session.config.stash.get(FIGURES, Counter()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Add such a process's figures up."""
    node.config.stash.setdefault(FIGURES, Counter()).update(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Print what the guarantees were tried on."""
    figures = config.stash.get(FIGURES, Counter())
    if figures:
        terminalreporter.section("guarantees")
    for name, count in sorted(figures.items()):
        terminalreporter.write_line(f"{count:>10,}  {name}")
