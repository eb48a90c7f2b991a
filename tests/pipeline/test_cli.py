"""The command line: what it prints, what it leaves on disk, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embed.config import EmbedConfig
from pipeline.boundary import process_start
from pipeline.cli import main
from pipeline.config import load
from pipeline.signals import StopFlag

REPOSITORY = Path(__file__).parents[2]
ROWS = 160


def distinct(config):
    """Distinct antibodies and antigens of the cut table, read without the product."""
    cells = [line.split(",") for line in (config.parent / "pairs.csv").read_text().splitlines()[1:]]
    return len({(row[1], row[2]) for row in cells}), len({row[3] for row in cells})


def test_help_is_quick_and_free_of_torch(start):
    """Every command has a `--help`, and none waits for what takes long to load (0.06 s: benchmarks/NOTES.md)."""
    process = start("--help")
    out, _ = process.communicate()
    assert process.returncode == 0
    assert out.startswith("Usage: bindcache ")
    code = (
        "import sys\nfrom pipeline.cli import main\nfrom click.testing import CliRunner\n"
        "for words in ([], *([name] for name in main.commands), ['store', 'export']):\n"
        "    assert CliRunner().invoke(main, [*words, '--help']).exit_code == 0\n"
        "assert not {'torch', 'numpy', 'h5py', 'pyarrow', 'transformers'} & sys.modules.keys()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_the_options_are_these():
    """The surface of the command line grows by decision, not by accident."""
    common = ["--config", "--set", "--json"]
    assert {name: options(command) for name, command in main.commands.items()} == {
        "demo": ["--json", "DIR"],
        "embed": [*common, "--part", "--profile"],
        "train": [*common, "--resume", "--profile"],
        "sweep": [*common, "--trials", "--workers", "--parent"],
        "evaluate": [*common, "--folds", "--seeds"],
        "fidelity": [*common, "--sample", "--train"],
        "bench": [*common, "--ablate", "--ladder", "--sample"],
        "predict": ["--run", "--ensemble", "--pairs", "--out", "--top", "--json"],
        "report": ["--run", "--json"],
        "doctor": common,
        "import": ["--from", "--sequences", "--unit", "--out", "--json", "FILE"],
        "submit": [],
        "status": common,
        "store": [],
        "convert": ["--revision", "--out", "--json", "ID"],
    }
    assert {name: options(command) for name, command in main.commands["submit"].commands.items()} == {
        "embed": [*common, "--parts", "--dry-run", "--local"],
        "sweep": [*common, "--trials", "--workers", "--dry-run", "--local"],
    }
    assert {name: options(command) for name, command in main.commands["store"].commands.items()} == {
        "info": common,
        "verify": [*common, "--repair"],
        "gc": [*common, "--dry-run"],
        "merge": [*common, "OTHER"],
        "export": [*common, "--out", "--format"],
        "import": [*common, "--role", "--model", "--sequences", "FILE.h5"],
    }


def options(command):
    named = [parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"]
    return named + [p.metavar for p in command.params if p.param_type_name == "argument"]


def test_demo_says_what_to_do_next(bindcache, error, tmp_path):
    """The first command leads to the second."""
    result = bindcache("demo", tmp_path / "new", "--json")
    assert json.loads(result.stdout) == {"config": str(tmp_path / "new" / "demo.toml")}
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["demo.toml", "esm2", "igt5", "pairs.csv"]
    assert error("demo", tmp_path / "new") == (
        f"Error: {tmp_path}/new/demo.toml exists already; use it, or delete {tmp_path}/new or name another folder.\n"
    )


def test_embed_counts_what_it_did(embedded, config):
    """The numbers are those of the table."""
    antibodies, antigens = distinct(config)
    counts = ("pairs", "rejected", "antibodies", "antigens", "embedded", "reused", "windowed")
    assert [embedded[key] for key in counts] == [ROWS, 0, antibodies, antigens, antibodies + antigens, 0, 1]
    assert embedded["single_chain"] > 0
    assert embedded["tokens"] > 0
    assert embedded["seconds"] > embedded["setup_seconds"] > 0
    assert set(embedded) >= {
        "padding_fraction",
        "tokens_per_second",
        "peak_memory_bytes",
        "store",
        "precision",
        "fingerprints",
    }


def test_embed_again_encodes_nothing_and_imports_no_torch(config, embedded):
    """What is in the store costs nothing any more."""
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        f"main(['embed', '--config', {str(config)!r}, '--json'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["embedded"], again["reused"], again["tokens"]) == (0, embedded["embedded"], 0)


def test_the_embed_table_is_short_and_says_where(bindcache, config, embedded):
    """People get a table of 80 columns."""
    result = bindcache("embed", "--config", config)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"rows used    {ROWS} (0 rejected)"
    assert f"embedded     0 ({embedded['embedded']} were in the store)" in lines
    assert f"store        {config.parent}/store" in lines
    assert f"  antigen    {embedded['fingerprints']['antigen']}" in lines
    assert len(lines) < 16


def test_parts_share_the_work(bindcache, config, tmp_path, embedded):
    """Parts may run one after the other and leave nothing out."""
    there = ("--config", config, "--set", f"embed.store={tmp_path / 'parts'}", "--json")
    counts = [json.loads(bindcache("embed", *there, "--part", f"{i}/2").stdout)["embedded"] for i in (2, 1)]
    assert sum(counts) == embedded["embedded"]
    assert min(counts) > 0
    assert json.loads(bindcache("embed", *there).stdout)["embedded"] == 0


def test_train_reports_scores_beside_baselines(trained, demo):
    """The result has every key that was promised."""
    assert set(trained) >= {
        "run", "pairs", "epochs", "best_epoch", "seconds", "setup_seconds", "pairs_per_second", "peak_memory_bytes",
        "valid", "test", "baselines",
    }  # fmt: skip
    assert (trained["run"], trained["pairs"], trained["epochs"]) == (str(demo / "run"), ROWS, 3)
    for part in ("valid", "test"):
        assert set(trained[part]) >= {"n", "rmse", "mae", "pearson", "spearman", "r2", "rmse_ci", "spearman_ci"}
    assert len(trained["baselines"]) == 3
    written = json.loads((demo / "run" / "config.json").read_text())["config"]
    assert written["train"]["widths"] == [32, 16]
    assert written["pairs"]["path"] == str(demo / "pairs.csv")


def test_a_finished_run_is_shown_again_only_when_asked(bindcache, error, config, trained, demo, quick):
    """`--resume` on a finished run trains nothing; without it the run is refused by name."""
    before = {path: path.stat().st_mtime_ns for path in (demo / "run").rglob("*")}
    result = bindcache("train", "--config", config, *quick, "--resume")
    assert result.exit_code == 0
    assert "This run was finished before; nothing was trained.\n" in result.stderr
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"test, 16 pairs +Spearman +95 % +R2 +RMSE +MAE", lines[0])
    assert [line.split("  ")[0] for line in lines[1:5]] == ["regressor", *trained["baselines"]]
    assert f"{trained['test']['spearman']:.3f}" in lines[1]
    assert f"run          {demo}/run" in lines
    assert f"predictions  {demo}/run/predictions.parquet" in lines
    assert max(len(line.replace(str(demo), "")) for line in lines) <= 80
    assert {path: path.stat().st_mtime_ns for path in (demo / "run").rglob("*")} == before
    assert f"train.run = '{demo}/run' holds a finished run" in error("train", "--config", config, *quick)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--set", "embed.precison=fp32"],
            "Error: embed.precison in --set: there is no such key. Did you mean precision?",
        ),
        (
            ["--set", "embed.precision=fp8"],
            'Error: embed.precision = "fp8" in --set: expected "int8", "int8-fast", "int8-bnb", "bf16",',
        ),
        (
            ["--set", "embed.stride=4000"],
            "Error: embed.stride = 4000: stride is at most window (1022), else residues are",
        ),
        (["--set", "pairs.path=gone.csv"], "Error: pairs.path = '"),
        (["--set", "pairs.heavy=VH"], "Error: pairs.csv has no column 'VH' (pairs.heavy)"),
        (["--set", "embed"], "Error: --set embed: write section.key=value, such as embed.precision=fp32.\n"),
        (["--part", "3/2"], "Usage: bindcache embed [OPTIONS]\n"),
        (["--prt", "1/2"], "Usage: bindcache embed [OPTIONS]\n"),
    ],
)
def test_a_user_s_mistake_is_a_sentence_and_exit_2(error, config, arguments, said):
    """The first mistakes of every user are told what to do, without a traceback."""
    text = error("embed", "--config", config, *arguments)
    assert text.startswith(said)
    assert "Traceback" not in text


def test_a_missing_config_or_section_is_named(bindcache, error, config, tmp_path):
    """The config is the first thing that is wrong."""
    gone = tmp_path / "gone.toml"
    assert error("embed", "--config", gone) == (
        f"Error: There is no config file {gone}; `bindcache demo DIR` writes a first one.\n"
    )
    assert "Missing option '--config'" in error("train")
    short = config.parent / "short.toml"
    short.write_text(config.read_text().partition("[train]")[0])
    assert error("train", "--config", short) == (f"Error: {short} has no section [train]; add it, with at least run.\n")
    assert bindcache("store", "info", "--config", short).exit_code in (0, 2)


def test_training_without_vectors_names_the_command(error, config, tmp_path):
    """The other stage's work is asked for by its command."""
    said = error(
        "train", "--config", config, "--set", f"embed.store={tmp_path}", "--set", f"train.run={tmp_path / 'run'}"
    )
    assert "`bindcache embed --config FILE` completes it." in said
    assert not (tmp_path / "run").exists()


