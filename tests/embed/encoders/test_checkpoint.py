"""Finding an encoder's files, and refusing what is not one."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file

from embed.config import EmbedConfig
from embed.encoders.checkpoint import open_checkpoint, weights_digest
from embed.encoders.convert import convert
from embed.encoders.encoder import Encoder
from embed.encoders.igt5 import IgT5
from embed.encoders.loading import Arithmetic, choose_device
from embed.encoders.open import open_encoder
from embed.errors import EmbedError, EncoderError
from embed.fingerprint import find_sources

CPU = Arithmetic(precision="fp32", threshold=6.0, device="cpu", packed=True)


@pytest.fixture
def igt5(checkpoints, tmp_path):
    """A copy of the tiny IgT5 to damage."""
    return shutil.copytree(checkpoints / "igt5", tmp_path / "igt5")


def test_the_digest_is_of_the_bytes_and_remembered_by_stamp(igt5, tmp_path):
    """A changed weight changes the digest; a second look reads the memory, not the file."""
    memory = tmp_path / "memory" / "weights.json"
    first = weights_digest(open_checkpoint(str(igt5), ""), memory)
    assert weights_digest(open_checkpoint(str(igt5), ""), tmp_path / "none.json") == first
    entries = json.loads(memory.read_text())
    assert len(entries) == len(list(igt5.glob("*.safetensors")))
    weights = sorted(igt5.glob("*.safetensors"))[0]
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert weights_digest(open_checkpoint(str(igt5), ""), memory) != first


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"store": "elsewhere"}, True),
        ({"tokens_per_batch": 64, "buckets": (256,), "shard_rows": 5, "device": "cpu"}, True),
        ({"precision": "fp32"}, False),
        ({"antibody_precision": "bf16"}, False),
        ({"pooling": "card"}, False),
        ({"pooling": "chains"}, False),
        ({"vector_dtype": "float16"}, False),
    ],
)
def test_a_fingerprint_changes_with_what_changes_a_vector(embed_config, tmp_path, change, same):
    """Where and how fast do not matter; in what numbers and by which policy do."""
    import dataclasses

    if "store" in change:
        change = {"store": tmp_path / "elsewhere"}
    before = find_sources(embed_config)
    after = find_sources(dataclasses.replace(embed_config, **change))
    assert (before.paired.fingerprint == after.paired.fingerprint) is same


def test_antigen_policies_are_the_antigens_alone(embed_config):
    """A window policy changes antigen vectors, not antibody vectors; the threshold only int8-bnb's."""
    import dataclasses

    before, after = (
        find_sources(c) for c in (embed_config, dataclasses.replace(embed_config, stride=100, threshold=0.0))
    )
    assert before.paired.fingerprint == after.paired.fingerprint
    assert before.antigen.fingerprint != after.antigen.fingerprint


def test_a_folder_without_a_model_is_refused(tmp_path):
    """The error names the folder and what it must hold."""
    with pytest.raises(EncoderError, match=r"no config\.json in .*name a folder that holds a Hugging Face model"):
        open_checkpoint(str(tmp_path), "")


def test_a_hub_model_that_cannot_be_had_is_refused():
    """Offline and not in the cache: the error names the model and the ways out."""
    with pytest.raises(EncoderError, match=r"nobody/nothing could not be had .* name a local folder"):
        open_checkpoint("nobody/nothing", "")


def test_a_branch_of_the_hub_is_resolved_to_its_commit(checkpoints, embed_config, tmp_path):
    """From the hub's cache, without network: the commit is found, recorded for people and not part of the digest."""
    import dataclasses
    import os
    import subprocess
    import sys

    commit, cache = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub" / "models--lab--igt5"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(checkpoints / "igt5", cache / "snapshots" / commit)
    code = (
        "from embed.encoders.checkpoint import open_checkpoint\n"
        f"for revision in ('', 'main', {commit!r}):\n"
        "    print(open_checkpoint('lab/igt5', revision).revision)\n"
    )
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [commit] * 3, done.stderr
    source = find_sources(embed_config).paired
    fetched = dataclasses.replace(source, checkpoint=dataclasses.replace(source.checkpoint, revision=commit))
    assert fetched.resolved["revision"] == commit
    assert commit not in json.dumps(source.facts)


