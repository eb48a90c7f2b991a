"""Every command of docs/ runs, its links lead somewhere, and what it says is printed is printed."""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.config import SECTIONS
from pipeline.demo import write_demo
from pipeline.demo_pairs import demo_rows
from tests.documents import DOCS, ROOT, Block, anchors, blocks, check, inline_commands, links, mentioned, prose, shape
from tests.public_tables import real_chains, write_layouts, write_pdbs, write_skempi2, write_vectors

PAGES = sorted(page for page in DOCS.glob("*.md") if page.name != "api.md")  # whose Python its own test runs
LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
ROWS = 160

QUICK = {
    "embed": {"antigen_revision": "", "precision": "fp32"},
    "train": {"epochs": 3, "widths": [32, 16], "compile": "off"},
}
"""What the tests put into the config of a page: the demo's encoders, fp32 as not every processor has INT8 kernels, and
trainings that are over at once."""

MINE = """\
[pairs]
path = "small/pairs.csv"
id = "pair_id"
affinity = "pkd"
[embed]
store = "store"
[train]
run = "runs/by-antigen"
[sweep]
folder = "sweeps/first"
[sweep.space]
lr = {log = [3e-4, 1e-2]}
[cluster]
partition = "gpu"
"""
"""The config `mine.toml` of the pages, to which `QUICK` is added."""


def quick(text: str, encoders: str) -> str:
    """Put the tests' settings into a config, and the encoders of a folder that `bindcache demo` made."""
    tables = tomllib.loads(text)
    for section, values in QUICK.items():
        tables.setdefault(section, {}).update(values)
    tables["embed"] |= {"antibody": f"./{encoders}/igt5", "antigen": f"./{encoders}/esm2"}
    return "".join(f"[{section}]\n{_lines(values)}" for section, values in tables.items())


def _lines(values: dict) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return repr(value).replace("'", '"')


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """What the pages suppose: `mine.toml` with a small demo, embedded and trained, and the tables that they name."""
    folder = tmp_path_factory.mktemp("prepared")
    write_demo(folder / "small")
    table = folder / "small/pairs.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[: ROWS + 1]))
    shutil.copy(table, folder / "new.csv")
    (folder / "mine.toml").write_text(quick(MINE, "small"))
    write_skempi2(folder)
    write_layouts(folder)
    write_vectors(folder, sorted({antigen for _, _, _, antigen, _ in demo_rows(0)}))
    for command in ("embed", "train"):
        done = CliRunner().invoke(main, [command, "--config", str(folder / "mine.toml")])
        assert done.exit_code == 0, done.output
    return folder


@dataclass
class Reader:
    """Somebody who types what a page says, from its beginning to its end, in a folder."""

    folder: Path
    slow: bool = False
    ran: int = 0
    checked: int = 0
    said: str = ""
    """What the last block of commands printed."""
    left: list[Block] = field(default_factory=list)
    """Blocks of commands that were neither run nor checked."""

    def read(self, page: Path) -> None:
        """Do what each block is for."""
        for block in blocks(page):
            if block.mark.startswith("file: "):
                self.write(block, self.folder / block.mark.removeprefix("file: "))
            elif block.mark == "output":
                missing = shape(block.text) - shape(self.said)
                assert not missing, f"{block.page}:{block.line}: {sorted(missing)} not in\n{self.said}"
            elif block.language in ("sh", "python"):
                self.obey(block)

    def write(self, block: Block, path: Path) -> None:
        """Write a file of the page; configs with the tests' settings."""
        path.write_text(quick(block.text, "demo") if path.suffix == ".toml" else block.text)

    def obey(self, block: Block) -> None:
        """Run a block, or parse its commands."""
        if block.how == "run" or (block.how == "slow" and self.slow):
            self.said = ""
            for command in [block.text] if block.language == "python" else block.commands:
                self.said += self.run(block, command)
                self.ran += 1
        else:
            for command in block.commands:
                check(command)
                self.checked += 1

    def run(self, block: Block, command: str) -> str:
        """Run Python, a command of bindcache in this process, or one of the shell; tell what it printed."""
        if block.language == "sh" and command.startswith("bindcache "):
            return self.run_here(f"{block.page}:{block.line}", self.filled(command))
        words = [sys.executable, "-c", command] if block.language == "python" else ["bash", "-ec", command]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(words, cwd=self.folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{block.page}:{block.line}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run_here(self, where: str, command: str) -> str:
        done = CliRunner().invoke(main, shlex.split(command, comments=True)[1:], prog_name="bindcache")
        assert done.exit_code == 0, f"{where}: {command}\n{done.output}"
        return done.stdout

    def filled(self, command: str) -> str:
        """Put the name of the folder that is there in the place of one whose digits are made up."""
        for made_up in ("imported-antigen-0123456789abcdef",):
            if made_up in command:
                (found,) = (self.folder / "store").glob(f"{made_up[:-16]}*")
                command = command.replace(made_up, found.name)
        return command


@pytest.fixture
def reader(prepared, tmp_path, monkeypatch) -> Reader:
    """A reader in a folder of their own."""
    folder = tmp_path / "folder"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    return Reader(folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_reader_of_a_page_gets_to_its_end(reader, figure, page):
    """Every command runs, in order, in one folder; those marked as slow, or as in need of more, are there and parse."""
    reader.read(page)
    figure("commands of docs/ run", reader.ran)
    figure("commands of docs/ only checked: slow, or in need of a cluster, a network or a GPU", reader.checked)
    said = sum(
        len(block.commands) if block.language == "sh" else 1
        for block in blocks(page)
        if block.language in ("sh", "python")
    )
    assert reader.ran + reader.checked == said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_where_they_are_run(page):
    """In fenced blocks; indented ones would be shown, and never tried."""
    assert not [line for line in prose(page).splitlines() if line.startswith("    bindcache ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.mark == "slow" for block in blocks(page))], ids=lambda page: page.name
)
def test_a_patient_reader_of_a_page_gets_to_its_end(reader, page):
    """The same with the commands that take long."""
    reader.slow = True
    reader.read(page)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_what_is_named_in_prose_exists(page):
    """Commands between backticks, with their options."""
    for command in inline_commands(page):
        mentioned(command)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    """Each relative link has its file, each anchor its heading."""
    for target, anchor in links(page):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_index_names_every_page():
    """docs/index.md links each page, once, and the README links the index."""
    named = [target for target, _ in links(DOCS / "index.md")]
    assert sorted(page.name for page in DOCS.glob("*.md") if page.name != "index.md") == sorted(
        target for target in named if "/" not in target
    )
    assert ("docs/index.md", "") in set(links(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_in_a_page_exist(page):
    """Each TOML block has sections and fields that are there."""
    for block in blocks(page):
        if block.language == "toml":
            for section, values in tomllib.loads(block.text).items():
                assert set(values) <= {each.name for each in fields(SECTIONS[section])}, block


@pytest.mark.slow
def test_the_tutorial_shows_what_the_real_table_gives(reader, shared_data):
    """With SKEMPI 2.0 as published, and those of its chains that other tables let us put together, to the digit."""
    raw = shared_data / "raw/skempi_v2.csv"
    shutil.copy(raw, reader.folder)
    shutil.rmtree(reader.folder / "PDBs")
    write_pdbs(reader.folder / "PDBs", real_chains(raw, shared_data / "skempi2_abag.parquet"))
    page = blocks(DOCS / "tutorial.md")
    imported = next(block for block in page if block.language == "sh" and "bindcache import" in block.text)
    shown = page[page.index(imported) + 1]
    reader.obey(imported)
    assert shown.mark == "output"
    assert shown.text == reader.said
