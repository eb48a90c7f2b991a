"""`embed.antibody = "onehot"` through every command that a config meets."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from embed.encoders.lookup import Lookup


@pytest.fixture(scope="module")
def there(demo, tmp_path_factory):
    """A config of the demo's table without a model."""
    folder = tmp_path_factory.mktemp("lookup")
    text = (demo / "demo.toml").read_text()
    for before, after in (
        ('"./igt5"', '"onehot"'),
        ('"./esm2"', '"blosum62"'),
        ('"pairs.csv"', f'"{demo / "pairs.csv"}"'),
    ):
        assert before in text
        text = text.replace(before, after)
    (folder / "mine.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run(there, bindcache, quick):
    """Embed and train; returns what `train --json` said."""
    embedded = bindcache("embed", "--config", there / "mine.toml", "--json")
    assert embedded.exit_code == 0, embedded.output
    result = bindcache("train", "--config", there / "mine.toml", *quick, "--set", "train.epochs=20", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_trains_and_predicts_as_any_encoder(there, run, bindcache, demo):
    """The run's own predictions come again, new sequences are embedded, and the report is there."""
    assert run["baselines"]["ridge on vectors"]["test"]["n"] == run["test"]["n"]
    assert (there / "run" / "report.html").exists()
    rows = (demo / "pairs.csv").read_text().splitlines()[:31]
    heavy, light, antigen = rows[1].split(",")[1:4]
    new = there / "new.csv"
    new.write_text("\n".join([*rows, f"new,{heavy}A,{light},{antigen},7"]) + "\n")
    out = there / "out.parquet"
    told = bindcache("predict", "--run", there / "run", "--pairs", new, "--out", out, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["embedded"] == 1
    own = pq.read_table(there / "run" / "predictions.parquet").to_pydict()
    own = dict(zip(own["id"], own["prediction"], strict=True))
    *same, last = pq.read_table(out)["prediction"].to_pylist()
    np.testing.assert_allclose(same, [own[row.split(",")[0]] for row in rows[1:]], atol=1e-4)
    assert np.isfinite(last)


def test_weights_hold_only_the_axes_that_vary(there, run):
    """160 pairs have few axes: a run is no larger for vectors of 10,240 numbers that are mostly the same."""
    weights = there / "run" / "best.safetensors"
    record = json.loads(weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")])
    facts = json.loads(record["__metadata__"]["bindcache"])
    assert (facts["antibody_dim"], facts["antigen_dim"]) == (10240, 5120)
    assert max(facts["axes"]) <= 160


def test_stores_are_told_verified_and_exported(there, run, bindcache):
    """`info` names the folders, `verify` finds them whole, `export` gives the vectors back."""
    here = ("--config", there / "mine.toml")
    info = json.loads(bindcache("store", "info", *here, "--json").stdout)["folders"]
    assert sorted(folder["name"].rpartition("-")[0] for folder in info) == ["blosum62-fp32", "onehot-fp32"]
    assert bindcache("store", "verify", *here).exit_code == 0
    out = there / "vectors.parquet"
    assert bindcache("store", "export", *here, "--out", out).exit_code == 0
    row = pq.read_table(out).slice(0, 1).to_pylist()[0]
    expected = Lookup("onehot", "antibody").encode([(row["heavy"], row["light"])])[0]
    np.testing.assert_array_equal(np.float32(row["vector"]), expected)


def test_doctor_needs_no_model_and_tells_of_the_baseline(there, demo, bindcache, monkeypatch):
    """No weights, no precision to try, no tokens to time; for models on few pairs the baseline is a warning."""
    tried = []
    monkeypatch.setattr("pipeline.doctor.examination.run_trials", lambda limits, **_: iter(tried.append(limits) or ()))
    fresh = ("--set", f"embed.store={there / 'none'}", "--json")
    told = bindcache("doctor", "--config", there / "mine.toml", *fresh)
    assert told.exit_code == 0, told.output
    found = {finding["name"]: finding for finding in json.loads(told.stdout)["findings"]}
    assert found["antibody encoder"]["said"] == "onehot, a table: there are no weights"
    assert "looked up in a table" in found["embed antibody"]["said"]
    assert (found["baseline"]["verdict"], list(tried[0])) == ("ok", ["train"])
    told = bindcache("doctor", "--config", demo / "demo.toml", *fresh)
    found = {finding["name"]: finding for finding in json.loads(told.stdout)["findings"]}
    assert found["baseline"]["verdict"] == "warning"
    assert 'embed.antibody = "blosum62"' in found["baseline"]["next_step"]


def test_fidelity_measures_the_model_alone(there, demo, bindcache, error):
    """Vectors from a table are exact; with two tables there is nothing to measure, and that is said."""
    said = error("fidelity", "--config", there / "mine.toml")
    assert "exact in every precision, so there is nothing to measure" in said
    mixed = ("--config", there / "mine.toml", "--set", f"embed.antibody={demo / 'igt5'}", "--sample", 40, "--json")
    told = bindcache("fidelity", *mixed)
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert [row["precision"] for row in found["roles"]["antigen"]["rows"]] == ["fp32"]
    assert "exact" in found["roles"]["antigen"]["not_judged"]
    assert list(found["choices"]) == ["antibody"]


def test_the_bench_refuses_what_is_no_model(there, error):
    """There is no optimisation of a table to take away."""
    said = error("bench", "--ladder", "--config", there / "mine.toml")
    assert 'embed.antibody = "onehot": the bench takes optimisations away from models' in said


def test_profile_says_why_there_is_nothing(there, run, bindcache):
    """A second embedding has no steps."""
    told = bindcache("embed", "--config", there / "mine.toml", "--profile", there / "trace.json")
    assert told.exit_code == 0, told.output
    assert "was not written" in told.stderr


def test_a_misspelt_table_is_told_what_there_is(there, error):
    """The words come before hub ids and folders."""
    said = error("embed", "--config", there / "mine.toml", "--set", "embed.antibody=one-hot")
    assert 'expected "onehot", "blosum62", a hub id (owner/name) or an existing folder' in said
