"""`bindcache doctor`: what it looks at, what it says, and that nothing it tries can hang or crash it."""

import json
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from pipeline.doctor.arithmetic import judge_trial
from pipeline.doctor.encoders import refuse_cut_off
from pipeline.doctor.findings import Finding, lay_out, summary
from pipeline.doctor.software import judge, known_good_versions
from pipeline.doctor.trials import Outcome, run_trials
from pipeline.doctor.work import RoleWork, embed_time


@pytest.fixture
def few(monkeypatch):
    """Nothing is tried; that takes half a minute."""
    monkeypatch.setattr("pipeline.doctor.examination.run_trials", lambda limits, **options: iter(()))


@pytest.fixture
def findings(bindcache, config):
    """Run the doctor on the demo; returns its findings by name, after the exit code was checked."""

    def run(*options, code=0):
        result = bindcache("doctor", "--config", config, *options, "--json")
        assert result.exit_code == code, result.output
        told = json.loads(result.stdout)
        assert told["problems"] == (code == 2)
        return {finding["name"]: finding for finding in told["findings"]}

    return run


def test_a_machine_that_can_do_it_has_no_problem(findings, monkeypatch, tmp_path):
    """Versions, machine, encoders, table, disk, a precision tried for real, and the time of both stages."""
    monkeypatch.setattr("pipeline.doctor.examination.LIMITS", {"fp32": 60.0})
    found = findings("--set", f"embed.store={tmp_path / 'store'}")
    assert {"Python", "libraries", "device", "memory", "CPU", "compiler", "table", "disk", "train"} <= found.keys()
    assert found["precision fp32"]["verdict"] == "ok"
    assert "weights whole" in found["antibody encoder"]["said"]
    assert found["table"]["said"].startswith("160 pairs of ")
    assert "measured here" in found["embed antibody"]["said"]
    assert "tokens at" in found["embed antigen"]["said"]
    assert found["train"]["said"].startswith("at most about ")
    assert all(finding["next_step"] for finding in found.values() if finding["verdict"] != "ok")


def test_without_config_the_machine_alone_is_looked_at(bindcache, few):
    """Nothing is said of tables and encoders; people get lines of 80 columns in plain ASCII."""
    result = bindcache("doctor")
    assert result.exit_code == 0, result.output
    assert result.stdout.isascii()
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.splitlines()[0].startswith("ok       Python: 3.")
    assert " ok\n" in result.stdout.splitlines(keepends=True)[-1]
    assert "table" not in result.stdout


def test_weights_that_were_cut_off_are_a_problem(findings, few, demo, tmp_path):
    """A copy that stopped half way has a whole header and not all its bytes."""
    shutil.copytree(demo / "esm2", tmp_path / "esm2")
    weights = max((tmp_path / "esm2").glob("*.safetensors"), key=lambda path: path.stat().st_size)
    refuse_cut_off(weights)
    weights.write_bytes(weights.read_bytes()[:-1000])
    found = findings("--set", f"embed.antigen={tmp_path / 'esm2'}", code=2)["antigen encoder"]
    assert found["verdict"] == "problem"
    assert f"{weights.name} has" in found["said"]
    assert found["next_step"].startswith("fetch the model again")


def test_a_hub_model_that_is_not_here_says_offline(findings, few):
    """Tests have HF_HUB_OFFLINE set, as compute nodes do."""
    found = findings("--set", "embed.antigen=nobody/nothing", code=2)["antigen encoder"]
    assert "nobody/nothing is not in the hub's cache, and HF_HUB_OFFLINE is set: offline" in found["said"]