def test_a_missing_shard_is_named(igt5):
    """An index that names a file which is not there."""
    shard = sorted(igt5.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(EncoderError, match=shard.name):
        open_checkpoint(str(igt5), "")


def test_the_wrong_family_is_refused(checkpoints, embed_config):
    """An ESM-2 cannot read antibodies."""
    import dataclasses

    swapped = dataclasses.replace(embed_config, antibody=embed_config.antigen)
    with pytest.raises(EncoderError, match="of type 'esm'; the antibody encoder is of type 't5'"):
        find_sources(swapped)


def test_a_checkpoint_that_lacks_a_weight_is_refused(igt5):
    """Random weights in place of missing ones would be silent nonsense."""
    index = igt5 / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    key = "encoder.block.1.layer.0.SelfAttention.q.weight"
    from safetensors.torch import save_file

    file = igt5 / content["weight_map"].pop(key)
    tensors = load_file(file)
    del tensors[key]
    save_file(tensors, file, metadata={"format": "pt"})
    index.write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=key.replace(".", r"\.")):
        IgT5(open_checkpoint(str(igt5), ""), CPU, "mean")


def test_another_vocabulary_is_refused(igt5):
    """A tokenizer that reads letters otherwise than IgT5's is found before any vector is made."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString((igt5 / "spiece.model").read_bytes())
    model.pieces[3].piece, model.pieces[4].piece = model.pieces[4].piece, model.pieces[3].piece
    (igt5 / "spiece.model").write_bytes(model.SerializeToString())
    with pytest.raises(EncoderError, match="published vocabulary"):
        IgT5(open_checkpoint(str(igt5), ""), CPU, "mean")


def test_a_missing_tokenizer_is_refused(igt5):
    """The error names the files to fetch."""
    for file in ("spiece.model", "tokenizer_config.json"):
        (igt5 / file).unlink(missing_ok=True)
    with pytest.raises(EncoderError, match=r"spiece\.model"):
        IgT5(open_checkpoint(str(igt5), ""), CPU, "mean")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("asked", ["cuda", "cuda:3"])
def test_a_device_that_is_not_here_is_refused(asked):
    """Never silently replaced by the CPU."""
    with pytest.raises(EncoderError, match='this machine has 0 CUDA devices; use "auto" or "cpu"'):
        choose_device(asked)


def test_pickled_weights_are_refused_and_converted(checkpoints, igt5, tmp_path, embed_config):
    """Without safetensors the way out is `convert`, whose result gives the very vectors of the original."""
    import dataclasses

    tensors = {}
    for file in igt5.glob("*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    (igt5 / "model.safetensors.index.json").unlink()
    torch.save(tensors, igt5 / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"bindcache convert .* --out DIR"):
        open_checkpoint(str(igt5), "")
    converted = convert(str(igt5), "", tmp_path / "converted")
    assert not any(
        key.startswith(("decoder.", "lm_head.")) for key in load_file(tmp_path / "converted" / "model.safetensors")
    )
    assert list(converted.digests) == ["model.safetensors"]

    def weights(model) -> dict[str, torch.Tensor]:
        source = find_sources(dataclasses.replace(embed_config, antibody=str(model))).paired
        encoder: Encoder = open_encoder(source, embed_config)
        return encoder.model.state_dict()

    before, after = weights(checkpoints / "igt5"), weights(tmp_path / "converted")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(EncoderError, match="nothing is overwritten"):
        convert(str(igt5), "", tmp_path / "converted")


class _Boom:
    def __reduce__(self):
        return (sys.exit, ("code ran",))


def test_convert_runs_no_code(igt5, tmp_path):
    """A pickle that would run code is refused and leaves nothing behind."""
    torch.save({"encoder.block": _Boom()}, igt5 / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="holds more than tensors"):
        convert(str(igt5), "", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["igt5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 2000}, r"embed\.stride = 2000: stride is at most window"),
        ({"window": 0}, r"embed\.window = 0"),
        ({"threshold": -1.0}, r"embed\.threshold = -1"),
        ({"buckets": (5, 5)}, r"embed\.buckets = \[5, 5\]"),
        ({"device": "gpu"}, r"embed\.device = 'gpu'"),
        ({"tokens_per_batch": 0}, r"embed\.tokens_per_batch = 0"),
    ],
)
def test_impossible_settings_are_refused_at_birth(tmp_path, change, message):
    """The error names the field, the value and the rule."""
    with pytest.raises(EmbedError, match=message):
        EmbedConfig(antibody="/a", antigen="/b", store=tmp_path, **change)
