"""A damaged store, repaired: what is lost is embedded again, and nothing else."""

import dataclasses
import json

import numpy as np
import pytest

from embed.errors import StoreError
from embed.fingerprint import find_sources
from embed.pairs import PairsConfig
from embed.sequences import antibody_keys
from embed.stage import run_embed
from embed.store.reader import Vectors
from embed.store.shard import open_shard
from pipeline.cli import main


@pytest.fixture
def pairs(tmp_path):
    """Twenty antibodies against one antigen."""
    rng = np.random.default_rng(0)
    rows = [",".join("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 20)) for _ in range(2)) for _ in range(20)]
    path = tmp_path / "pairs.csv"
    path.write_text("heavy,light,antigen\n" + "".join(f"{row},MKTAYIAKQR\n" for row in rows))
    return PairsConfig(path=path)


def flip(path):
    image = bytearray(path.read_bytes())
    image[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(image)


def cut(path):
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:100])


def link(path):
    path.unlink()
    path.symlink_to("nowhere")


def test_the_next_embed_encodes_exactly_what_was_lost(pairs, embed_config, tmp_path, capsys):
    """Three shards damaged in three ways: `verify --repair` moves them, `embed` makes their keys, bit for bit."""
    config = dataclasses.replace(embed_config, shard_rows=4)
    run_embed(config, pairs)
    source = find_sources(config).paired
    keys = antibody_keys([tuple(line.split(",")[:2]) for line in pairs.path.read_text().splitlines()[1:]])
    vectors = Vectors(source.folder)
    before = vectors.read(vectors.find(keys))
    shards = sorted((source.folder / "shards").iterdir())
    assert len(shards) == 5
    lost = shards[:3]
    missing = sum(len(open_shard(path, fingerprint=source.fingerprint).key_N16) for path in lost)
    for path, damage in zip(lost, (flip, cut, link), strict=True):
        damage(path)
    (source.folder / "fingerprint.json").chmod(0o644)
    (source.folder / "fingerprint.json").write_text("{}")
    with pytest.raises(StoreError, match="store verify --repair"):
        run_embed(config, pairs)
    toml = tmp_path / "c.toml"
    toml.write_text(
        f'[pairs]\npath = "{pairs.path}"\n[embed]\nantibody = "{config.antibody}"\nantigen = "{config.antigen}"\n'
        f'store = "{config.store}"\nshard_rows = 4\n'
    )
    with pytest.raises(SystemExit) as left:
        main(["store", "verify", "--repair", "--config", str(toml), "--json"])
    assert left.value.code == 0
    moved = json.loads(capsys.readouterr().out)["moved"]
    assert sorted(name.rpartition("/")[2] for name in moved) == sorted(
        ["fingerprint.json", *(path.name for path in lost)]
    )
    result = run_embed(config, pairs)
    assert (result.embedded, result.reused) == (missing, 21 - missing)
    vectors = Vectors(source.folder)
    assert np.array_equal(vectors.read(vectors.find(keys)), before)
    assert run_embed(config, pairs).embedded == 0
