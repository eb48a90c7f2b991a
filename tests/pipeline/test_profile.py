"""`--profile FILE`: a small trace of steady steps, and nothing where there is nothing to trace."""

import gzip
import json
import subprocess
import sys

import pytest
import torch

from pipeline.profile import STEPS, profiled

SMALL_BATCHES = ("--set", "embed.tokens_per_batch=1024")


def steps_of(trace):
    """How many steps a trace marks."""
    return len({event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep#")})


def work(watch, phase, steps):
    """So many steps of a phase, each with one product."""
    for step in range(steps):
        torch.ones(2, 2) @ torch.ones(2, 2)
        watch(phase, step + 1, steps)


def test_each_phase_has_a_window_of_its_own_and_no_more(tmp_path):
    """Long phases are cut to the window, all of them are in the file, and progress is told everything."""
    file, told = tmp_path / "trace.json", []
    with profiled(file, idle="") as recorded:
        watch = recorded(lambda *progress: told.append(progress))
        work(watch, "antibodies", 200)
        work(watch, "antigens", 9)
        work(watch, "scoring", 1)
    events = json.loads(file.read_text())["traceEvents"]
    products = [event for event in events if event["name"] == "aten::mm"]
    assert len(products) == STEPS + 7
    assert told == [(p, i + 1, n) for p, n in (("antibodies", 200), ("antigens", 9), ("scoring", 1)) for i in range(n)]


def test_a_failure_leaves_no_file(tmp_path):
    """A stage that fails says why, and no half trace lies about."""

    def fail():
        with profiled(tmp_path / "trace.json", idle="") as recorded:
            work(recorded(lambda *progress: None), "training", 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_embed_writes_a_trace_of_its_encoders(bindcache, config, tmp_path):
    """The trace of `embed` is gzipped as its name says, and holds the encoder's products."""
    file = tmp_path / "trace.json.gz"
    result = bindcache(
        "embed", "--config", config, "--set", f"embed.store={tmp_path / 'store'}", *SMALL_BATCHES, "--profile", file
    )
    assert result.exit_code == 0, result.output
    assert f"Wrote {file}" in result.stderr
    trace = json.loads(gzip.decompress(file.read_bytes()))
    assert 1 <= steps_of(trace) <= STEPS
    assert any(event.get("cat") == "cpu_op" for event in trace["traceEvents"])


def test_train_writes_a_trace_of_its_steps(bindcache, config, embedded, quick, tmp_path):
    """The trace of `train` holds forward, backward and optimizer."""
    file = tmp_path / "trace.json"
    result = bindcache(
        "train", "--config", config, "--set", f"train.run={tmp_path / 'run'}", *quick, "--set", "train.batch_size=16",
        "--profile", file,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    trace = json.loads(file.read_text())
    names = {event["name"] for event in trace["traceEvents"]}
    assert steps_of(trace) == STEPS
    assert {"forward", "backward", "optimizer step"} <= names


def test_nothing_left_to_encode_is_said_and_torch_stays_away(config, embedded, tmp_path):
    """A complete store gives no trace, and the reason; torch is not loaded for it."""
    file = tmp_path / "trace.json"
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        f"main(['embed', '--config', {str(config)!r}, '--profile', {str(file)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "was not written: nothing was left to encode" in done.stderr
    assert not file.exists()


@pytest.mark.parametrize("command", ["embed", "train"])
def test_a_missing_folder_is_refused_before_any_work(error, config, tmp_path, command):
    """The folder of the trace must be there; the message names it and the way out."""
    said = error(command, "--config", config, "--profile", tmp_path / "none" / "trace.json")
    assert f"there is no folder {tmp_path / 'none'}; make it" in said
