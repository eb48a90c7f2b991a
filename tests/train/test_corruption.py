"""Damaged checkpoints, weights and ensembles, read in a process of its own: refused, never half believed.

The short form samples what the long form (`-m torture`) does in full.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from train.checkpoint import Checkpointer, newest_state, write_state
from train.errors import TrainError
from train.intervals import Calibration, judge_intervals, read_intervals
from train.metrics import evaluate
from train.regressor import Regressor
from train.rundir import RunDir
from train.sweep.ensemble import Ensemble, read_ensemble
from train.weights import load_regressor, weights_image

FACTS = {"antibody_dim": 4, "antigen_dim": 3, "widths": [8], "note": "x"}

PROGRAM = """
import json, random, sys
from pathlib import Path
from train.checkpoint import read_checkpoint
from train.errors import TrainError
from train.intervals import read_intervals
from train.rundir import RunDir
from train.sweep.ensemble import read_ensemble
from train.weights import load_regressor

path, step, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
read = {".pt": read_checkpoint, ".safetensors": load_regressor, ".json": read_ensemble}[path.suffix]
if path.name == "intervals.json":
    read = lambda path: read_intervals(RunDir(path.parent))
image, silent, tried = path.read_bytes(), [], 0


def changed():
    for at in range(0, len(image), step):
        for byte in (image[at] ^ 1 << rng.randrange(8), image[at] ^ 255):
            yield at, image[:at] + bytes([byte]) + image[at + 1 :]
    for at in {*range(0, len(image), 512), *range(0, min(4096, len(image)), step)}:
        yield at, image[:at]
    for page in range(0, len(image), 4096):
        yield page, image[:page] + bytes(len(image[page : page + 4096])) + image[page + 4096 :]
    yield 0, image + image
    yield 0, image[4096:] + image[:4096]


for at, content in changed():
    if content == image:
        continue
    path.write_bytes(content)
    tried += 1
    try:
        read(path)
    except TrainError as error:
        if path.name in str(error):
            continue
    if not (path.suffix == ".json" and json.loads(content) == json.loads(image)):  # white space says nothing
        silent.append(at)
print(json.dumps([tried, silent]))
"""


DAMAGED = ("checkpoints/step-000000001.pt", "best.safetensors", "ensemble.json", "intervals.json")


@pytest.fixture
def run(tmp_path):
    """A run folder with a checkpoint, the best weights, intervals and an ensemble."""
    run = RunDir(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    torch.manual_seed(0)
    model = Regressor(4, 3, widths=(8,)).state_dict()
    with Checkpointer(run, keep=2, facts=FACTS) as checkpointer:
        checkpointer.save({"model": model, "step": 1, "best_step": 1})
    scores = evaluate(*(torch.arange(8.0).numpy() + shift for shift in (0, 0.5)))
    Ensemble(
        members=["a"], calibration=Calibration(floor=0.5, factors={"0.5": 1.25}), valid=scores, test=scores,
        coverage={"0.5": 0.5}, spread_follows_error=0.25,
    ).write(run.root / "ensemble.json")  # fmt: skip
    predicted = torch.arange(40.0).numpy()
    even, odd = torch.arange(0, 40, 2).numpy(), torch.arange(1, 40, 2).numpy()
    judge_intervals(predicted, predicted**0.9, valid=even, test=odd).write(run.intervals)
    return run


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.torture)])
@pytest.mark.parametrize("file", DAMAGED)
def test_no_damage_is_silent_or_crashes(run, figure, file, step):
    """Each byte changed, each cut, each page zeroed: a sentence that names the file, and no number."""
    step = min(step, (run.root / file).stat().st_size // 20)  # small files in 20 places too
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(run.root / file), str(step)],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tried, silent = json.loads(done.stdout)
    assert silent == []
    assert tried > 30
    figure(f"damaged files of a run, {Path(file).suffix}", tried)


IN_ITS_PLACE = {
    "folder": os.mkdir,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
    "nothing": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_what_stands_in_a_file_s_place_is_refused(run, name):
    """The checkpoint before serves, what stands in the newest one's place is set aside; the others are named."""
    IN_ITS_PLACE[name](run.checkpoint(2))
    assert newest_state(run)["step"] == 1
    assert os.path.lexists(run.checkpoint(2).with_suffix(".damaged"))
    readers = {run.weights: load_regressor, run.root / "ensemble.json": read_ensemble}
    for path, read in (*readers.items(), (run.intervals, lambda path: read_intervals(run))):
        path.unlink()
        IN_ITS_PLACE[name](path)
        with pytest.raises(TrainError, match=path.name):
            read(path)


def test_weights_of_another_type_or_with_other_facts_are_refused(run):
    """The digest covers what the bytes mean, too: integers of the same bytes are other numbers."""
    image = run.weights.read_bytes()
    for old, new in ((b'"F32"', b'"I32"'), (b"x", b"y")):
        run.weights.write_bytes(image.replace(old, new, 1))
        with pytest.raises(TrainError, match=r"best\.safetensors is"):
            load_regressor(run.weights)
    run.weights.write_bytes(weights_image(Regressor(4, 3, widths=(8,)).state_dict(), FACTS))
    assert load_regressor(run.weights)[1] == FACTS


class _Boom:
    def __reduce__(self):
        return (sys.exit, ("code ran",))


def test_code_in_a_checkpoint_is_not_run(run):
    """Under a right digest and a name of its own: refused in a sentence, not run."""
    with run.checkpoint(2).open("wb") as file:
        write_state({"model": _Boom(), "step": 2, "best_step": 1}, file)
    with pytest.raises(TrainError, match="holds more than tensors and plain values"):
        newest_state(run)
