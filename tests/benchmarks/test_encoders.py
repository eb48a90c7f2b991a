"""The benchmark of the encoders: real processes on tiny encoders, and the pure functions that make its columns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import processes
from benchmarks.checkpoints import ready
from benchmarks.contestants import CONTESTANTS
from benchmarks.measuring import Measured
from benchmarks.processes import AbsentError, FailedError, Worker
from benchmarks.scoring import Work, neighbours_over_error, relative_error, score, spread_over_error
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workloads import LONGEST, antibodies, antigens, residues, sample, variants, workload

ROOT = Path(__file__).resolve().parents[2]


def run(module, *words):
    """A benchmark command, as a reader types it."""
    env = {name: value for name, value in os.environ.items() if name != "BINDCACHE_BENCH_DATA"}
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env=env)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A folder with the demo's encoders, where the benchmark looks for them."""
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("demo-igt5", "demo-esm2"):
        ready(name, folder)
    return folder


@pytest.fixture(scope="module")
def record(tmp_path_factory, encoders):
    """One round of four contestants on the built-in antibodies, and what was printed."""
    results = tmp_path_factory.mktemp("results")
    names = "hf-single-fp32,hf-sorted-2048,ours-int8"
    words = ("--work", "ch65-demo", "--rounds", 1, "--sequences", 96, "--contestants", names)
    done = run("benchmarks.encoders", *words, "--results", results, "--checkpoints", encoders)
    assert done.returncode == 0, done.stderr
    (path,) = results.glob("*.json")
    return json.loads(path.read_text()), done.stdout, path


def test_the_json_holds_what_the_table_says(record):
    """Every row's speed, ratio and fidelity stand in both, and the Markdown beside the JSON is what was printed."""
    content, printed, path = record
    assert path.with_suffix(".md").read_text() == printed.rstrip("\n") + "\n"
    lines = {line.split(" | ")[0].strip("|* "): line for line in printed.splitlines() if line.startswith("| ")}
    assert [row["name"] for row in content["rows"]] == ["hf-single-fp32", "hf-sorted-2048", "ours-int8", "ours-fp32"]
    for row in content["rows"]:
        line = lines[row["says"]]
        assert f"| {row['residues_per_second']['median']:,.0f} | {row['ratio']['median']:.2f} (" in line
        seconds = row["large_seconds"][0] - row["small_seconds"][0]
        between = content["residues"]["large"] - content["residues"]["small"]
        assert row["residues_per_second"]["median"] == pytest.approx(between / seconds)
        assert row["peak_bytes"] > 50e6
        assert row["first_seconds"] > row["large_seconds"][0] / 10
    assert content["baseline"] == "hf-sorted-2048"
    assert content["matmul"].keys() == {"fp32", "bf16", "int8"}
    assert content["machine"]["versions"]["torch"] == torch.__version__


def test_the_contestants_encode_the_same(record):
    """Plain Hugging Face in fp32 makes our fp32 vectors, bf16 and INT8 lie as near as they should."""
    rows = {row["name"]: row for row in record[0]["rows"]}
    assert rows["hf-single-fp32"]["relative_error"] < 1e-5
    assert 1e-4 < rows["hf-sorted-2048"]["relative_error"] < 0.05
    assert 1e-4 < rows["ours-int8"]["relative_error"] < 0.05
    assert rows["ours-int8"]["neighbours_over_error"] > rows["hf-sorted-2048"]["neighbours_over_error"]


def test_no_path_of_this_machine_is_recorded(record):
    """What is committed says the command without the folders it was given."""
    content, printed, path = record
    assert str(path.parent) not in printed + json.dumps(content)
    assert str(ROOT) not in printed + json.dumps(content)


def test_an_unknown_contestant_is_refused():
    """The message names it and who there is."""
    done = run("benchmarks.encoders", "--work", "esm2-8m", "--contestants", "nobody")
    assert done.returncode == 2
    assert "'nobody'" in done.stderr
    assert "ours-int8" in done.stderr


def test_an_absent_peer_is_said(monkeypatch, tmp_path):
    """Its row names the way to install it, and the others go on."""
    monkeypatch.setattr(processes, "PEERS", tmp_path)
    worker = Worker(CONTESTANTS["biotrainer"], tmp_path)
    with pytest.raises(AbsentError, match="not installed: make bench-peers"):
        worker.start({}, {})
    worker.close()


def test_a_broken_contestant_says_its_last_words(tmp_path):
    """A process that dies is a failure with its error, not a row of numbers."""
    worker = Worker(CONTESTANTS["hf-single-fp32"], tmp_path)
    worker.start({"tables": {}, "family": "esm2", "checkpoint": str(tmp_path / "none"), "device": "cpu"}, {})
    with pytest.raises(FailedError, match="hf-single-fp32 ended"):
        worker.time("large")
    worker.close()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "error"), [("biotrainer", 0.2), ("esm-cpp-fp32", 1e-5)])
