"""The stage through its front door: a table on disk becomes a store, once."""

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from embed.config import EmbedConfig
from embed.errors import EncoderError, PairsError
from embed.fingerprint import find_sources
from embed.pairs import PairsConfig
from embed.sequences import antibody_keys, antigen_keys
from embed.stage import TooLargeError, run_embed
from embed.store.reader import Vectors

RESIDUES = list("ACDEFGHIKLMNPQRSTVWY")


@pytest.fixture
def table(tmp_path):
    """Forty pairs of ten antibodies (two without light chain) and four antigens, one longer than a window."""
    rng = np.random.default_rng(0)

    def chain(low, high):
        return "".join(rng.choice(RESIDUES, rng.integers(low, high)))

    antibodies = [(chain(110, 125), chain(104, 112) if i > 1 else "") for i in range(10)]
    antigens = [chain(40, 80), chain(40, 80), chain(200, 220), chain(1030, 1100)]
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["heavy", "light", "antigen", "pkd"])
        writer.writerows([*antibody, antigen, 7.5] for antibody in antibodies for antigen in antigens)
    return PairsConfig(path=path, affinity="pkd"), antibodies, antigens


def vectors(config, antibodies, antigens):
    """All vectors of the table as the store has them."""
    sources = find_sources(config)
    found = []
    for source, keys in (
        (sources.paired, antibody_keys([(h, light or None) for h, light in antibodies])),
        (sources.antigen, antigen_keys(antigens)),
    ):
        store = Vectors(source.folder)
        found.append(store.read(store.find(keys)))
    return found


def test_each_distinct_sequence_is_embedded_once(table, embed_config):
    """The first run embeds all, the second nothing, and both say so."""
    pairs, antibodies, antigens = table
    first = run_embed(embed_config, pairs).as_json()
    assert (first["pairs"], first["rejected"], first["antibodies"], first["antigens"]) == (40, 0, 10, 4)
    assert (first["embedded"], first["reused"], first["windowed"], first["single_chain"]) == (14, 0, 1, 2)
    assert first["tokens"] > 10 * 220
    assert 0 <= first["padding_fraction"] < 0.05
    assert first["tokens_per_second"] > 0
    second = run_embed(embed_config, pairs).as_json()
    assert (second["embedded"], second["reused"], second["tokens"]) == (0, 14, 0)
    antibody_ND, antigen_ND = vectors(embed_config, antibodies, antigens)
    assert antibody_ND.shape == (10, 128)
    assert antigen_ND.shape == (4, 128)


def test_added_rows_cost_only_what_is_new(table, embed_config):
    """One new antibody in a longer, reordered table is the only one encoded."""
    pairs, _, antigens = table
    run_embed(embed_config, pairs)
    header, *lines = pairs.path.read_text().splitlines()
    pairs.path.write_text("\n".join([header, f"{'ACDEF' * 20},{'GHIKL' * 20},{antigens[0]},5", *lines[::-1]]))
    result = run_embed(embed_config, pairs)
    assert (result.embedded, result.reused) == (1, 14)


def test_parts_in_any_order_make_the_store_of_one_run(table, embed_config, tmp_path):
    """Three parts, last first and one twice, embed each sequence once and give the vectors of a single run."""
    pairs, antibodies, antigens = table
    embedded = [run_embed(embed_config, pairs, part=(i, 3)).embedded for i in (3, 1, 1, 2)]
    assert sum(embedded) == 14
    assert embedded[2] == 0
    assert min(embedded[0], embedded[1], embedded[3]) >= 3
    alone = dataclasses.replace(embed_config, store=tmp_path / "alone")
    run_embed(alone, pairs)
    for part, whole in zip(
        vectors(embed_config, antibodies, antigens), vectors(alone, antibodies, antigens), strict=True
    ):
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


def test_precisions_live_side_by_side(table, embed_config):
    """Another precision gets a folder of its own and leaves the first alone."""
    pairs, _, _ = table
    run_embed(embed_config, pairs)
    result = run_embed(dataclasses.replace(embed_config, precision="fp32"), pairs)
    assert result.embedded == 14
    folders = {path.name.rsplit("-", 1)[0] for path in embed_config.store.iterdir() if path.is_dir()}
    assert folders == {"igt5-int8", "esm2-int8", "igt5-fp32", "esm2-fp32"}


def test_chains_pooled_apart_are_stored_side_by_side(table, embed_config):
    """A folder of its own, twice as wide, zeros where there is no light chain; antigens are not encoded again."""
    pairs, antibodies, antigens = table
    run_embed(embed_config, pairs)
    config = dataclasses.replace(embed_config, pooling="chains")
    assert find_sources(config).paired.facts["pooling"] == "mean, float32, chains"
    result = run_embed(config, pairs)
    assert (result.embedded, result.reused) == (10, 4)
    antibody_ND, antigen_ND = vectors(config, antibodies, antigens)
    assert (antibody_ND.shape, antigen_ND.shape) == ((10, 256), (4, 128))
    assert antibody_ND[:, 128:].any(axis=1).tolist() == [bool(light) for _, light in antibodies]
    assert find_sources(config).paired.dim == 256


def test_single_chains_may_have_a_checkpoint_of_their_own(table, embed_config, checkpoints, tmp_path):
    """Nanobodies go to the other encoder's folder, paired antibodies stay."""
    from pipeline.demo_checkpoints import write_igt5

    (tmp_path / "unpaired").mkdir()
    write_igt5(tmp_path / "unpaired", seed=9)
    pairs, _, _ = table
    config = dataclasses.replace(embed_config, single_chain=str(tmp_path / "unpaired"))
    result = run_embed(config, pairs)
    sources = find_sources(config)
    assert result.fingerprints["single"] != result.fingerprints["paired"]
    assert (len(Vectors(sources.paired.folder)), len(Vectors(sources.single.folder))) == (8, 2)


