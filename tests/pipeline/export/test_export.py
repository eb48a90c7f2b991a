"""`bindcache store export` and `store import`: files that the libraries they are made for read as they should."""

import csv
import json

import anndata
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from embed.sequences import antibody_keys, antigen_keys
from embed.store.reader import Vectors
from pipeline.config import load
from train.rundir import RunDir

HOSTILE = ["a/b", "..", "/", "=cmd()", "ü µ", "4E10", "NA", "a\tb"]
"""Ids that name groups, folders, formulas or numbers elsewhere."""


@pytest.fixture(scope="module")
def renamed(demo, embedded, tmp_path_factory):
    """The demo's table under hostile ids; returns options that name it, and its rows."""
    header, *rows = csv.reader((demo / "pairs.csv").read_text().splitlines())
    rows = [[f"{HOSTILE[i % 8]}{i // 8 or ''}", *row[1:]] for i, row in enumerate(rows)]
    table = tmp_path_factory.mktemp("renamed") / "pairs.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return ("--set", f"pairs.path={table}"), [dict(zip(header, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def expected(config, embedded, renamed):
    """By role: id of the first pair with each sequence, its chains, its vector read from the store."""
    found = {"antibody": {}, "antigen": {}}
    store = load(config).embed.store
    ours, theirs = (Vectors(store / embedded["fingerprints"][role]) for role in ("paired", "antigen"))
    for row in renamed[1]:
        antibody = (row["heavy"], row["light"] or None)
        if antibody not in {chains for _, chains, _ in found["antibody"].values()}:
            vector = ours.read(ours.find(antibody_keys([antibody])))[0]
            found["antibody"][row["pair_id"]] = (row["pair_id"], antibody, vector)
        if row["antigen"] not in {chains for _, chains, _ in found["antigen"].values()}:
            vector = theirs.read(theirs.find(antigen_keys([row["antigen"]])))[0]
            found["antigen"][row["pair_id"]] = (row["pair_id"], row["antigen"], vector)
    return found


@pytest.fixture
def exported(bindcache, config, renamed, tmp_path):
    """Export to a file of this name; returns the files."""

    def run(name, *options):
        result = bindcache(
            "store", "export", "--config", config, *renamed[0], "--out", tmp_path / name, *options, "--json"
        )
        assert result.exit_code == 0, result.output
        assert {path.name for path in tmp_path.iterdir()} == {
            path.rpartition("/")[2] for path in json.loads(result.stdout)["files"]
        }
        return json.loads(result.stdout)["files"]

    return run


def test_parquet_has_the_ids(exported, expected):
    """One row for each sequence, named by the first pair that holds it."""
    rows = pq.read_table(exported("v.parquet")[0]).to_pylist()
    assert len(rows) == sum(map(len, expected.values()))
    for row in rows:
        _, chains, vector = expected[row["role"]][row["id"]]
        assert chains == ((row["heavy"], row["light"]) if row["role"] == "antibody" else row["antigen"])
        assert np.array_equal(np.float32(row["vector"]), vector)


def test_numpy_reads_the_npz_without_pickle(exported, expected):
    """Arrays of one length for each role."""
    with np.load(exported("v.npz")[0], allow_pickle=False) as arrays:
        assert sorted(arrays) == [
            "antibody_heavy", "antibody_id", "antibody_light", "antibody_vector",
            "antigen_id", "antigen_sequence", "antigen_vector",
        ]  # fmt: skip
        for role, entries in expected.items():
            assert sorted(arrays[f"{role}_id"]) == sorted(entries)
            assert arrays[f"{role}_vector"].dtype == np.float32
            for place, name in enumerate(arrays[f"{role}_id"].tolist()):
                _, chains, vector = entries[name]
                assert np.array_equal(arrays[f"{role}_vector"][place], vector)
                if role == "antibody":
                    held = (arrays["antibody_heavy"][place], arrays["antibody_light"][place] or None)
                else:
                    held = arrays["antigen_sequence"][place]
                assert chains == held


