"""Checkpoints: true snapshots, whole files, the newest that serves, and errors that surface."""

import errno
import threading
from typing import get_args

import pytest
import torch

from embed.store.durable import remove_temporaries, replace_file
from tests.disks import Failing, check_error, installed
from train import checkpoint as module
from train.checkpoint import (
    Checkpointer,
    DamagedCheckpointError,
    newest_state,
    prune,
    read_best,
    read_checkpoint,
    snapshot,
    write_state,
)
from train.config import Head
from train.errors import TrainError
from train.regressor import Regressor
from train.rundir import RunDir
from train.weights import load_regressor, weights_image

FACTS = {"antibody_dim": 4, "antigen_dim": 3, "widths": [8]}


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    return run


def state_at(step: int, best_step: int, seed: int = 0) -> dict:
    torch.manual_seed(seed + step)
    model = Regressor(4, 3, widths=(8,)).state_dict()
    return {"model": model, "step": step, "best_step": best_step, "position": {"history": [{"epoch": 1}]}}


def save_all(run: RunDir, states: list[dict], keep: int = 2) -> None:
    with Checkpointer(run, keep=keep, facts=FACTS) as checkpointer:
        for state in states:
            checkpointer.save(state)


def steps_in(run: RunDir) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in run.checkpoints.glob("step-*.pt"))


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_saved_is_the_state_at_the_call(run) -> None:
    """Weights changed in place right after `save` returns do not reach the file, at two steps in a row."""
    state = state_at(1, 0)
    expected = []
    with Checkpointer(run, keep=9, facts=FACTS) as checkpointer:
        for step in (1, 2):
            state["step"] = step
            checkpointer.save(state)
            expected.append({name: tensor.clone() for name, tensor in state["model"].items()})
            for tensor in state["model"].values():
                tensor.add_(1.0)
    for step, model in zip((1, 2), expected, strict=True):
        assert same(read_checkpoint(run.checkpoint(step))["model"], model)


def test_a_snapshot_shares_nothing_with_the_live_state() -> None:
    """Nested tensors are copied, plain values kept."""
    live = {"a": [torch.zeros(2), (torch.ones(1), 3)], "b": "text"}
    copied = snapshot(live)
    live["a"][0].add_(5)
    assert copied["a"][0].tolist() == [0, 0]
    assert copied["a"][1][1] == 3
    assert copied["b"] == "text"


def test_a_snapshot_uses_the_memory_of_the_one_before() -> None:
    """Tensors of the same shape and dtype are copied into the old ones; others, and new ones, get their own."""
    first = snapshot({"a": [torch.zeros(2), torch.zeros(3)], "b": torch.zeros(2), "c": 1})
    kept, grown, cast = first["a"][0], first["a"][1], first["b"]
    live = {"a": [torch.ones(2), torch.ones(4), torch.ones(1)], "b": torch.ones(2, dtype=torch.int32), "c": {"d": 2}}
    second = snapshot(live, first)
    assert second["a"][0] is kept
    assert kept.tolist() == [1, 1]
    assert second["a"][1] is not grown
    assert second["b"] is not cast
    assert [tensor.tolist() for tensor in second["a"]] == [[1, 1], [1, 1, 1, 1], [1]]
    assert second["b"].dtype == torch.int32
    assert second["c"] == {"d": 2}


def test_training_goes_on_while_the_writer_writes(run, monkeypatch) -> None:
    """Two saves return with nothing written yet; the third waits until the first is."""
    gate, entered, third = threading.Event(), threading.Event(), threading.Event()

    def slow(path, data, **options):
        entered.set()
        assert gate.wait(10)
        replace_file(path, data, **options)

    monkeypatch.setattr(module, "replace_file", slow)
    with Checkpointer(run, keep=2, facts=FACTS) as checkpointer:
        for step in (1, 2):
            checkpointer.save(state_at(step, 0))
        assert entered.wait(10)
        assert steps_in(run) == []
        assert 0 < checkpointer.longest_stall_seconds <= checkpointer.stall_seconds < 1
        saving = threading.Thread(target=lambda: (checkpointer.save(state_at(3, 0)), third.set()))
        saving.start()
        assert not third.wait(0.2)
        gate.set()
        saving.join(10)
        checkpointer.wait()
        assert steps_in(run) == [2, 3]
    for step in (2, 3):
        assert same(read_checkpoint(run.checkpoint(step))["model"], state_at(step, 0)["model"])


