"""What pages say, when they are written, and that nothing else suffers from them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from pipeline.config import from_resolved, load, resolved
from pipeline.report.accuracy import predictions
from pipeline.report.blocks import Page, Section, Table
from pipeline.report.distance import nearest
from pipeline.report.finished import read_finished
from pipeline.report.lengths import padding
from pipeline.report.page import render, visible
from pipeline.report.repeat import as_toml
from pipeline.report.run import run_page as page_of
from pipeline.report.run import verdict
from train.rundir import RunDir


def test_the_answer_comes_first_and_is_that_of_the_result(run_page):
    """Score, interval, split and the best baseline in the first lines, before any drawing."""
    result = json.loads((run_page.parent / "result.json").read_bytes())
    head = run_page.read_text("utf-8").partition("<main>")[0]
    assert f"{result['test']['spearman']:.3f}" in head
    assert "split: column" in head
    assert "<svg" not in head
    best = max((each["test"]["spearman"] or -2 for each in result["baselines"].values()), default=0)
    assert f"{best:.3f}" in head


def test_report_writes_the_same_page_again(bindcache, run_page):
    """From the run's folder, table and store alone."""
    before = run_page.read_bytes()
    run_page.unlink()
    result = bindcache("report", "--run", run_page.parent, "--json")
    assert json.loads(result.stdout) == {"report": str(run_page)}
    assert run_page.read_bytes() == before


def test_without_its_table_a_run_still_has_a_page(bindcache, run_page, demo):
    """What needs the table says why it is missing; the scores stay."""
    table, before = demo / "hostile.csv", run_page.read_bytes()
    content = table.read_bytes()
    try:
        table.write_bytes(content.replace(b"demo-0020", b"demo-XX20"))
        assert bindcache("report", "--run", run_page.parent).exit_code == 0
        text = run_page.read_text("utf-8")
        assert "is not the table any more that the run was trained on" in text
        assert "Predicted and measured" in text
        table.unlink()
        assert bindcache("report", "--run", run_page.parent).exit_code == 0
    finally:
        table.write_bytes(content)
        run_page.write_bytes(before)


def test_what_is_no_run_has_no_page(error, tmp_path):
    """The message says what to name instead."""
    assert "no config.json; name a run's folder" in error("report", "--run", tmp_path)