def test_anndata_reads_the_h5ad(exported, expected):
    """Observations are sequences named by their ids; the library writes what it read again without a change."""
    files = exported("v.h5ad")
    assert [file.rpartition("/")[2] for file in files] == ["v.antibody.h5ad", "v.antigen.h5ad"]
    for (role, entries), file in zip(expected.items(), files, strict=True):
        data = anndata.read_h5ad(file)
        assert data.shape == (len(entries), len(next(iter(entries.values()))[2]))
        assert data.X.dtype == np.float32
        assert sorted(data.obs_names) == sorted(entries)
        assert list(data.var_names[:2]) == ["0", "1"]
        assert [name.split("-")[0] for name in data.uns["encoders"]] == [{"antibody": "igt5", "antigen": "esm2"}[role]]
        for name, vector, row in zip(data.obs_names, data.X, data.obs.to_dict("records"), strict=True):
            _, chains, stored = entries[name]
            assert np.array_equal(vector, stored)
            assert chains == ((row["heavy"], row["light"] or None) if role == "antibody" else row["sequence"])
        data.write_h5ad(f"{file}.again")
        assert np.array_equal(anndata.read_h5ad(f"{file}.again").X, data.X)


def test_h5_is_the_layout_of_biotrainer_and_uniprot(exported, expected):
    """Read as both document it: flat, one dataset for each sequence, the user's id as an attribute."""
    files = exported("v.h5")
    for (role, entries), file in zip(expected.items(), files, strict=True):
        with h5py.File(file) as root:
            assert all(isinstance(dataset, h5py.Dataset) and dataset.ndim == 1 for dataset in root.values())
            found = {root[name].attrs["original_id"]: root[name][:] for name in root}
            assert found.keys() == entries.keys()
            assert all(np.array_equal(found[name], vector) for name, (_, _, vector) in entries.items())
            key = antigen_keys if role == "antigen" else antibody_keys
            assert set(root) == {key([chains])[0].tobytes().hex() for _, chains, _ in entries.values()}


def test_the_format_is_that_of_the_ending_or_as_asked(exported, error, config, embedded, tmp_path):
    """An ending of none is refused by name; `--format` wins over it."""
    said = error("store", "export", "--config", config, "--out", tmp_path / "v.csv")
    assert f"--out {tmp_path}/v.csv: end it in .parquet, .npz, .h5ad, .h5, .hdf5, or say --format." in said
    with np.load(exported("v.bin", "--format", "numpy")[0]) as arrays:
        assert "antigen_vector" in arrays


def test_what_was_exported_can_be_imported_and_trained_on(bindcache, exported, config, quick, embedded, tmp_path):
    """The file says its sequences itself; the new folders serve in the encoders' place, and the run is the same."""
    antibody, antigen = exported("v.h5")
    new = ("--set", f"embed.store={tmp_path / 'new'}")
    folders = {}
    for role, file in (("antibody", antibody), ("antigen", antigen)):
        command = (
            "store",
            "import",
            file,
            "--config",
            config,
            *new,
            "--role",
            role,
            "--model",
            "ours, exported",
            "--json",
        )
        first, again = (bindcache(*command) for _ in range(2))
        assert first.exit_code == 0, first.output
        assert first.stdout == again.stdout, "importing again changes nothing"
        folders[role] = json.loads(first.stdout)["folder"]
    facts = json.loads((tmp_path / "new" / folders["antigen"] / "fingerprint.json").read_text())["facts"]
    assert (facts["encoder"], facts["model"], facts["sequences"]) == ("imported", "ours, exported", "")
    sets = [word for role, folder in folders.items() for word in ("--set", f"embed.{role}={folder}")]
    done = bindcache("embed", "--config", config, *new, *sets, "--json")
    assert (json.loads(done.stdout)["embedded"], json.loads(done.stdout)["reused"]) == (0, embedded["embedded"])
    scores = []
    for name, options in (("there", ()), ("here", (*new, *sets))):
        run = bindcache(
            "train", "--config", config, *options, *quick, "--set", f"train.run={tmp_path / name}", "--json"
        )
        assert run.exit_code == 0, run.output
        scores.append(json.loads(run.stdout)["test"])
        assert RunDir(tmp_path / name).result.exists()
    assert scores[0] == scores[1]


def uniprot(path, vectors, **attributes):
    """A file as UniProt writes it: accessions as names."""
    with h5py.File(path, "w") as root:
        for name, vector in vectors.items():
            root.create_dataset(name, data=vector).attrs.update(attributes)
    return path


@pytest.fixture
def importing(config, tmp_path):
    """The words of an import of antigens into an empty store."""

    def words(file, *options, role="antigen"):
        there = ("--config", config, "--set", f"embed.store={tmp_path / 'store'}")
        return ("store", "import", file, *there, "--role", role, "--model", "ProtT5", *options)

    return words