def test_the_system_s_refusal_names_the_file(error, tmp_path):
    """A full disk or a file in the way is exit 1 and one sentence."""
    (tmp_path / "file").write_text("")
    assert error("demo", tmp_path / "file" / "demo", code=1) == f"Error: {tmp_path}/file/demo: Not a directory.\n"


def test_a_bug_is_a_sentence_and_shows_itself_only_when_asked(bindcache, error, config, monkeypatch):
    """Nobody gets a traceback unasked, and everybody can ask for it."""

    def broken(*arguments, **options):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("embed.stage.run_embed", broken)
    assert error("embed", "--config", config, code=1) == (
        "Error: ZeroDivisionError: division by zero\n"
        "This is a bug; run with BINDCACHE_TRACEBACK=1 to see where, and report it.\n"
    )
    monkeypatch.setenv("BINDCACHE_TRACEBACK", "1")
    result = bindcache("embed", "--config", config)
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)]
)
def test_a_signal_stops_a_stage_in_good_order(error, config, monkeypatch, number, code):
    """The stage is asked to stop, and the exit code says whether a scheduler or a person did it."""

    def stopped(embed, pairs, *, stop, **options):
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        return type("Result", (), {"stopped": True, "warnings": []})

    before = signal.getsignal(number)
    monkeypatch.setattr("embed.stage.run_embed", stopped)
    assert error("embed", "--config", config, "--json", code=code) == (
        "Stopped; run the same command again to go on; what is embedded is kept.\n"
    )
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_does_not_wait(error, config, monkeypatch):
    """Who presses Ctrl-C twice wants out."""

    def deaf(embed, pairs, **options):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on after the second Ctrl-C")

    monkeypatch.setattr("embed.stage.run_embed", deaf)
    assert error("embed", "--config", config, code=130) == "Error: interrupted.\n"