def test_single_chains_may_be_refused(table, embed_config):
    """`single_chain = "error"` lists the rows without light chain."""
    pairs, _, _ = table
    with pytest.raises(PairsError, match="8 "):
        run_embed(dataclasses.replace(embed_config, single_chain="error"), pairs)


def test_long_antigens_may_be_cut(table, embed_config):
    """`long = "truncate"` gives the vector of the first window; what fits in one keeps its own."""
    pairs, antibodies, antigens = table
    cut = dataclasses.replace(embed_config, long="truncate")
    assert run_embed(embed_config, pairs).windowed == 1
    assert run_embed(cut, pairs).windowed == 0
    windowed_ND, cut_ND = (vectors(config, antibodies, antigens)[1] for config in (embed_config, cut))
    difference_N = np.abs(windowed_ND - cut_ND).max(axis=1)
    assert (difference_N[:3] < 1e-5).all()
    assert difference_N[3] > 1e-3


def test_long_antigens_may_be_refused(table, embed_config):
    """`long = "error"` stops before any encoding and names the rows."""
    pairs, _, _ = table
    with pytest.raises(PairsError, match="10 "):
        run_embed(dataclasses.replace(embed_config, long="error"), pairs)
    assert not list(embed_config.store.glob("*/shards/*"))


def test_with_nothing_missing_torch_is_not_imported(table, embed_config, checkpoints):
    """A second run in a fresh process loads neither torch nor transformers."""
    pairs, _, _ = table
    run_embed(embed_config, pairs)
    code = (
        "import sys; from pathlib import Path\n"
        "from embed.config import EmbedConfig; from embed.pairs import PairsConfig; from embed.stage import run_embed\n"
        f"models = dict(antibody={embed_config.antibody!r}, antigen={embed_config.antigen!r})\n"
        f"config = EmbedConfig(**models, store=Path({str(embed_config.store)!r}))\n"
        f"result = run_embed(config, PairsConfig(path=Path({str(pairs.path)!r}), affinity='pkd'))\n"
        "assert result.embedded == 0 and result.reused == 14\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_stop_keeps_what_is_embedded(table, embed_config):
    """A stopped run publishes its vectors; the next run embeds the rest."""
    pairs, _, _ = table
    config = dataclasses.replace(embed_config, tokens_per_batch=250)
    calls = iter(range(100))
    first = run_embed(config, pairs, stop=lambda: next(calls) >= 5)
    assert first.stopped
    assert 0 < first.embedded < 14
    second = run_embed(config, pairs)
    assert (second.embedded, second.reused) == (14 - first.embedded, first.embedded)


def test_a_sequence_too_large_for_memory_is_named(table, embed_config, monkeypatch):
    """Everything else is stored, and the exit code is 1."""
    import torch

    from embed.encoders.esm2 import Esm2

    forward = Esm2.forward

    def tight(self, batch):
        if batch.size > 900:
            raise torch.OutOfMemoryError("fake")
        return forward(self, batch)

    monkeypatch.setattr(Esm2, "forward", tight)
    pairs, _, _ = table
    with pytest.raises(
        TooLargeError, match=r"even alone: 1 \(antigen of 10\d\d residues\); everything else is in the store"
    ) as caught:
        run_embed(embed_config, pairs)
    assert caught.value.exit_code == 1
    assert len(Vectors(find_sources(embed_config).antigen.folder)) == 3


def test_bad_rows_stop_the_run_before_any_encoding(table, embed_config):
    """A declared affinity column is checked by this stage too."""
    pairs, _, _ = table
    pairs.path.write_text(pairs.path.read_text().replace(",7.5", ",strong", 1))
    with pytest.raises(PairsError, match="strong"):
        run_embed(embed_config, pairs)
    assert not list(embed_config.store.glob("*/shards/*"))


def test_rejected_rows_are_listed_beside_the_store(table, embed_config):
    """`on_bad_row = "reject"` embeds the rest and writes every bad row with its reason to rejected.csv."""
    pairs, _, _ = table
    pairs.path.write_text(pairs.path.read_text().replace(",7.5", ",strong", 1))
    result = run_embed(embed_config, dataclasses.replace(pairs, on_bad_row="reject"))
    assert (result.pairs, result.rejected, result.embedded) == (39, 1, 14)
    with (embed_config.store / "rejected.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["row"], row["column"], row["value"]) == ("1", "pkd", "strong")
    assert row["reason"]


def test_the_fingerprint_is_written_for_people(table, embed_config):
    """`fingerprint.json` says which weights and which policies made the vectors."""
    pairs, _, _ = table
    run_embed(embed_config, pairs)
    source = find_sources(embed_config).antigen
    content = json.loads((source.folder / "fingerprint.json").read_text())
    text = json.dumps(content)
    assert embed_config.antigen in text
    assert '"window": 1022' in text
    assert "two-term" in text


def test_encoders_must_be_there(table, embed_config, tmp_path):
    """A missing model folder is the user's mistake, told in one sentence."""
    pairs, _, _ = table
    config: EmbedConfig = dataclasses.replace(embed_config, antigen=str(tmp_path / "missing"))
    with pytest.raises(EncoderError, match="missing"):
        run_embed(config, pairs)
