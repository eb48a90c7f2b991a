"""The README and the documents beside it say what is true today."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.config import SECTIONS, load
from pipeline.fields import field_docs
from pipeline.reference import renew
from pipeline.script import sbatch_script
from pipeline.submission import SubmissionDir, Tasks
from train.sweep.space import read_space

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_config_reference_is_that_of_the_classes():
    """Every field is listed as its class documents it."""
    assert renew(README) == README, "run: python -m pipeline.reference README.md"


def test_every_field_is_documented():
    """No field of a config lacks its sentence."""
    undocumented = [field.name for section in SECTIONS.values() for field in field_docs(section) if not field.doc]
    assert undocumented == []


def test_the_example_config_loads(tmp_path):
    """The README's TOML is accepted, every key of it."""
    (tmp_path / "mine.toml").write_text(blocks("toml")[0])
    config = load(tmp_path / "mine.toml", [])
    assert config.train is not None
    assert config.train.split == "group"
    assert tomllib.loads(blocks("toml")[0])["embed"]["antibody"] == "Exscientia/IgT5"


def test_the_example_sweep_loads(tmp_path):
    """Added to the example config, its space is one that a sweep takes."""
    (tmp_path / "mine.toml").write_text("\n".join(blocks("toml")[:2]))
    config = load(tmp_path / "mine.toml", [])
    space = read_space(config.sweep.space, asdict(config.train))
    assert list(space) == ["lr", "dropout", "depth", "features"]
    assert config.sweep.rungs(config.train.epochs) == (8,)
    assert config.sweep.rungs(513) == (8, 64, 512)
    assert (config.sweep.best, config.sweep.halving) == (5, 8)


def test_the_commands_exist():
    """Each `bindcache` line names a command and options that are there."""
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["bindcache"]]
    assert len(commands) >= 5
    for words in commands:
        depth = 2 if words[0] in ("store", "submit") else 1
        shown = CliRunner().invoke(main, [*words[:depth], "--help"])
        assert shown.exit_code == 0, words
        assert all(word in shown.output for word in words if word.startswith("--")), words


def test_the_make_targets_exist():
    """Each `make` word of the documents is a target."""
    makefile = (ROOT / "Makefile").read_text()
    for document in ("README.md", "CONTRIBUTING.md"):
        for targets in re.findall(r"(?:^|`)make ([a-z -]+)", (ROOT / document).read_text(), re.M):
            for target in targets.split():
                assert re.search(rf"^{target}\b.*:", makefile, re.M), target


def test_links_lead_somewhere():
    """Every relative link of the documents exists."""
    for document in (*ROOT.glob("*.md"), ROOT / "embed/store/FORMAT.md", ROOT / "benchmarks/NOTES.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("name", ["demo", "igt5-esm2"])
def test_the_configs_that_ship_load(name, tmp_path):
    """Both configs have no unknown key; the demo's encoders may not be made yet."""
    text = (ROOT / "configs" / f"{name}.toml").read_text()
    for encoder in ("igt5", "esm2"):
        (tmp_path / "work/demo" / encoder).mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "c.toml").write_text(text)
    assert load(tmp_path / "configs" / "c.toml", []).train is not None


def test_the_way_from_nothing_to_predictions(checkpoints, tmp_path):
    """demo, embed, embed again, train, resume, predict and export, as the README's reader types them."""

    env = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(*words: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words, "--json"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            env=env,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    run("demo", "demo")
    fast = ("--set", "train.epochs=12")
    first = run("embed", "--config", "demo/demo.toml")
    assert first["embedded"] == first["antibodies"] + first["antigens"]
    assert run("embed", "--config", "demo/demo.toml")["embedded"] == 0
    trained = run("train", "--config", "demo/demo.toml", *fast)
    assert trained["test"]["spearman"] >= 0.8
    assert set(trained["baselines"]) == {"training mean", "ridge on composition", "ridge on vectors"}
    again = run("train", "--config", "demo/demo.toml", "--resume", *fast)
    assert again["test"] == trained["test"]
    predicted = run("predict", "--run", trained["run"], "--pairs", "demo/pairs.csv", "--out", "p.parquet")
    assert (predicted["embedded"], predicted["rejected"]) == (0, 0)
    exported = run("store", "export", "--config", "demo/demo.toml", "--out", "v.parquet")
    assert exported
    files = {path.name for path in Path(trained["run"]).iterdir()}
    listed = {"config.json", "split.parquet", "metrics.jsonl", "checkpoints", "best.safetensors", "predictions.parquet"}
    assert listed | {"result.json"} <= files
    assert load(tmp_path / "demo/demo.toml", []).embed.store.is_dir()


def test_the_script_in_the_cluster_page_is_what_is_submitted(tmp_path, monkeypatch):
    """Made from the page's own section [cluster], for the folders that the page names."""
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    section = textwrap.dedent(re.findall(r"```toml\n(.*?)```", page, re.S)[0])
    (tmp_path / "mine.toml").write_text(blocks("toml")[0] + section)
    cluster = load(tmp_path / "mine.toml", []).cluster
    monkeypatch.setattr("sys.executable", "/shared/venv/bin/python")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/shared/project"))
    tasks = Tasks(kind="embed", count=16, config=Path("/shared/project/mine.toml"))
    place = SubmissionDir(Path("/shared/project/jobs/embed-20261124-120000-4f1d"), "part")
    assert sbatch_script(cluster, tasks, place) in re.findall(r"```bash\n(.*?)```", page, re.S)