def test_a_scheduler_s_signal_does_not_end_a_run_that_ctrl_c_would(monkeypatch):
    """Warning signals may come twice before the kill."""
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received is signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_real_process_that_is_stopped_keeps_what_it_embedded(bindcache, start, config, tmp_path, embedded):
    """SIGTERM in the middle of encoding leaves with 75, and the same command goes on from there."""
    store = tmp_path / "store"
    there = ("--config", config, "--set", f"embed.store={store}", "--set", "embed.shard_rows=1", "--json")
    process = start("embed", *there)
    while not any(store.rglob("shards/*.h5")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (75, "")
    assert err.endswith(  # on a slow machine it told before that it was at work
        "\nSIGTERM: stopping after this batch.\n"
        "Stopped; run the same command again to go on; what is embedded is kept.\n"
    )
    rest = json.loads(bindcache("embed", *there).stdout)
    assert rest["reused"] > 0
    assert rest["reused"] + rest["embedded"] == embedded["embedded"]


def test_json_is_the_only_thing_on_stdout(start, config, embedded):
    """A program reads one line."""
    process = start("embed", "--config", config, "--json")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert json.loads(out)["seconds"] >= json.loads(out)["setup_seconds"]


def test_the_clock_starts_with_the_process():
    """Seconds count the imports, which come before any clock of ours."""
    code = (
        "import time; time.sleep(0.5)\n"
        "from pipeline.boundary import process_start; print(time.time() - process_start())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert 0.48 < float(done.stdout) < 10
    assert abs(process_start() - process_start()) < 0.1


def test_convert_refuses_what_needs_no_conversion(error, demo, tmp_path):
    """A checkpoint with safetensors has nothing to convert."""
    said = error("convert", demo / "igt5", "--out", tmp_path / "out")
    assert "there is nothing to convert" in said
    assert error("convert", "igt5", "--out", tmp_path / "out") == (
        "Error: igt5: expected a hub id (owner/name) or an existing folder.\n"
    )


def test_defaults_of_the_stage_are_the_defaults_of_the_command(config):
    """The command adds no default of its own."""
    embed = load(config).embed
    assert embed == EmbedConfig(antibody=embed.antibody, antigen=embed.antigen, store=embed.store)
