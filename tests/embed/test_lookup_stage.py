"""The embed stage without a model: the same store, once per sequence, and no torch."""

import csv
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from embed.config import EmbedConfig
from embed.encoders.lookup import Lookup
from embed.errors import StoreError
from embed.fingerprint import find_sources
from embed.pairs import PairsConfig
from embed.sequences import antibody_keys, antigen_keys
from embed.stage import run_embed
from embed.store.maintenance import merge, verify
from embed.store.reader import Vectors

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


@pytest.fixture
def table(tmp_path):
    """Thirty pairs of ten antibodies (two without light chain) and three antigens, one of 1,100 residues."""
    random = np.random.default_rng(0)

    def chain(length):
        return "".join(random.choice(LETTERS, length))

    antibodies = [(chain(120), chain(107) if number > 1 else "") for number in range(10)]
    antigens = [chain(60), chain(200), chain(1100)]
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        rows = [[*antibody, antigen, 7.5] for antibody in antibodies for antigen in antigens]
        csv.writer(file).writerows([["heavy", "light", "antigen", "pkd"], *rows])
    return PairsConfig(path=path, affinity="pkd"), [(h, light or None) for h, light in antibodies], antigens


@pytest.fixture
def config(tmp_path):
    return EmbedConfig(antibody="blosum62", antigen="onehot", store=tmp_path / "store", device="cpu")


def test_the_store_holds_what_the_table_says(table, config):
    """Every vector is in the store once, in the config's shards; a second run embeds nothing."""
    pairs, antibodies, antigens = table
    told = []
    first = run_embed(replace(config, shard_rows=4), pairs, progress=lambda *step: told.append(step))
    assert (first.embedded, first.reused, first.windowed, first.single_chain) == (13, 0, 0, 2)
    assert first.precision == {"antibody": "fp32", "antigen": "fp32"}
    assert told[-1][1] == told[-1][2] > 0
    sources = find_sources(config)
    for source, keys, sequences in (
        (sources.paired, antibody_keys(antibodies), antibodies),
        (sources.antigen, antigen_keys(antigens), antigens),
    ):
        stored = Vectors(source.folder)
        np.testing.assert_array_equal(stored.read(stored.find(keys)), source.lookup.encode(sequences))
        assert source.name.startswith(f"{source.family}-fp32-")
    second = run_embed(config, pairs)
    assert (second.embedded, second.reused) == (0, 13)
    assert verify(config.store) == []


def test_precisions_share_their_vectors(table, config):
    """Neither precision nor what models alone know splits the fingerprint; how vectors are stored does."""
    pairs, _, _ = table
    run_embed(config, pairs)
    same = replace(config, precision="fp32", pooling="card", long="error", window=50, stride=50, compile="on")
    assert run_embed(same, pairs).reused == 13
    assert run_embed(replace(config, vector_dtype="float16"), pairs).embedded == 13


def test_parts_and_merged_stores_are_those_of_one_run(table, config, tmp_path):
    """Two parts in two stores, merged: shard by shard what both wrote, and every key there."""
    pairs, antibodies, _ = table
    other = replace(config, store=tmp_path / "other")
    assert run_embed(config, pairs, part=(1, 2)).embedded + run_embed(other, pairs, part=(2, 2)).embedded == 13
    merge(config.store, other.store)
    assert run_embed(config, pairs).reused == 13
    stored = Vectors(find_sources(config).paired.folder)
    np.testing.assert_array_equal(
        stored.read(stored.find(antibody_keys(antibodies))), Lookup("blosum62", "antibody").encode(antibodies)
    )


def test_a_stop_keeps_what_is_looked_up(table, config, monkeypatch):
    """A stopped run publishes its vectors; the next one does the rest."""
    monkeypatch.setattr("embed.stage._LOOKED_UP_AT_ONCE", 4)
    calls = iter(range(100))
    first = run_embed(config, table[0], stop=lambda: next(calls) >= 2)
    assert first.stopped
    assert first.embedded == 8
    assert run_embed(config, table[0]).embedded == 5


def test_another_layout_under_this_fingerprint_writes_nothing(table, config, monkeypatch):
    """Golden vectors tell a table or a layout that changed without its version."""
    pairs, _, _ = table
    run_embed(config, pairs)
    golden = find_sources(config).antigen.folder / "golden"
    assert len(list(golden.glob("*.h5"))) == 1
    with pairs.path.open("a") as file:
        file.write(f"{'ACDEF' * 20},,{'GHIKL' * 20},5\n")
    encode = Lookup.encode
    monkeypatch.setattr(Lookup, "encode", lambda self, sequences: encode(self, sequences)[:, ::-1])
    with pytest.raises(StoreError, match="one fingerprint but give different vectors"):
        run_embed(config, pairs)


def test_a_model_may_read_the_other_role(table, embed_config):
    """Antibodies are looked up, antigens read by a model."""
    mixed = replace(embed_config, antibody="onehot")
    result = run_embed(mixed, table[0])
    assert result.embedded == 13
    assert result.precision == {"antibody": "fp32", "antigen": "int8"}
    assert {name.partition("-")[0] for name in result.fingerprints.values()} == {"onehot", "esm2"}


def test_single_chains_may_be_looked_up_elsewhere(table, config):
    """Nanobodies by another table, of the same width."""
    pairs, _, _ = table
    result = run_embed(replace(config, single_chain="onehot"), pairs)
    assert result.fingerprints["single"].startswith("onehot-")
    assert result.fingerprints["paired"].startswith("blosum62-")
    sources = find_sources(replace(config, single_chain="onehot"))
    assert (len(Vectors(sources.paired.folder)), len(Vectors(sources.single.folder))) == (8, 2)
    assert sources.paired.dim == sources.single.dim


def test_torch_is_never_imported(table, config):
    """An embedding of a new table, in a fresh process, loads neither torch nor transformers."""
    code = (
        "import sys; from pathlib import Path\n"
        "from embed.config import EmbedConfig; from embed.pairs import PairsConfig; from embed.stage import run_embed\n"
        f"config = EmbedConfig(antibody='onehot', antigen='blosum62', store=Path({str(config.store)!r}))\n"
        f"result = run_embed(config, PairsConfig(path=Path({str(table[0].path)!r}), affinity='pkd'))\n"
        "assert result.embedded == 13\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
