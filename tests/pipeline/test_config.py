"""The config: what a file and `--set` may say, and the exact sentence for what they may not."""

import json
import math
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.config import EmbedConfig
from embed.errors import EmbedError
from embed.pairs import PairsConfig
from pipeline.cluster import ClusterConfig
from pipeline.config import SECTIONS, Config, from_resolved, load, resolved, train_section
from pipeline.errors import ConfigError
from pipeline.fields import MismatchError, convert, field_docs
from train.config import TrainConfig

BASIC = """\
[pairs]
path = "pairs.csv"
[embed]
antibody = "Exscientia/IgT5"
antigen = "facebook/esm2"
store = "store"
[train]
run = "run"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(BASIC)
    return path


def message(file, *overrides):
    """What a config is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(file, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_come_from_the_classes(file, tmp_path):
    """A file that names only what has no default gives the classes' defaults."""
    config = load(file)
    assert config == Config(
        pairs=PairsConfig(path=tmp_path / "pairs.csv"),
        embed=EmbedConfig(antibody="Exscientia/IgT5", antigen="facebook/esm2", store=tmp_path / "store"),
        train=TrainConfig(run=tmp_path / "run"),
        cluster=ClusterConfig(folder=tmp_path / "jobs"),
    )


def test_paths_in_the_file_are_relative_to_the_file(file, tmp_path, monkeypatch):
    """Paths mean the same wherever the command is run."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(Path("../config.toml"))
    assert (config.pairs.path, config.embed.store) == (tmp_path / "pairs.csv", tmp_path / "store")


def test_paths_on_the_command_line_are_relative_to_the_working_directory(file, tmp_path, monkeypatch):
    """`--set` is typed in a shell, so its paths are the shell's."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(file, ["pairs.path=mine.csv", "embed.store=~/store"])
    assert config.pairs.path == tmp_path / "elsewhere" / "mine.csv"
    assert config.embed.store == Path(os.path.expanduser("~/store")).resolve()


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("embed.precision=fp32", "embed", "precision", "fp32"),
        ('embed.precision="bf16"', "embed", "precision", "bf16"),
        ("embed.shard_rows = 7", "embed", "shard_rows", 7),
        ("embed.threshold=0", "embed", "threshold", 0.0),
        ("embed.buckets=[256, 384]", "embed", "buckets", (256, 384)),
        ("embed.buckets=auto", "embed", "buckets", "auto"),
        ("embed.tokens_per_batch=4096", "embed", "tokens_per_batch", 4096),
        ("embed.antibody_revision=", "embed", "antibody_revision", ""),
        ("pairs.affinity=Kd = 1 (nM)", "pairs", "affinity", "Kd = 1 (nM)"),
        ("pairs.light=", "pairs", "light", ""),
        ("train.lr=1e-4", "train", "lr", 1e-4),
        (
            "train.split_values={train=['a', 'b'], test=['c']}",
            "train",
            "split_values",
            {"train": ("a", "b"), "test": ("c",)},
        ),
        ("embed.single_chain=error", "embed", "single_chain", "error"),
        ("embed.single_chain=onehot", "embed", "single_chain", "onehot"),
        ("embed.antigen=blosum62", "embed", "antigen", "blosum62"),
        ("embed.single_chain=Exscientia/IgT5_unpaired", "embed", "single_chain", "Exscientia/IgT5_unpaired"),
    ],
)
def test_set_takes_toml_or_a_bare_word(file, override, section, key, value):
    """The value is TOML where it can be, else text."""
    got = getattr(getattr(load(file, [override]), section), key)
    assert got == value
    assert type(got) is type(value)


