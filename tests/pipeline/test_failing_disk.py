"""The command line on disks that are full or fail: one clear sentence, exit code 1, and the same command goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NO_MOUNT = 77


def test_a_really_full_disk_is_a_sentence_and_loses_nothing(config, tmp_path, figure) -> None:
    """4 MB in memory, nearly taken: embed and train fail, what was published stays, and with room both go on."""
    if shutil.which("unshare") is None:
        pytest.skip("mounting a small disk needs unshare")
    apart = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    command = [*apart, sys.executable, "-m", "tests.pipeline.failing", "tmpfs", str(config), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    if done.returncode == NO_MOUNT or "unshare failed" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, count in json.loads(done.stdout.splitlines()[-1]).items():
        figure(name, count)


@pytest.mark.parametrize("every", ["1201", pytest.param("53", marks=pytest.mark.torture)])
def test_a_failing_disk_is_a_sentence_and_the_same_command_goes_on(config, torment, every) -> None:
    """No space, no quota, input/output errors, stale handles, interrupts and short writes, once and for ever."""
    torment("pipeline.failing", "faults", every, str(config))