def test_the_newest_and_the_best_are_kept(run) -> None:
    """Of many checkpoints the last two stay, and the best; its weights lie beside, loadable alone."""
    save_all(run, [state_at(1, 0), state_at(2, 2), state_at(3, 2), state_at(4, 2), state_at(5, 2)])
    assert steps_in(run) == [2, 4, 5]
    regressor, facts = load_regressor(run.weights)
    assert same(regressor.state_dict(), state_at(2, 2)["model"])
    assert facts["widths"] == [8]
    assert same(read_best(run, state_at(5, 2))["model"], regressor.state_dict())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_the_one_before_serves_when_the_newest_is_damaged(run, damage) -> None:
    """A cut or altered file is never used, and is out of the way afterwards."""
    save_all(run, [state_at(1, 1), state_at(2, 1)])
    path = run.checkpoint(2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-100], "flipped": data, "empty": b""}[damage])
    with pytest.raises(DamagedCheckpointError, match=r"step-000000002\.pt is damaged"):
        read_checkpoint(path)
    state = newest_state(run)
    assert state["step"] == 1
    assert same(state["model"], state_at(1, 1)["model"])
    assert steps_in(run) == [1]


def test_a_state_whose_best_is_damaged_does_not_serve(run) -> None:
    """Going on would end in weights that cannot be read; an older state with another best can."""
    save_all(run, [state_at(1, 1), state_at(2, 2), state_at(3, 2)], keep=9)
    run.checkpoint(2).write_bytes(b"nothing")
    assert newest_state(run)["step"] == 1


def test_nothing_serves(run) -> None:
    """No checkpoint is a fresh start; only damaged ones are an error with the way out."""
    assert newest_state(run) is None
    run.checkpoint(7).write_bytes(b"nothing")
    with pytest.raises(TrainError, match="are damaged; train anew into another folder"):
        newest_state(run)


def test_only_plain_values_are_unpickled(run) -> None:
    """A file with a correct digest but foreign objects in it is not executed."""
    replace_file(run.checkpoint(1), lambda file: write_state({"model": threading.Event}, file))
    with pytest.raises(TrainError, match="holds more than tensors and plain values, and was not loaded"):
        read_checkpoint(run.checkpoint(1))
    with pytest.raises(TrainError, match="holds more than tensors"):
        newest_state(run)


def test_a_writer_that_cannot_write_is_heard(run) -> None:
    """The error of the thread comes out at the next save, and at the end of the block."""
    run.checkpoints.rmdir()
    with pytest.raises(OSError, match="run/checkpoints"):
        save_all(run, [state_at(1, 0), state_at(2, 0)])
    with pytest.raises(OSError, match="run/checkpoints"):
        save_all(run, [state_at(1, 0)])


def test_temporaries_of_a_killed_writer_are_removed(run) -> None:
    """What a kill left beside the good files goes; the good files stay."""
    replace_file(run.config, b"{}")
    left = run.root / ".tmp-elsewhere-123"
    left.write_bytes(b"half")
    remove_temporaries(run.root)
    assert left.exists()  # young: where others write too, it may be theirs
    remove_temporaries(run.root, alone=True)
    assert not left.exists()
    assert run.config.read_bytes() == b"{}"


def test_damaged_weights_are_refused(run) -> None:
    """One flipped bit in a weight, a foreign file and a missing one are told apart by name."""
    model = state_at(1, 1)["model"]
    image = weights_image(model, FACTS)
    assert image == weights_image(model, FACTS)
    with pytest.raises(TrainError, match="is missing"):
        load_regressor(run.weights)
    run.weights.write_bytes(image[:-1] + bytes([image[-1] ^ 1]))
    with pytest.raises(TrainError, match="do not match its SHA-256"):
        load_regressor(run.weights)
    run.weights.write_bytes(b"something else entirely")
    with pytest.raises(TrainError, match="is no weights file"):
        load_regressor(run.weights)


@pytest.mark.parametrize("head", get_args(Head))
def test_weights_say_which_head_they_are_of(run, head) -> None:
    """Built again from the file alone; without a word it is `concat`, and a head that is not known is refused."""
    model = Regressor(4, 3, widths=(8,), head=head).state_dict()
    run.weights.write_bytes(weights_image(model, {**FACTS, "head": head} if head != "concat" else FACTS))
    assert same(load_regressor(run.weights)[0].state_dict(), model)
    run.weights.write_bytes(weights_image(model, {**FACTS, "head": "newer"}))
    with pytest.raises(TrainError, match="head 'newer'"):
        load_regressor(run.weights)


def test_a_full_disk_that_cannot_remove_an_old_checkpoint_says_so(run) -> None:
    """With the folder and the way out, as for any other operation; the checkpoints stay."""
    save_all(run, [state_at(1, 1), state_at(2, 2)])
    with installed(Failing(1, errno.ENOSPC, forever=True)), pytest.raises(OSError, match="free some") as error:
        prune(run, keep=1, best_step=2)
    check_error(error.value, errno.ENOSPC, run.checkpoints, sized=False)
    assert newest_state(run)["step"] == 2
    assert run.checkpoint(1).exists()