def test_a_file_of_uniprot_needs_a_fasta_and_says_so(bindcache, error, importing, tmp_path):
    """Ids alone are no sequences; with a FASTA of UniProt the accessions are found, and what is not is told."""
    vectors = {name: np.arange(4, dtype=np.float16) + i for i, name in enumerate(("P00698", "Q9Y6K9", "P99999"))}
    file = uniprot(tmp_path / "u.h5", vectors)
    said = error(*importing(file))
    assert said == (
        "Error: None of the 3 ids of u.h5, such as 'P00698', 'P99999', 'Q9Y6K9', is an id of the pairs table "
        "(pairs.id), and vectors are kept by sequence. Give --sequences, a FASTA file with these ids.\n"
    )
    fasta = tmp_path / "u.fasta"
    fasta.write_text(">sp|P00698|LYSC_CHICK Lysozyme\nKVFGRCELAAAMK\nRHGLDNYRGYSLG\n>Q9Y6K9 NEMO\nMNRHLWKSQLCEMVQ\n")
    result = bindcache(*importing(file, "--sequences", fasta))
    assert result.exit_code == 0, result.output
    assert "vectors   2 of width 4\nleft out  1 without known sequence: P99999\n" in result.stdout
    folder = next((tmp_path / "store").glob("imported-antigen-*"))
    stored = Vectors(folder)
    assert stored.dtype == np.float16
    found = stored.find(antigen_keys(["KVFGRCELAAAMKRHGLDNYRGYSLG", "MNRHLWKSQLCEMVQ"]))
    assert np.array_equal(stored.read(found), [vectors["P00698"], vectors["Q9Y6K9"]])
    assert stored.lengths(found).tolist() == [26, 15]


def test_the_pairs_table_names_sequences_by_its_ids(bindcache, importing, config, demo, tmp_path):
    """Both chains of an antibody come from the row with that id."""
    row = (demo / "pairs.csv").read_text().splitlines()[1].split(",")
    file = uniprot(tmp_path / "a.h5", {"0123abcd": np.ones(3, np.float32)}, original_id=row[0])
    assert bindcache(*importing(file, role="antibody")).exit_code == 0
    stored = Vectors(next((tmp_path / "store").glob("imported-antibody-*")))
    assert stored.find(antibody_keys([(row[1], row[2] or None)])).tolist() == [0]


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ({"A": np.ones((5, 4), np.float32)}, "'A' is float32 of shape (5, 4), and a vector has one dimension"),
        ({"A": np.ones(4, np.float32), "B": np.ones(5, np.float32)}, "holds vectors of widths [4, 5]"),
        ({"A": np.array([1, np.nan], np.float32)}, "is not finite"),
        ({"A": np.ones(4, np.float32), "C": np.zeros(4, np.float32)}, "'A' and 'C' are one sequence with different"),
        ({"A/x": np.ones(4, np.float32)}, "'A' is not a dataset"),
        ({"A": np.array([b"x"])}, "of shape (1,), and a vector has one dimension"),
    ],
)
def test_a_file_of_another_kind_is_refused(error, importing, tmp_path, vectors, said):
    """Per-residue files, mixed widths, damaged numbers, groups: each is told."""
    fasta = tmp_path / "f.fasta"
    fasta.write_text(">A\nMKTAYIAKQR\n>B\nMKTAYIAKQL\n>C\nMKTAYIAKQR\n")
    assert said in error(*importing(uniprot(tmp_path / "v.h5", vectors), "--sequences", fasta))


def test_links_to_other_files_are_not_followed(error, importing, tmp_path):
    """A vector lies in the file that was named."""
    uniprot(tmp_path / "other.h5", {"A": np.ones(4, np.float32)})
    with h5py.File(tmp_path / "v.h5", "w") as root:
        root["A"] = h5py.ExternalLink("other.h5", "/A")
    assert "'A' is not a dataset" in error(*importing(tmp_path / "v.h5"))
    (tmp_path / "text.h5").write_text("no")
    assert "cannot be read as HDF5" in error(*importing(tmp_path / "text.h5"))
    assert "There is no file" in error(*importing(tmp_path / "gone.h5"))


def test_imported_vectors_encode_nothing_new(bindcache, error, importing, config, demo, tmp_path):
    """An antigen that is not among them is an error that says why; the role is checked."""
    row = (demo / "pairs.csv").read_text().splitlines()[1].split(",")
    file = uniprot(tmp_path / "a.h5", {row[0]: np.ones(3, np.float32)})
    folder = json.loads(bindcache(*importing(file, "--json")).stdout)["folder"]
    there = ("--config", config, "--set", f"embed.antigen={folder}")
    assert "The antigen vectors of imported-antigen-" in error("embed", *there)
    swapped = error("embed", "--config", config, "--set", f"embed.antibody={folder}")
    assert "holds vectors of imported (antigen); name an encoder" in swapped