def test_the_last_set_wins(file):
    """Overrides are taken in order."""
    assert load(file, ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_set_can_add_a_section(tmp_path):
    """A section may be given on the command line alone."""
    file = tmp_path / "config.toml"
    file.write_text(BASIC.partition("[train]")[0])
    assert load(file).train is None
    assert load(file, [f"train.run={tmp_path / 'run'}"]).train.run == tmp_path / "run"


def test_an_unknown_key_is_refused_with_the_nearest_and_all(file):
    """A misspelt key names the place, the nearest key and the section's keys."""
    known = ", ".join(field.name for field in fields(PairsConfig))
    assert message(file, "pairs.afinity=pkd") == (
        f"pairs.afinity in --set: there is no such key. Did you mean affinity? [pairs] knows {known}."
    )
    file.write_text(BASIC.replace("antigen =", "antigens ="))
    assert message(file).startswith(
        f"embed.antigens in {file}: there is no such key. Did you mean antigen? [embed] knows"
    )


def test_an_unknown_section_is_refused(file):
    """A misspelt section names the nearest and all of them."""
    known = f"The sections are {', '.join(f'[{name}]' for name in SECTIONS)}."
    assert message(file, "emebd.store=x") == f"[emebd] in --set: there is no such section. Did you mean embed? {known}"
    file.write_text(BASIC + "[plot]\n")
    assert message(file) == f"[plot] in {file}: there is no such section. {known}"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("embed.shard_rows=many", 'embed.shard_rows = "many" in --set: expected a whole number.'),
        ("embed.shard_rows=1.5", "embed.shard_rows = 1.5 in --set: expected a whole number."),
        ("embed.shard_rows=true", "embed.shard_rows = true in --set: expected a whole number."),
        ("train.lr=fast", 'train.lr = "fast" in --set: expected a number.'),
        ("train.lr=nan", "train.lr = nan in --set: expected a number."),
        ("pairs.id=7", "pairs.id = 7 in --set: expected text."),
        ("pairs.path=", 'pairs.path = "" in --set: expected a path.'),
        ("pairs.on_bad_row=drop", 'pairs.on_bad_row = "drop" in --set: expected "error" or "reject".'),
        (
            "embed.buckets=[256, 'x']",
            'embed.buckets = [256, "x"] in --set: expected "auto" or a list of whole numbers.',
        ),
        ("embed.tokens_per_batch=much", 'embed.tokens_per_batch = "much" in --set: expected a whole number or "auto".'),
        ("train.widths=512", "train.widths = 512 in --set: expected a list of whole numbers."),
        (
            "train.split_values={train='a'}",
            'train.split_values = {train = "a"} in --set: expected a table of lists of texts.',
        ),
        ("pairs.id=2021-03-04", "pairs.id = 2021-03-04 in --set: expected text."),
    ],
)
def test_a_wrong_type_is_refused_by_name(file, override, expected):
    """The message names the key, the value and what is expected."""
    assert message(file, override) == expected


def test_a_model_is_a_folder_or_a_hub_id(file, tmp_path, monkeypatch):
    """A folder that exists wins, a path that does not is refused, and `owner/name` is left to the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "igt5").mkdir()
    (tmp_path / "lab" / "igt5").mkdir(parents=True)
    rule = 'expected "onehot", "blosum62", a hub id (owner/name) or an existing folder'
    assert load(file, ["embed.antibody=igt5"]).embed.antibody == str(tmp_path / "igt5")
    assert load(file, ["embed.antibody=lab/igt5"]).embed.antibody == str(tmp_path / "lab" / "igt5")
    assert load(file, ["embed.antibody=lab/other"]).embed.antibody == "lab/other"
    (tmp_path / "onehot").mkdir()
    assert load(file, ["embed.antibody=onehot"]).embed.antibody == "onehot"
    assert load(file, ["embed.antibody=./onehot"]).embed.antibody == str(tmp_path / "onehot")
    for path in ("./gone", "~gone/igt5", "/gone", "a/b/c"):
        where = (tmp_path / path).resolve()
        assert message(file, f"embed.antibody={path}") == (
            f'embed.antibody = "{path}" in --set: {rule}, but there is no folder {where}.'
        )
    assert message(file, "embed.antibody=gone") == f'embed.antibody = "gone" in --set: {rule}.'
    assert message(file, "embed.antibody=same") == f'embed.antibody = "same" in --set: {rule}.'
    assert message(file, "embed.single_chain=sane") == (
        f'embed.single_chain = "sane" in --set: expected "same", "error", {rule.removeprefix("expected ")}.'
    )


@pytest.mark.parametrize("override", ["embed.precision", "precision=fp32", "=fp32", "embed.=fp32", ""])
def test_a_set_that_is_no_assignment_is_refused(file, override):
    """`--set` shows how it is written."""
    assert message(file, override) == f"--set {override}: write section.key=value, such as embed.precision=fp32."


def test_missing_files_sections_and_keys_say_what_to_add(file, tmp_path):
    """What is not there is named, with the way out."""
    gone = tmp_path / "gone.toml"
    assert message(gone) == f"There is no config file {gone}; `bindcache demo DIR` writes a first one."
    file.write_text("[pairs]\npath = 'pairs.csv'\n")
    assert message(file) == f"{file} has no section [embed]; add it, with at least antibody, antigen, store."
    file.write_text(BASIC.replace('store = "store"\n', ""))
    assert message(file) == f"embed.store is missing in {file}; write store = ... under [embed]."
    file.write_text(BASIC.partition("[train]")[0])
    with pytest.raises(ConfigError) as caught:
        train_section(load(file), file)
    assert str(caught.value) == f"{file} has no section [train]; add it, with at least run."


def test_a_file_that_is_not_toml_is_refused(file):
    """The parser's place is given, and the commonest cause."""
    file.write_text("[pairs]\npath = pairs.csv\n")
    assert message(file) == (
        f'{file} is not TOML: Invalid value (at line 2, column 8). Text stands in quotes: path = "pairs.csv".'
    )
    file.write_bytes("[pairs]\npath = 'µ.csv'\n".encode("latin-1"))
    assert message(file) == f"{file} is not UTF-8 text; save it as UTF-8."
    file.write_text("pairs = 3\n")
    assert message(file) == f"pairs in {file} is a section; write [pairs] above its keys."


