"""`embed.pooling = "residues"` by the commands: embed, look after the store, export, train, predict."""

import json

import h5py
import numpy as np
import pyarrow.parquet
import pytest

from embed.sequences import antigen_key
from embed.store.folder import fingerprint_folders
from embed.store.reader import Vectors


@pytest.fixture(scope="module")
def stored(config, bindcache, tmp_path_factory):
    """Options that name a store with vectors of residues of the demo's table."""
    folder = tmp_path_factory.mktemp("residues")
    options = ("--config", config, "--set", "embed.pooling=residues", "--set", f"embed.store={folder / 'store'}")
    result = bindcache("embed", *options, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["embedded"] > 0
    return folder, options


def test_the_store_is_looked_after(stored, bindcache):
    """Info counts residues, verify finds nothing, and nothing is encoded twice."""
    folder, options = stored
    folders = json.loads(bindcache("store", "info", *options, "--json").stdout)["folders"]
    assert [each["dtype"] for each in folders] == ["float16"] * 2
    assert all(each["residues"] > 20 * each["keys"] for each in folders)
    assert all(each["facts"]["pooling"] == "none, float16, residues" for each in folders)
    assert "residues" in bindcache("store", "info", *options).stdout
    assert bindcache("store", "verify", *options).exit_code == 0
    assert json.loads(bindcache("embed", *options, "--json").stdout)["embedded"] == 0
    assert (folder / "store" / "report.html").exists()


def test_they_are_exported_for_biotrainer_alone(stored, bindcache, error, tmp_path):
    """One dataset [residues, width] for each sequence; every other format names the one that serves."""
    folder, options = stored
    for out in ("v.parquet", "v.npz", "v.h5ad"):
        said = error("store", "export", *options, "--out", tmp_path / out)
        assert "gives a vector for each residue" in said
        assert "export to .h5" in said
    assert bindcache("store", "export", *options, "--out", tmp_path / "v.h5").exit_code == 0
    antigens = Vectors(next(each for each in fingerprint_folders(folder / "store") if each.name.startswith("esm2")))
    with h5py.File(tmp_path / "v.antigen.h5") as root:
        assert len(root) == len(antigens)
        for dataset in root.values():
            key = np.frombuffer(antigen_key(dataset.attrs["antigen"]), np.uint8)[None]
            expected_LD = antigens.residues(int(antigens.find(key)[0]))
            assert dataset.shape == (len(dataset.attrs["antigen"]), antigens.dim)
            np.testing.assert_array_equal(dataset[()], expected_LD)
            assert dataset.attrs["original_id"]
    with h5py.File(tmp_path / "v.antibody.h5") as root:
        for dataset in root.values():
            assert len(dataset) == len(dataset.attrs["heavy"]) + len(dataset.attrs.get("light", ""))


def test_they_are_trained_on_and_predicted_with(stored, bindcache, demo, tmp_path, quick):
    """A run like any other: trained, resumed when finished, reported, and applied to a table with new sequences."""
    _, options = stored
    train = ("train", *options, *quick, "--set", f"train.run={tmp_path / 'run'}", "--set", "train.queries=2", "--json")
    result = bindcache(*train)
    assert result.exit_code == 0, result.output
    assert bindcache(*train, "--resume").exit_code == 0
    details = json.loads((tmp_path / "run" / "result.json").read_text())["details"]
    assert details["residues"] == "2 queries beside the mean, of antibodies and antigens"
    assert (tmp_path / "run" / "report.html").exists()
    lines = (demo / "pairs.csv").read_text().splitlines()
    heavy = lines[0].split(",").index("heavy")
    cells = lines[1].split(",")
    cells[heavy] = cells[heavy][::-1]
    (tmp_path / "new.csv").write_text("\n".join([lines[0], *lines[1:4], ",".join(["new", *cells[1:]])]))
    out = tmp_path / "predicted.parquet"
    said = bindcache("predict", "--run", tmp_path / "run", "--pairs", tmp_path / "new.csv", "--out", out, "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["embedded"] == 1
    predicted = pyarrow.parquet.read_table(out).to_pydict()
    assert np.isfinite(predicted["prediction"]).all()
    run = pyarrow.parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    known = dict(zip(run["id"], run["prediction"], strict=True))
    np.testing.assert_allclose(predicted["prediction"][:3], [known[each] for each in predicted["id"][:3]], atol=1e-4)
