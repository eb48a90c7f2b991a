"""The whole train stage on a small table: what it learns, writes, refuses and says."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from train.acceleration import has_compiler
from train.config import TrainConfig
from train.dataset import Matrix, build_dataset
from train.errors import TrainError
from train.owner import take
from train.predict import predict_rows
from train.rundir import RunDir
from train.stage import run_train

JSON_KEYS = {
    "run", "pairs", "epochs", "best_epoch", "seconds", "setup_seconds", "pairs_per_second",
    "waited_fraction", "peak_memory_bytes", "valid", "test", "baselines", "split", "near_identity", "seen",
    "unseen", "within", "bounds", "ceiling", "intervals",
}  # fmt: skip


@pytest.fixture
def train(planted, tmp_path):
    """Train on the planted table; fields change the config, options the call."""
    source = planted(301)

    def run(name: str = "run", options: dict | None = None, **fields):
        config = TrainConfig(
            **{"run": tmp_path / name, "widths": (32, 16), "batch_size": 32, "epochs": 40, "lr": 1e-2, **fields}
        )
        options = {"resolved": {"train": {"run": name}}, **(options or {})}
        return run_train(config, source.table, source.folders, **options)

    run.source = source
    return run


def test_a_run_learns_the_rule_and_leaves_everything(train, tmp_path) -> None:
    """The planted rule is found, and metrics, predictions, split and weights agree with one another."""
    told = []
    result = train(options={"progress": lambda *step: told.append(step)})
    files = RunDir(tmp_path / "run")
    found = result.as_json()
    assert set(found) == JSON_KEYS
    assert json.loads(files.result.read_text()) == {**json.loads(json.dumps(found)), "details": result.details}
    assert found["test"]["r2"] > 0.8
    assert found["test"]["r2"] > found["baselines"]["training mean"]["test"]["r2"]
    assert found["pairs"] == 301
    assert 0 < found["setup_seconds"] < found["seconds"]
    assert found["pairs_per_second"] > 0
    assert 0 < found["waited_fraction"] < 1
    assert told[-1] == ("scoring", 1, 1)

    rows = pq.read_table(files.predictions).to_pydict()
    assert rows["id"] == list(train.source.table.id)
    in_test = np.array(rows["split"]) == "test"
    target, prediction = np.array(rows["target"])[in_test], np.array(rows["prediction"])[in_test]
    assert found["test"]["n"] == in_test.sum() == 30
    assert found["test"]["spearman"] == pytest.approx(spearmanr(target, prediction)[0], abs=1e-6)
    assert found["test"]["rmse"] == pytest.approx(np.sqrt(np.mean((target - prediction) ** 2)), rel=1e-5)

    split = pq.read_table(files.split)
    assert split.to_pydict() == {"id": rows["id"], "split": rows["split"]}
    assert split.schema.metadata[b"digest"].decode() == result.details["split_digest"]
    history = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in history] == list(range(1, found["epochs"] + 1))
    best = min(history, key=lambda line: line["valid_rmse"])
    assert best["epoch"] == found["best_epoch"]
    assert found["valid"]["rmse"] == pytest.approx(best["valid_rmse"], rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicting_the_same_table_gives_the_same_predictions(train, tmp_path, precision) -> None:
    """However it was trained, the saved weights predict what the run wrote, in any order of pairs."""
    train(precision=precision, epochs=5)
    written = np.array(pq.read_table(tmp_path / "run" / "predictions.parquet")["prediction"])
    dataset = build_dataset(train.source.table, train.source.folders)
    np.testing.assert_allclose(predict_rows(tmp_path / "run", dataset), written, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(dataset))[:77]
    some = replace(dataset, row_N2=dataset.row_N2[order], target_N=dataset.target_N[order])
    np.testing.assert_allclose(predict_rows(tmp_path / "run", some), written[order], atol=1e-5)


def test_vectors_of_another_width_are_refused(train, tmp_path) -> None:
    """Vectors of other encoders cannot be predicted on."""
    train(epochs=1)
    dataset = build_dataset(train.source.table, train.source.folders)
    other = replace(dataset, antigens=Matrix.of(np.zeros((len(dataset.antigens), 9), np.float32)))
    with pytest.raises(TrainError, match=r"widths \(6, 5\), the store's have \(6, 9\)"):
        predict_rows(tmp_path / "run", other)


def test_the_three_placements_train_the_same_weights(train, tmp_path) -> None:
    """Where vectors wait changes no bit of what is learnt."""
    for placement in ("device", "pinned", "mapped"):
        train(placement, placement=placement, epochs=3)
    images = {RunDir(tmp_path / name).weights.read_bytes() for name in ("device", "pinned", "mapped")}
    assert len(images) == 1


def test_a_stopped_run_goes_on_to_the_same_end(train, tmp_path) -> None:
    """A polite stop saves at once and says so; resumed twice it ends with the unbroken run's very bytes."""
    train("unbroken", epochs=6)
    steps = iter(range(1000))
    stopped = train(epochs=6, options={"stop": lambda: next(steps) == 11})
    assert stopped.stopped
    assert stopped.valid is None
    assert not RunDir(tmp_path / "run").result.exists()
    steps = iter(range(1000))
    assert train(epochs=6, options={"resume": True, "stop": lambda: next(steps) == 9}).stopped
    done = train(epochs=6, options={"resume": True})
    assert not done.stopped
    assert done.epochs == 6
    for name in ("best.safetensors", "predictions.parquet", "split.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when inductor is imported
def test_a_compiled_run_goes_on_to_the_same_end(train, tmp_path) -> None:
    """The whole regressor compiles in one graph, recomputation included, and resumes to the same bytes."""
    fields = {"epochs": 3, "dropout": 0.3, "compile": "default", "checkpointing": "wide"}
    result = train("unbroken", **fields)
    assert result.details["compile"] == "default (as asked)"
    steps = iter(range(1000))
    assert train(**fields, options={"stop": lambda: next(steps) == 11}).stopped
    train(**fields, options={"resume": True})
    images = [RunDir(tmp_path / name).weights.read_bytes() for name in ("unbroken", "run")]
    assert images[0] == images[1]


def test_a_finished_run_is_refused_or_read(train, tmp_path) -> None:
    """Without resume it is refused; with it, its result comes back and nothing is trained."""
    first = train(epochs=2)
    with pytest.raises(TrainError, match="holds a finished run"):
        train(epochs=2)
    again = train(epochs=2, options={"resume": True, "progress": lambda *_: pytest.fail("trained")})
    assert json.dumps(again.as_json()) == json.dumps(first.as_json())


def test_only_what_leaves_the_weights_alone_may_change(train) -> None:
    """A resume may keep more checkpoints, but not learn faster."""
    train(epochs=3, options={"stop": lambda: True})
    with pytest.raises(TrainError, match=r"these differ: train.lr \(0.01 in the run, 0.02 now\)"):
        train(epochs=3, lr=0.02, options={"resume": True})
    assert train(epochs=3, keep=5, checkpoint_every=2, placement="mapped", options={"resume": True}).epochs == 3


def test_products_of_both_vectors_are_learnt_by_a_head_that_has_them(
    make_table, random_rows, embedded, tmp_path
) -> None:
    """Where pKd is a pure interaction, `bilinear` and `difference` beat `concat`, width and epochs alike."""
    rows = random_rows(1200, antibodies=60, antigens=20)
    first = make_table(rows)
    folders = embedded(first)
    dataset = build_dataset(first, folders)
    vector_NF = dataset.features(np.arange(len(dataset)))
    rule_N = (vector_NF[:, :5] * vector_NF[:, 6:]).sum(axis=1)
    pkd_N = 8 + rule_N / rule_N.std()
    table = make_table([(*row[:3], float(pkd), row[4]) for row, pkd in zip(rows, pkd_N, strict=True)])
    error = {}
    for head in ("concat", "bilinear", "difference"):
        fields = {"widths": (32,), "batch_size": 64, "epochs": 15, "lr": 1e-2, "dropout": 0.0, "patience": 0}
        config = TrainConfig(run=tmp_path / head, head=head, precision="fp32", **fields)
        error[head] = run_train(config, table, folders, resolved={}).test["rmse"]
        predicted = predict_rows(config.run, build_dataset(table, folders))
        written = pq.read_table(RunDir(config.run).predictions)["prediction"].to_numpy()
        np.testing.assert_allclose(predicted, written, atol=1e-4)
    assert error["concat"] < pkd_N.std() / 2
    assert error["bilinear"] < 0.9 * error["concat"]
    assert error["difference"] < 0.7 * error["concat"]


def test_another_table_is_not_gone_on_with(train, planted, tmp_path) -> None:
    """A table with other rows is another run, by the name of the table."""
    train(epochs=3, options={"stop": lambda: True})
    changed = replace(train.source.table, digest="0" * 64)
    config = TrainConfig(run=tmp_path / "run", widths=(32, 16), batch_size=32, epochs=3, lr=1e-2)
    with pytest.raises(TrainError, match=r"these differ: pairs table \(SHA-256\)"):
        run_train(config, changed, train.source.folders, resolved={}, resume=True)


def test_checkpoints_come_every_n_steps_and_every_epoch(train, tmp_path) -> None:
    """8 steps an epoch: every third step and every epoch's end is saved, the last ones kept."""
    result = train(epochs=2, checkpoint_every=3, keep=9)
    steps = sorted(int(path.stem[5:]) for path in RunDir(tmp_path / "run").checkpoints.iterdir())
    assert steps == [3, 6, 8, 9, 12, 15, 16]
    assert result.details["checkpoints"] == 7
    assert 0 < result.details["checkpoint_longest_stall_seconds"] < result.details["checkpoint_stall_seconds"]


def test_a_table_without_affinities_is_refused(train) -> None:
    """There is nothing to learn, and the field to set is named."""
    config = TrainConfig(run=train.source.path.parent / "run")
    with pytest.raises(TrainError, match=r"pairs\.affinity names no column"):
        run_train(config, replace(train.source.table, affinity_N=None), train.source.folders, resolved={})
    assert not config.run.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("dropout", 1.0), ("widths", ()), ("device", "tpu"), ("lr", 0.0), ("warmup", 1.5)],
)
def test_a_config_that_cannot_run_is_refused_by_name(tmp_path, field, value) -> None:
    """The message names field, value and rule."""
    with pytest.raises(TrainError, match=f"train.{field} = "):
        TrainConfig(run=tmp_path, **{field: value})


def test_a_table_that_changed_does_not_go_on_with_the_run(train, tmp_path) -> None:
    """A run belongs to the bytes of its table (entry 35 of the catalogue of bad input)."""
    config = TrainConfig(run=tmp_path / "run", widths=(8,), batch_size=32, epochs=2)
    source, resolved = train.source, {"train": {"run": "run"}}
    assert run_train(config, source.table, source.folders, resolved=resolved, stop=lambda: True).stopped
    changed = replace(source.table, digest="0" * 64)
    with pytest.raises(TrainError, match=r"pairs table \(SHA-256\) \('[0-9a-f]+' in the run, '0+' now\)"):
        run_train(config, changed, source.folders, resolved=resolved, resume=True)


def test_a_run_in_work_is_refused(train, tmp_path) -> None:
    """It says which process has it, resumed or new, and touches nothing; when that one left, it goes on."""
    with take(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(TrainError, match=r"run is in use by process [0-9]+ on .*: wait for it"):
                train(epochs=1, options={"resume": resume})
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".owner-1"]
    assert train(epochs=1, options={"resume": True}).epochs == 1
