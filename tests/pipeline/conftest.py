"""The demo, embedded and trained once, and ways to run commands on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.demo import write_demo

REPOSITORY = Path(__file__).parents[2]
ROWS = 160
QUICK = ("--set", "train.epochs=3", "--set", "train.widths=[32, 16]", "--set", "train.compile=off")


def run_here(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="bindcache")


@pytest.fixture(scope="session")
def bindcache():
    """Run a command in this process; returns click's result."""
    return run_here


@pytest.fixture(scope="session")
def start():
    """Start a command in a process of its own."""

    def start_there(*arguments):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start_there


@pytest.fixture(scope="session")
def error():
    """Run a command that must fail; returns what it says."""

    def run_failing(*arguments, code=2):
        result = run_here(*arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        return result.stderr

    return run_failing


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo, its table cut to the first rows."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    table = folder / "pairs.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[: ROWS + 1]))
    return folder


@pytest.fixture(scope="session")
def config(demo):
    return demo / "demo.toml"


@pytest.fixture(scope="session")
def embedded(config):
    """What `embed --json` said when the store was empty."""
    result = run_here("embed", "--config", config, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def quick():
    """Options of a training that is over at once."""
    return QUICK


@pytest.fixture(scope="session")
def trained(config, embedded):
    """What `train --json` said."""
    result = run_here("train", "--config", config, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