def test_peers_encode_the_same(name, error, tmp_path):
    """Where they are installed, peers make our vectors; biotrainer averages special tokens and padding with them."""
    if not (processes.PEERS / CONTESTANTS[name].peer / "installed").is_file():
        pytest.skip("make bench-peers")
    words = ("--work", "esm2-8m", "--rounds", 1, "--sequences", 8, "--contestants", name)
    done = run("benchmarks.encoders", *words, "--results", tmp_path / "results", "--checkpoints", tmp_path / "encoders")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("*.json")
    rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]}
    assert 0 < rows[name]["relative_error"] < error


@pytest.mark.slow
def test_stability_is_measured(tmp_path, encoders):
    """Each precision has its row; fp32 moves by rounding at most."""
    words = ("--work", "ch65-demo", "--packings", 2, "--sequences", 4, "--precisions", "fp32,int8")
    done = run(
        "benchmarks.stability", *words, "--results", tmp_path / "results", "--checkpoints", tmp_path / "encoders"
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("*.json")
    rows = {row["precision"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows.keys() == {"fp32", "int8"}
    for row in rows.values():
        assert 0 <= row["largest"] < 1e-4
        assert row["of_neighbours"] < 0.01


def measured(name, large, small, vectors=None):
    """A result of which only the seconds and vectors are known."""
    return Measured(contestant=CONTESTANTS[name], large=large, small=small, vector_ND=vectors)


def test_ratios_are_taken_round_by_round():
    """The best baseline is the denominator; a slow round that slows both leaves the ratio alone."""
    work = Work(
        shape=Shape(family="esm2", layers=1, width=8, feed_forward=32, heads=2, head_width=4), residues=90, tokens=100
    )
    results = [
        measured("hf-sorted-1024", [9.0, 9.0, 9.0], [1.0, 1.0, 1.0]),
        measured("hf-sorted-2048", [5.0, 50.0, 5.0], [1.0, 10.0, 1.0]),
        measured("ours-int8", [2.5, 25.0, 3.5], [0.5, 5.0, 0.5]),
    ]
    rows, baseline = score(results, work, {"int8": 1e6})
    assert baseline == "hf-sorted-2048"
    ours = rows[2]
    assert (ours.ratio.least, ours.ratio.median, ours.ratio.most) == (pytest.approx(4 / 3), 2.0, 2.0)
    assert ours.residues_per_second.median == 30
    # two products, 768 weights, 100 tokens, 3 s
    assert ours.of_matmul == pytest.approx(2 * 2 * 768 * 100 / 3 / 1e6)
    assert rows[0].of_matmul is None


def test_too_short_a_table_is_said():
    """A difference that is no time makes no number."""
    work = Work(shape=SHAPES["esm2-8m"], residues=90, tokens=100)
    (row,), baseline = score([measured("hf-sorted-1024", [1.0], [1.1])], work, {})
    assert "use more --sequences" in row.why_not
    assert baseline == ""


def test_fidelity_leaves_out_what_all_share():
    """A shift of all vectors counts as error and confuses nobody; noise does both."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 8)).astype(np.float32)
    shifted = (reference + 1).astype(np.float32)
    noisy = (reference + rng.normal(scale=0.5, size=reference.shape)).astype(np.float32)
    norm = np.linalg.norm(reference, axis=1)
    assert relative_error(shifted, reference) == pytest.approx(np.sqrt(8) / norm.min(), rel=1e-4)
    assert spread_over_error(shifted, reference) > 1e6
    assert spread_over_error(noisy, reference) == pytest.approx(2, rel=0.1)
    assert neighbours_over_error(shifted, reference) > 1e5
    assert neighbours_over_error(noisy, reference) < 3


def test_samples_keep_neighbours_in_length_together():
    """Runs of four from all lengths, in the table's order; the small table is a part of the large one."""
    whole = ["A" * n for n in np.random.default_rng(0).permutation(np.arange(1, 101))]
    some = sample(whole, 20)
    assert some == [s for s in whole if s in set(some)]
    lengths = sorted(map(len, some))
    assert len(lengths) == 20
    assert all(lengths[i + 3] - lengths[i] == 3 for i in range(0, 20, 4))
    assert lengths[0] < 20
    assert lengths[-1] > 80
    made = workload("t", whole, 20)
    assert set(made.small) < set(made.large)
    assert made.residues[1] == pytest.approx(made.residues[0] / 4, rel=0.2)


def test_the_built_in_tables_are_like_the_real_ones():
    """Distinct, the same every time, of like lengths, nothing longer than ESM-2 reads."""
    name, sequences = antigens(None)
    assert antigens(None) == (name, sequences)
    assert len(set(sequences)) == len(sequences) >= 300
    assert max(map(len, sequences)) == LONGEST
    pairs = antibodies(None)[1]
    assert len(set(pairs)) == len(pairs) >= 400
    assert {len(pair) for pair in pairs} == {2}


def test_the_real_tables_are_read(shared_data):
    """Distinct, cut at what ESM-2 reads."""
    assert len(antigens(shared_data)[1]) == 308  # of 315, as some differ after residue 1,022 only
    assert len(antibodies(shared_data)[1]) == 65508
    close = variants(antibodies(shared_data)[1], 12)
    first = "".join(close[0])
    differ = [sum(a != b for a, b in zip("".join(pair), first, strict=True)) for pair in close]
    assert differ[0] == 0
    assert max(differ[1:]) <= 2
    assert residues(close[0]) == 232