def test_the_first_bad_rows_of_the_table_are_shown(findings, few, demo, tmp_path):
    """With their numbers; `on_bad_row = reject` makes them a warning."""
    lines = (demo / "pairs.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[1] = "EVQ1"
    (tmp_path / "pairs.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    there = ("--set", f"pairs.path={tmp_path / 'pairs.csv'}")
    found = findings(*there, code=2)["table"]
    assert "1 rows cannot be used: row 3, heavy: '1' at position 4" in found["said"]
    assert "pairs.on_bad_row" in found["next_step"]
    assert findings(*there, "--set", "pairs.on_bad_row=reject")["table"]["verdict"] == "warning"
    gone = findings("--set", "pairs.path=gone.csv", code=2)["table"]
    assert "does not exist" in gone["said"]


def test_what_embed_would_warn_of_is_told_before(findings, few, demo, tmp_path):
    """A chain with its constant domain is legal, and nothing that one wants to hear of after hours."""
    lines = (demo / "pairs.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[1] += "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSG"
    (tmp_path / "pairs.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    found = findings("--set", f"pairs.path={tmp_path / 'pairs.csv'}")["table"]
    assert found["verdict"] == "warning"
    assert "a chain of over 160 residues, more than a variable domain has: 1 (3)" in found["said"]
    assert findings()["table"]["verdict"] == "ok"


def test_a_full_disk_is_a_problem(findings, few, monkeypatch, tmp_path):
    """The store's bytes are those of its vectors, keys and lengths."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    found = findings("--set", f"embed.store={tmp_path / 'store'}", code=2)["disk"]
    assert found["verdict"] == "problem"
    assert "1.0 kB are free" in found["said"]


def test_a_trial_that_crashes_or_hangs_leaves_the_others_alone():
    """Each has its own end, and what comes after it is tried in a new process."""
    outcomes = list(run_trials({"nonsense": 60.0, "train": 60.0}, config=None, sets=[]))
    assert [outcome.name for outcome in outcomes] == ["nonsense", "train"]
    assert "nonsense" in outcomes[0].problem
    assert "NoneType" in outcomes[1].problem, "there is no config to train by"
    slow, *_ = run_trials({"kernels": 0.0}, config=None, sets=[])
    assert slow.overtime
    assert slow.problem == "not done in 0 seconds"


def test_what_fails_is_a_problem_only_where_it_is_asked_for(config):
    """bf16 may be missing where nobody uses it; a slow machine is no broken one."""
    from pipeline.config import load

    embed = load(config, ["embed.precision=bf16"]).embed
    assert judge_trial(Outcome(name="bf16", problem="x"), embed).verdict == "problem"
    assert judge_trial(Outcome(name="int8", problem="x"), embed).verdict == "warning"
    assert judge_trial(Outcome(name="int8", problem="x"), None).verdict == "problem"
    assert judge_trial(Outcome(name="int8", problem="x", overtime=True), None).verdict == "warning"
    assert judge_trial(Outcome(name="int8", seconds=1.0, error=0.01), None).said == "works (1.0 s, 0.01 from fp32)"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [(None, "problem"), ("2.10.0", "problem"), ("2.11.0", None), ("2.13.1", None), ("2.14.0", "warning")],
)
def test_versions_are_held_against_what_is_needed_and_tested(found, verdict):
    """Older than needed is a problem, newer than tested a warning, a patch release neither."""
    judged = judge(Requirement("torch>=2.11"), found, "2.13.0")
    assert (judged and judged.verdict) == verdict
    assert known_good_versions()["torch"].startswith("2.")


def test_a_day_of_work_is_a_warning_that_names_the_way_out():
    """Tokens over tokens a second."""
    work = RoleWork("antibody", 10, 3600 * 100, 0)
    assert embed_time(work, 100.0, "measured").said.startswith("about 1 h 00 min for 10 sequences")
    assert "submit embed" in embed_time(work, 1.0, "measured").next_step


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=300),
    st.sampled_from(["ok", "warning", "problem"]),
)
def test_every_finding_fits_80_columns(text, verdict):
    """Whatever is said; colours do not count."""
    import click

    laid = lay_out(Finding(name="thing", verdict=verdict, said=text, next_step="" if verdict == "ok" else "do this"))
    assert max(map(len, click.unstyle(laid).splitlines())) <= 80
    assert click.unstyle(laid).startswith(verdict)


def test_the_summary_counts_verdicts():
    """Worst first."""
    some = [Finding(name="a", verdict="ok", said=""), Finding(name="b", verdict="problem", said="", next_step="x")]
    assert summary([*some, some[0]]) == "1 problem, 2 ok"