def test_without_the_extra_training_ends_well_and_says_how_to_get_a_page(bindcache, hostile, quick, demo, monkeypatch):
    """One line, exit 0, the result as ever."""
    monkeypatch.setattr("pipeline.report.page.find_spec", lambda name: None if name == "matplotlib" else object())
    run = demo / "pageless"
    result = bindcache("train", *hostile, *quick, "--set", f"train.run={run}", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["report"] is None
    (line,) = [line for line in result.stderr.splitlines() if "report" in line]
    assert "matplotlib is not installed; pip install 'bindcache[report]'" in line
    assert f"bindcache report --run {run}" in line
    assert (run / "result.json").exists()
    assert not (run / "report.html").exists()


def test_a_finished_run_keeps_its_page(bindcache, hostile, quick, run_page):
    """`train --resume` on it draws nothing again."""
    before = run_page.stat().st_mtime_ns
    assert bindcache("train", *hostile, *quick, "--resume").exit_code == 0
    assert run_page.stat().st_mtime_ns == before


def test_embedding_again_keeps_the_page_of_the_same_table_alone(bindcache, hostile, config, store_page):
    """Nothing new and the same table: not drawn again; another table: its own page."""
    before = store_page.stat().st_mtime_ns
    assert "&lt;b&gt;bad" in store_page.read_text("utf-8")
    assert bindcache("embed", *hostile).exit_code == 0
    assert store_page.stat().st_mtime_ns == before
    assert bindcache("embed", "--config", config).exit_code == 0
    assert "&lt;b&gt;bad" not in store_page.read_text("utf-8")
    assert store_page.stat().st_mtime_ns > before


def test_nothing_is_drawn_with_before_training_is_over():
    """Neither library is loaded by what trains and embeds."""
    code = (
        "import sys, pipeline.cli, pipeline.training, pipeline.sweep, train.stage, embed.stage; "
        "assert not {'matplotlib', 'jinja2', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[3])


def test_a_million_pairs_make_a_small_page(run_page):
    """Cells in the place of points, and it says so."""
    random = np.random.default_rng(0)
    target_N = random.normal(7, 1, 1_000_000)
    found = replace(
        read_finished(RunDir(run_page.parent), behind="gone"),
        ids=[str(row) for row in range(len(target_N))],
        part_N=np.where(np.arange(len(target_N)) % 10 == 0, "test", "train"),
        target_N=target_N,
        prediction_N=target_N + random.normal(0, 0.5, len(target_N)),
    )
    text = render(Page(kind="run", title="large", answer="", sections=[predictions(found)]))
    assert len(text) < 1_000_000
    assert "All 100,000 pairs; darker cells hold more." in text


def test_bounds_are_no_measurements(run_page, tmp_path):
    """Pairs with a bound are in no part that is scored or drawn, and are trained on all the same."""
    run = RunDir(shutil.copytree(run_page.parent, tmp_path / "run"))
    before = read_finished(run, behind="gone")
    side_N = np.arange(len(before.ids), dtype=np.int8) % 3 - 1
    pq.write_table(pq.read_table(run.predictions).append_column("side", pa.array(side_N)), run.predictions)
    found = read_finished(run, behind="gone")
    for part in ("train", "valid", "test"):
        rows = before.rows(part)
        assert found.rows(part).tolist() == rows[side_N[rows] == 0].tolist()
        assert found.rows(f"{part} bound").tolist() == rows[side_N[rows] != 0].tolist()


def test_a_run_without_the_means_to_score_has_a_page(run_page):
    """Constant predictions, undefined correlations and one epoch are told and not drawn wrongly."""
    found = read_finished(RunDir(run_page.parent))
    nothing = {**found.result["test"], "spearman": None, "spearman_ci": None, "r2": None}
    flat = replace(
        found,
        result={**found.result, "test": nothing, "baselines": {}},
        history=found.history[:1],
        prediction_N=np.full_like(found.target_N, 7.0),
    )
    assert "Spearman is undefined" in render(page_of(flat))


@given(st.text())
def test_no_text_leaves_its_cell(text):
    """Whatever it holds, a cell has no tag and no character that does not show."""
    page = Page(
        kind="run", title="t", answer="", sections=[Section("S", [Table(header=("a",), rows=[(f"<u>{text}",)])])]
    )
    cell = render(page).partition("<tbody>")[2].partition("<td>")[2].partition("</td>")[0]
    assert "<" not in cell
    assert cell.startswith("&lt;u&gt;")
    assert all(char.isprintable() or char == "\n" for char in visible(text))


@given(st.integers(1, 40), st.integers(1, 1500), st.integers(0, 2**32 - 1))
def test_the_nearest_vector_is_the_one_that_scipy_finds(test, train, seed):
    """In blocks or at once."""
    random = np.random.default_rng(seed)
    a, b = (random.normal(size=(n, 5)).astype(np.float32) for n in (test, train))
    a[0] = b[-1]
    found, typical = nearest(a, b)
    expected = cdist(a.astype(np.float64), b.astype(np.float64))
    assert found == pytest.approx(expected.min(axis=1), abs=5e-3 * max(1.0, typical))
    assert found[0] == 0


@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.sets(st.integers(1, 900), min_size=1, max_size=5))
def test_padding_is_what_counting_gives(tokens, edges):
    """Each piece padded to the first edge that holds it, or to the longest piece."""
    edges = sorted(edges)
    padded = sum(next((edge for edge in edges if edge >= count), max(tokens)) for count in tokens)
    assert padding(np.array(tokens), tuple(edges)) == pytest.approx(1 - sum(tokens) / padded)


def test_the_settings_in_a_page_give_the_same_run(run_page, tmp_path):
    """As a TOML file they resolve to what the run recorded."""
    settings = json.loads((run_page.parent / "config.json").read_bytes())["config"]
    (tmp_path / "repeat.toml").write_text(as_toml(settings), "utf-8")
    assert resolved(load(tmp_path / "repeat.toml")) == resolved(from_resolved(settings, tmp_path / "x"))


def test_only_intervals_that_do_not_touch_are_a_difference():
    """Better, worse, or not told apart."""

    def score(low, middle, high):
        return {"spearman": middle, "spearman_ci": [low, high]}

    base = score(0.4, 0.5, 0.6)
    assert "is better than" in verdict(score(0.7, 0.8, 0.9), base, "ridge")
    assert "is worse than" in verdict(score(0.1, 0.2, 0.3), base, "ridge")
    assert "not told apart" in verdict(score(0.5, 0.7, 0.9), base, "ridge")
    assert "not told apart" in verdict({"spearman": 0.9, "spearman_ci": None}, base, "ridge")
