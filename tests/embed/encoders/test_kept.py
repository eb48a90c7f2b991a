"""INT8 weights that are kept in the user's cache."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from embed.config import EmbedConfig
from embed.encoders import kept
from embed.encoders.open import open_encoder
from embed.fingerprint import find_sources
from embed.inference import encode

ANTIBODIES = [("EVQLVESGGGLVQPGG", "DIQMTQSPSSLS"), ("QVQLQESGPGLVK", None)]
ANTIGENS = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAF"]


@pytest.fixture
def vectors(checkpoints, tmp_path, monkeypatch):
    """Encode with encoders of this test's own, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_LEAST", 0)
    shutil.copytree(checkpoints, tmp_path / "encoders")

    def encoded(precision="int8"):
        config = EmbedConfig(
            antibody=str(tmp_path / "encoders" / "igt5"),
            antigen=str(tmp_path / "encoders" / "esm2"),
            store=tmp_path / "store",
            precision=precision,
        )
        sources = find_sources(config)
        each = ((sources.paired, ANTIBODIES), (sources.antigen, ANTIGENS))
        return [torch.from_numpy(encode(open_encoder(source, config), asked, config)[0]) for source, asked in each]

    return encoded


def files(tmp_path):
    return sorted((tmp_path / "cache" / "bindcache").glob("int8-*.safetensors"))


@pytest.mark.parametrize("precision", ["int8", "int8-fast"])
def test_kept_weights_give_the_same_bits(vectors, tmp_path, monkeypatch, precision):
    """The second process reads no float weight, and its vectors are those of the first."""
    first = vectors(precision)
    assert len(files(tmp_path)) == 2
    monkeypatch.setattr("embed.encoders.loading._from_pretrained", None)
    assert all(map(torch.equal, vectors(precision), first))


def test_a_damaged_file_is_made_anew(vectors, tmp_path):
    """One flipped bit of a kept file changes no vector."""
    first, (file, _) = vectors(), files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert all(map(torch.equal, vectors(), first))
    assert file.read_bytes() == whole


def test_nothing_is_kept_where_others_may_write(vectors, tmp_path):
    """What others could replace is not taken for the truth."""
    (tmp_path / "cache" / "bindcache").mkdir(parents=True)
    (tmp_path / "cache" / "bindcache").chmod(0o777)
    vectors()
    assert not files(tmp_path)


def test_other_weights_have_another_file(vectors, tmp_path):
    """A checkpoint that changed in place is quantised again."""
    first = vectors()
    weights = min((tmp_path / "encoders" / "esm2").glob("*.safetensors"))
    save_file({name: tensor * 1.5 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert not torch.equal(vectors()[1], first[1])
    assert len(files(tmp_path)) == 3
