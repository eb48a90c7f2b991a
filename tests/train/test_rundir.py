"""Who may train into a folder: every refusal names the folder and the way out."""

import json

import pytest

from train.errors import TrainError
from train.rundir import RunDir, append_metrics, open_run, read_metrics, write_metrics

IDENTITY = {"train.lr": 0.001, "train.widths": (8, 4), "split (SHA-256)": "abc"}


def opened(root, *, resume=False, **changes):
    return open_run(root, resolved={"train": {"lr": 0.001}}, identity={**IDENTITY, **changes}, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_new_run_begins_in_a_new_or_empty_folder(tmp_path, resume, there) -> None:
    """`--resume` begins it too, and the resolved config is kept."""
    root = tmp_path / "runs" / "one"
    if there:
        root.mkdir(parents=True)
    run, standing = opened(root, resume=resume)
    assert standing == "new"
    assert json.loads(run.config.read_text())["config"] == {"train": {"lr": 0.001}}
    assert run.checkpoints.is_dir()


def test_a_begun_run_needs_resume(tmp_path) -> None:
    """Without `--resume` it is refused by name, with it it is taken up."""
    opened(tmp_path / "run")
    with pytest.raises(TrainError, match="run' holds a begun run; --resume to go on with it"):
        opened(tmp_path / "run")
    assert opened(tmp_path / "run", resume=True)[1] == "begun"


def test_a_finished_run_is_never_trained_again(tmp_path) -> None:
    """A result makes it finished."""
    run, _ = opened(tmp_path / "run")
    run.result.write_text("{}")
    with pytest.raises(TrainError, match="run' holds a finished run; --resume to see its result"):
        opened(tmp_path / "run")
    assert opened(tmp_path / "run", resume=True)[1] == "finished"


def test_another_run_is_refused_with_what_differs(tmp_path) -> None:
    """Every differing key is named with both values, no other one is."""
    opened(tmp_path / "run")
    with pytest.raises(TrainError) as refused:
        opened(tmp_path / "run", resume=True, **{"train.lr": 0.1, "train.new": 3})
    message = str(refused.value)
    assert "train.lr (0.001 in the run, 0.1 now)" in message
    assert "train.new (None in the run, 3 now)" in message
    assert "widths" not in message


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_folder_is_refused(tmp_path, resume) -> None:
    """A folder with something else in it, or a file of that name, is left alone."""
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(TrainError, match="exists and is no run"):
        opened(tmp_path, resume=resume)
    with pytest.raises(TrainError, match="exists and is no run"):
        opened(tmp_path / "thesis.tex", resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_foreign_config_is_refused(tmp_path) -> None:
    """Another program's config.json does not make a run."""
    (tmp_path / "config.json").write_text('{"model": "bert"}')
    with pytest.raises(TrainError, match=r"config.json is not the config.json of a run"):
        opened(tmp_path, resume=True)


def test_a_kill_before_the_config_was_there_leaves_a_usable_folder(tmp_path) -> None:
    """Its temporary file and empty checkpoint folder are no reason to refuse."""
    root = tmp_path / "run"
    RunDir(root).checkpoints.mkdir(parents=True)
    (root / ".config.json.tmp-7").write_text("half")
    assert opened(root)[1] == "new"


def test_metrics_are_one_line_per_epoch(tmp_path) -> None:
    """Rewriting to a shorter history and appending gives each epoch once."""
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, [{"epoch": 1}, {"epoch": 2}])
    write_metrics(path, [{"epoch": 1}])
    append_metrics(path, {"epoch": 2})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_line_that_is_being_written_is_not_read(tmp_path) -> None:
    """Nor one that a death cut; no file is no epoch."""
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    write_metrics(path, [{"epoch": 1}])
    append_metrics(path, {"epoch": 2})
    path.write_bytes(path.read_bytes() + b'{"epo')
    assert read_metrics(path) == [{"epoch": 1}, {"epoch": 2}]