def test_a_broken_rule_is_the_stage_s_own_error(file):
    """What only the stage knows is refused by the stage."""
    with pytest.raises(EmbedError, match="stride is at most window"):
        load(file, ["embed.stride=4000"])


names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
overridden = st.fixed_dictionaries(
    {},
    optional={
        "pairs": st.fixed_dictionaries({"id": names, "on_bad_row": st.sampled_from(["error", "reject"])}),
        "embed": st.fixed_dictionaries(
            {
                "threshold": st.floats(0, 100) | st.integers(0, 100),
                "buckets": st.just("auto") | st.sets(st.integers(1, 999), min_size=1).map(sorted),
                "tokens_per_batch": st.just("auto") | st.integers(1, 10**9),
                "single_chain": st.sampled_from(["same", "error", "a/b"]),
            }
        ),
        "train": st.fixed_dictionaries(
            {
                "widths": st.lists(st.integers(1, 4096), min_size=1, max_size=5),
                "split_values": st.dictionaries(st.sampled_from(["train", "valid", "test"]), st.lists(names)),
            }
        ),
        "sweep": st.fixed_dictionaries(
            {
                "population": st.sampled_from(["auto", "off"]) | st.integers(1, 99),
                "space": st.dictionaries(
                    st.sampled_from(["lr", "dropout"]),
                    st.dictionaries(st.sampled_from(["log", "float"]), st.lists(st.floats(0.1, 0.9))),
                ),
            }
        ),
    },
)


@settings(deadline=None, max_examples=50)
@given(overridden)
def test_a_resolved_config_gives_itself_back_through_json(tmp_path_factory, values):
    """What a run writes down is the config it ran with."""
    file = tmp_path_factory.mktemp("config") / "config.toml"
    file.write_text(BASIC + '\n[sweep]\nfolder = "sweep"\n')
    tables = resolved(load(file))
    for section, keys in values.items():
        tables[section] |= keys
    config = from_resolved(tables, file)
    assert from_resolved(json.loads(json.dumps(resolved(config))), file) == config
    assert resolved(config).keys() == SECTIONS.keys()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
kinds = sorted({(section, field.name) for section, cls in SECTIONS.items() for field in fields(cls)})


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(kinds), anything)
def test_any_value_is_converted_or_refused(kind, value):
    """No value of JSON makes a field fail in another way than by its type."""
    section, name = kind
    try:
        converted = convert(value, get_type_hints(SECTIONS[section])[name], Path("/nowhere"))
    except MismatchError:
        return
    if isinstance(converted, float):
        assert math.isfinite(converted)
    assert not isinstance(converted, list)


@pytest.mark.parametrize("config_class", SECTIONS.values())
def test_every_field_is_documented_in_its_class(config_class):
    """Each field has its type, its default and one sentence, from one place."""
    docs = field_docs(config_class)
    assert [doc.name for doc in docs] == [field.name for field in fields(config_class)]
    for doc in docs:
        assert doc.doc.endswith("."), doc.name
        assert doc.type
        assert doc.default


def test_the_documentation_of_a_field_reads_well():
    """Types are in words, defaults in TOML."""
    docs = {doc.name: doc for cls in SECTIONS.values() for doc in field_docs(cls)}
    assert docs["path"][1:3] == ("a path", "required")
    assert docs["buckets"][1:3] == ('"auto" or a list of whole numbers', '"auto"')
    assert docs["widths"][1:3] == ("a list of whole numbers", "[1024, 512, 256, 128]")
    assert docs["split_values"][1:3] == ("a table of lists of texts", "{}")
    assert docs["on_bad_row"][1:3] == ('"error" or "reject"', '"error"')


def test_reading_a_config_does_not_import_torch():
    """A config is read in no time."""
    code = "import sys, pipeline.config, pipeline.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
