"""The GPU script where there is no GPU: it says so, and its dry run goes through every row that a CPU can run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    """The script, as a reader types it."""
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    """One sentence, no traceback."""
    done = run()
    assert done.returncode == 2
    assert done.stderr == "There is no CUDA device here; --dry-run runs tiny shapes on the CPU.\n"


@pytest.mark.slow
def test_the_dry_run_runs_what_it_can():
    """Nothing fails; the checks that a CPU can run hold; what needs CUDA or a package says so."""
    done = run("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split(" | ")[0].lstrip("| "): line for line in done.stdout.splitlines() if line.startswith("| ")}
    assert "the same bytes" in rows["resume with dropout"]
    assert "the same bytes" in rows["where the vectors wait"]
    assert "140,000 pairs" in rows["embed stage, `int8`"]
    assert "pairs/s" in rows["epoch, batches of 128, compiled"]
    for name in ("out of memory", "CUDA graphs, accumulation 1"):
        assert "needs CUDA" in rows[name]
    assert "not installed: flash-attn" in next(line for name, line in rows.items() if "varlen" in name)


def test_late_checks_are_said_and_broken_ones_fail(tmp_path):
    """One that raises has failed with its reason, the next one runs, and without time nothing begins."""
    from benchmarks.gpu_checks import Place, Sizes, Unfit, run
    from benchmarks.gpu_race import Clock

    def breaks(place):
        raise ValueError("no such thing\nmore")

    def unfit(place):
        raise Unfit("needs CUDA")

    sizes = Sizes(embedded=1, trained=1, antigens=1, checked=1)
    place = Place(folder=tmp_path, device="cpu", antibody=tmp_path, antigen=tmp_path, sizes=sizes)
    named = {"a": breaks, "b": unfit, "c": lambda place: place.device}
    checks = {check.name: check for check in run(named, place, Clock(60))}
    assert (checks["a"].says, checks["a"].failed) == ("ValueError: no such thing", True)
    assert (checks["b"].says, checks["b"].failed) == ("needs CUDA", False)
    assert (checks["c"].says, checks["c"].failed) == ("cpu", False)
    assert {check.says for check in run(named, place, Clock(-1))} == {"no time left"}
