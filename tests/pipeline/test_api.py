"""`import bindcache`: the page about it runs, its mistakes are sentences, and an interrupted call goes on."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import bindcache
import pipeline.api
from train.rundir import append_metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
NETWORK = {"epochs": 3, "widths": [32, 16], "compile": "off"}
"""As the fixture `quick` says it on the command line."""


@pytest.fixture
def here(demo, embedded, tmp_path, monkeypatch):
    """The demo with its store in a folder of its own, which is the working directory."""
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns("run*", "sweep*"))
    monkeypatch.chdir(folder)
    return folder


def test_the_page_runs_as_it_stands(demo, tmp_path):
    """All of its blocks in one process, in a demo's folder: embed, then train, predict and train again."""
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns("run*", "sweep*", "store"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d+ encoded, 0 were in the store\n", done.stdout)
    said = re.search(r"print\(error\)  # (.*)", PAGE)[1]
    assert re.search(re.escape(said).replace(re.escape("..."), ".*"), done.stdout)
    assert len((folder / "order.csv").read_text().splitlines()) == 11
    assert "UserWarning: No interval of 95 %" in done.stderr


def test_the_page_has_the_signatures():
    """Every parameter and default, in order."""
    for name in ("embed", "train", "predict"):
        shown = re.search(rf"^bindcache\.{name}\((.*)\) -> (.*)$", PAGE, re.M)
        signature = inspect.signature(getattr(bindcache, name))
        plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        assert f"({shown[1]})" == str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
        assert shown[2] in {signature.return_annotation, "pyarrow.Table"}


def test_the_package_hands_on_what_the_api_is():
    """No name more or less, and types for checkers."""
    assert sorted(bindcache.__all__) == sorted(pipeline.api.__all__)
    assert (ROOT / "bindcache" / "py.typed").exists()


def test_it_imports_at_once():
    """Nothing heavy before a function is called."""
    code = "import sys, bindcache; assert not {'torch', 'numpy', 'pyarrow', 'h5py', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_it_says_what_the_commands_say(here, request, embedded, trained, capfd):
    """Of the file or of sections, with paths of either kind, the results are those of the command line."""
    again = bindcache.embed("demo.toml", progress=False)
    assert (again.embedded, again.reused) == (0, embedded["embedded"])
    table = {"path": Path("pairs.csv"), "id": "pair_id", "affinity": "pkd"}
    encoders = {"antibody": here / "igt5", "antigen": "./esm2", "store": "store"}
    assert bindcache.embed(pairs=table, embed=encoders, progress=False).reused == embedded["embedded"]
    result = bindcache.train(pairs=table, embed=encoders, train={**NETWORK, "run": "of sections"}, progress=False)
    assert result.test == trained["test"]
    assert result.intervals == trained["intervals"]
    assert bindcache.train("demo.toml", train={**NETWORK, "run": "of a file"}, progress=False).test == trained["test"]
    with pytest.warns(UserWarning, match="No interval of 95 %"):
        found = bindcache.predict("of sections", "pairs.csv", out="p.parquet", top=5, progress=False)
    assert capfd.readouterr() == ("", "")
    assert found.equals(pq.read_table("p.parquet"))
    command = ("predict", "--run", "of a file", "--pairs", "pairs.csv", "--out", "q.parquet", "--top", "5", "--json")
    told = json.loads(request.getfixturevalue("bindcache")(*command).stdout)
    assert pq.read_table("q.parquet").equals(found)
    counted = json.loads(found.schema.metadata[b"bindcache"])
    assert counted.items() <= (told | {"run": "of sections"}).items()


def test_mistakes_are_exceptions_with_the_sentences_of_the_commands(here):
    """A key, a section, a file, a value; what is missing is looked for in the call."""
    mistakes = {
        r"^embed\.precison in the call: there is no such key\. Did you mean precision\?": {
            "embed": {"precison": "fp32"}
        },
        r"^embed\.precision = \"fp8\" in the call: expected \"int8\"": {"embed": {"precision": "fp8"}},
        r"^train\.run = None in the call: expected a path\.$": {"train": {"run": None}},
        r"^pairs in the call is a section": {"pairs": "pairs.csv"},
    }
    for said, sections in mistakes.items():
        with pytest.raises(bindcache.ConfigError, match=said):
            bindcache.train("demo.toml", **sections)
    with pytest.raises(bindcache.ConfigError, match=r"^the call has no section \[pairs\]; add it, with at least path"):
        bindcache.embed(embed={"antibody": "./igt5", "antigen": "./esm2", "store": "store"})
    with pytest.raises(bindcache.ConfigError, match=r"^There is no config file gone\.toml"):
        bindcache.embed("gone.toml")
    with pytest.raises(bindcache.EmbedError, match=r"^pairs\.csv has no column 'VH'"):
        bindcache.embed("demo.toml", pairs={"heavy": "VH"})
    with pytest.raises(bindcache.TrainError, match="have no vector in the store"):
        bindcache.train("demo.toml", embed={"store": "empty"})
    with pytest.raises(bindcache.ConfigError, match="is no run, it has no config"):
        bindcache.predict("igt5", "pairs.csv")
    for top in (0, -3, True, 1.5):
        with pytest.raises(bindcache.ConfigError, match=re.escape(f"top = {top!r}: it is a whole number from 1 on")):
            bindcache.predict("run", "pairs.csv", top=top)


def test_an_interrupted_training_keeps_a_checkpoint_and_goes_on(here, trained, monkeypatch, capfd):
    """Ctrl-C ends in KeyboardInterrupt, with the caller's handler back; the rest ends as if it was never stopped."""

    def interrupted(path, line):
        append_metrics(path, line)
        os.kill(os.getpid(), signal.SIGINT)

    before, sections = signal.getsignal(signal.SIGINT), {**NETWORK, "run": "stopped"}
    with monkeypatch.context() as patched:
        patched.setattr("train.stage.append_metrics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bindcache.train("demo.toml", train=sections)
    assert "SIGINT: stopping after this batch; Ctrl-C again stops at once." in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert list((here / "stopped" / "checkpoints").glob("*.pt"))
    assert not (here / "stopped" / "result.json").exists()
    assert bindcache.train("demo.toml", train=sections, resume=True).test == trained["test"]


def test_an_interrupted_embedding_keeps_what_is_encoded(here, embedded, monkeypatch):
    """The same call encodes the rest."""
    told = []

    def interrupt(self, phase, done, total):
        if phase.startswith("embedding") and done:
            told.append(phase)
            if len(told) == 1:
                os.kill(os.getpid(), signal.SIGINT)

    encoders = {"store": "other", "shard_rows": 1, "tokens_per_batch": 512}
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.progress.Progress.__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bindcache.embed("demo.toml", embed=encoders)
    rest = bindcache.embed("demo.toml", embed=encoders)
    assert 0 < rest.embedded < embedded["embedded"]
    assert rest.embedded + rest.reused == embedded["embedded"]


def test_it_works_beside_the_main_thread(here, embedded):
    """A program may call it where no signal can be listened to."""
    found = []
    thread = threading.Thread(target=lambda: found.append(bindcache.embed("demo.toml")))
    thread.start()
    thread.join()
    assert found[0].reused == embedded["embedded"]


def test_progress_is_shown_on_stderr_unless_it_is_not_wanted(here, monkeypatch, capfd):
    """As on a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bindcache.embed("demo.toml", embed={"store": "shown"})
    assert "embedding antibodies 100% of" in capfd.readouterr().err
