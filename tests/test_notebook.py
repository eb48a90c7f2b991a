"""The notebook for newcomers runs from top to bottom, as far as it needs no GPU."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.config import load
from pipeline.demo import write_demo

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text("utf-8"))
ROWS = 200


def code(*, gpu: bool) -> list[str]:
    """The code cells that need a GPU, or the others, without the lines that are IPython's."""
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    texts = ["".join(cell["source"]) for cell in cells if ("gpu" in cell["metadata"].get("tags", [])) == gpu]
    return ["".join(line for line in text.splitlines(keepends=True) if not line.startswith("%")) for text in texts]


def test_it_is_a_clean_notebook_of_format_4():
    """No outputs, no counts, an id for each cell, and sources that every tool reads."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert all(line.endswith("\n") for line in cell["source"][:-1]), cell["id"]
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), cell["id"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the demo, its table cut to the first rows, so that it is over sooner."""
    write_demo(tmp_path / "demo")
    table = tmp_path / "demo/pairs.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[: ROWS + 1]))
    return tmp_path


def test_it_runs_from_top_to_bottom(folder):
    """Every cell before the GPU's, in one fresh process, as somebody without IPython would run them."""
    script = folder / "cells.py"
    script.write_text("\n".join(code(gpu=False)))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "encoded now" in done.stdout
    assert "<!doctype html>" in done.stdout.lower(), "the report is shown"
    assert "4 trials" in done.stdout
    assert done.stdout.count("(95 %:") == 10


def test_the_gpu_section_compiles_and_its_config_loads(tmp_path):
    """It is not run here: each cell after the config is guarded, and the config has no field that is not there."""
    cells = code(gpu=True)
    assert len(cells) >= 3
    config = ""
    for cell in cells:
        tree = ast.parse(cell)
        guarded = [node for node in tree.body if not isinstance(node, (ast.Import, ast.Assign))]
        assert all(ast.unparse(node.test) == "torch.cuda.is_available()" for node in guarded)
        for node in tree.body:
            if isinstance(node, ast.Assign):
                config = ast.literal_eval(node.value)
    (tmp_path / "real.toml").write_text(config)
    loaded = load(tmp_path / "real.toml", [])
    assert (loaded.embed.precision, loaded.embed.compile, loaded.embed.batching) == ("int8", "on", "packed")
    assert loaded.train.precision == "bf16"
    shipped = tomllib.loads((ROOT / "configs/igt5-esm2.toml").read_text())["embed"]
    assert [loaded.embed.antibody, loaded.embed.antigen_revision] == [shipped["antibody"], shipped["antigen_revision"]]


def test_its_links_lead_somewhere():
    """Relative links of its text, from the folder that it lies in."""
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    assert all((ROOT / "notebooks" / target).exists() for target in targets)
