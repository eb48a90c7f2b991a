"""Another encoder under the same fingerprint is told by its golden vectors before it writes anything."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from embed.encoders.igt5 import IgT5
from embed.encoders.open import open_encoder
from embed.errors import StoreError
from embed.fingerprint import find_sources
from embed.golden import ANTIBODIES, ANTIGENS
from embed.inference import encode
from embed.pairs import PairsConfig
from embed.sequences import antibody_keys
from embed.stage import run_embed
from embed.store.golden import read_golden
from embed.store.maintenance import merge, verify
from embed.store.quarantine import quarantine
from embed.store.reader import Vectors


@pytest.fixture
def make_pairs(tmp_path):
    """A table of so many antibodies and one antigen."""

    def make(antibodies):
        path = tmp_path / f"pairs-{antibodies}.csv"
        rng = np.random.default_rng(0)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["heavy", "light", "antigen"])
            for _ in range(antibodies):
                writer.writerow([*("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 30)) for _ in range(2)), "MKTAYI"])
        return PairsConfig(path=path)

    return make


@pytest.fixture
def disturb(monkeypatch):
    """Let the antibody encoder compute a little otherwise: vectors grow by a share."""
    forward = IgT5.forward

    def by(share):
        monkeypatch.setattr(IgT5, "forward", lambda self, batch: forward(self, batch) * (1 + share))

    return by


def golden_of(source):
    """The one golden shard of a source's folder."""
    (path,) = (source.folder / "golden").iterdir()
    return path


def test_golden_vectors_are_the_encoder_s_own(make_pairs, embed_config):
    """They lie beside the fingerprint as a shard, and are what the encoder makes of these sequences alone."""
    run_embed(embed_config, make_pairs(3))
    source = find_sources(embed_config).paired
    golden = read_golden(golden_of(source), source.fingerprint)
    expected, _ = encode(open_encoder(source, embed_config), ANTIBODIES, embed_config)
    place = [key.tobytes() for key in golden.key_G16]
    for key, vector_D in zip(antibody_keys(ANTIBODIES), expected, strict=True):
        assert np.array_equal(golden.vector_GD[place.index(key.tobytes())], vector_D)
    assert len(place) == len(ANTIBODIES)
    assert (Vectors(source.folder).find(antibody_keys(ANTIBODIES)) < 0).all()


def test_golden_sequences_hold_every_letter_and_several_lengths():
    """Whatever letter changes its meaning, and short and long, one chain and two."""
    letters = set("ACDEFGHIKLMNPQRSTVWYX")
    assert letters <= set("".join(h + (light or "") for h, light in ANTIBODIES))
    assert letters <= set("".join(ANTIGENS))
    assert {light is None for _, light in ANTIBODIES} == {True, False}
    assert len({len(antigen) for antigen in ANTIGENS}) == len(ANTIGENS)


def test_another_encoder_of_one_fingerprint_writes_nothing(make_pairs, embed_config, disturb):
    """The message names the encoder, the folder and the ways out; the store is as it was, and what it has is read."""
    run_embed(embed_config, make_pairs(3))
    source = find_sources(embed_config).paired
    before = sorted(path.name for path in embed_config.store.rglob("*.h5"))
    disturb(1e-3)
    with pytest.raises(StoreError, match=rf"{source.name}.* difference 1\.0e-03, at most 0\.0001") as caught:
        run_embed(embed_config, make_pairs(5))
    for part in (embed_config.antibody, "Nothing was written", "name a new one"):
        assert part in str(caught.value)
    assert sorted(path.name for path in embed_config.store.rglob("*.h5")) == before
    assert run_embed(embed_config, make_pairs(3)).embedded == 0


def test_rounding_is_no_other_encoder(make_pairs, embed_config, disturb):
    """What the tolerance allows goes on."""
    run_embed(embed_config, make_pairs(3))
    disturb(2e-5)
    assert run_embed(embed_config, make_pairs(5)).embedded == 2


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-fast", "bf16"])
def test_every_way_to_batch_is_the_same_encoder(make_pairs, embed_config, precision):
    """Packed made the store, bucketed adds to it."""
    config = dataclasses.replace(embed_config, precision=precision)
    run_embed(config, make_pairs(3))
    assert run_embed(dataclasses.replace(config, batching="bucketed"), make_pairs(5)).embedded == 2


def test_weights_that_changed_unseen_are_told(make_pairs, embed_config, checkpoints, tmp_path):
    """The remembered digest of the weights lies, as if a file had changed under its old stamp: still nothing wrong."""
    from pipeline.demo_checkpoints import write_igt5

    folder = shutil.copytree(checkpoints / "igt5", tmp_path / "igt5")
    config = dataclasses.replace(embed_config, antibody=str(folder))
    run_embed(config, make_pairs(3))
    memory = json.loads((config.store / "weights.json").read_text())
    write_igt5(folder, seed=7)
    for file, entry in memory.items():
        if file.startswith(str(folder)):
            status = (folder / file).stat()
            entry[:-1] = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    (config.store / "weights.json").write_text(json.dumps(memory))
    with pytest.raises(StoreError, match="give different vectors of the same sequences"):
        run_embed(config, make_pairs(5))


def test_a_damaged_golden_shard_stops_the_writer_until_it_is_moved(make_pairs, embed_config):
    """Named by embed and by verify; once in quarantine, the next embed makes it anew, byte for byte."""
    run_embed(embed_config, make_pairs(3))
    path = golden_of(find_sources(embed_config).paired)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=path.name):
        run_embed(embed_config, make_pairs(5))
    assert [problem.path for problem in verify(embed_config.store)] == [path]
    quarantine(path)
    assert run_embed(embed_config, make_pairs(5)).embedded == 2
    assert path.read_bytes() == whole


def test_a_store_from_before_gets_golden_vectors(make_pairs, embed_config):
    """A folder without them takes those of its next writer."""
    run_embed(embed_config, make_pairs(3))
    shutil.rmtree(find_sources(embed_config).paired.folder / "golden")
    run_embed(embed_config, make_pairs(5))
    assert golden_of(find_sources(embed_config).paired).exists()


def test_merge_compares_golden_vectors(make_pairs, embed_config, disturb, tmp_path):
    """Stores of encoders that differ are not merged; of equal ones they are, golden vectors too."""
    other = dataclasses.replace(embed_config, store=tmp_path / "other")
    run_embed(embed_config, make_pairs(3))
    run_embed(other, make_pairs(5))
    assert merge(embed_config.store, other.store)
    assert merge(tmp_path / "third", other.store)
    name = find_sources(embed_config).paired.name
    assert (tmp_path / "third" / name / "golden").is_dir()
    disturb(1e-2)
    wrong = dataclasses.replace(embed_config, store=tmp_path / "wrong")
    run_embed(wrong, make_pairs(6))
    before = sorted(embed_config.store.rglob("*.h5"))
    with pytest.raises(StoreError, match=name):
        merge(embed_config.store, wrong.store)
    assert sorted(path for path in embed_config.store.rglob("*.h5") if name in str(path)) == [
        path for path in before if name in str(path)
    ]
