"""What a command does not need, it does not wait for."""

import os
import subprocess
import sys

import pytest

from tests.pipeline.conftest import QUICK, REPOSITORY

RUN_WITHOUT = """
import sys
for name in ("transformers", "bitsandbytes", "torch._dynamo", "sympy"):
    sys.modules[name] = None  # to import it is an error
from pipeline.cli import main
main()
"""


@pytest.mark.parametrize("command", ["train", "predict"])
def test_encoders_and_compilers_are_not_imported_in_vain(config, embedded, trained, tmp_path, command):
    """A training that compiles nothing, and predictions from stored vectors, spare the seconds that these take."""
    words = {
        "train": ("--config", config, *QUICK, "--set", f"train.run={tmp_path}/run"),
        "predict": ("--run", trained["run"], "--pairs", config.parent / "pairs.csv", "--out", tmp_path / "out.parquet"),
    }[command]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    script = [sys.executable, "-c", RUN_WITHOUT, command, *map(str, words)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
