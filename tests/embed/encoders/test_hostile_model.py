"""Model folders that would run code, or read what is not theirs: refused, or shown to transformers without that."""

import dataclasses
import json
import os
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from embed.encoders.checkpoint import open_checkpoint
from embed.encoders.convert import convert
from embed.encoders.igt5 import IgT5
from embed.encoders.loading import Arithmetic
from embed.errors import EncoderError
from embed.fingerprint import find_sources

CPU = Arithmetic(precision="fp32", threshold=6.0, device="cpu", packed=True)
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Evil: pass\n"


@pytest.fixture
def igt5(checkpoints, tmp_path):
    """A copy of the tiny IgT5 to make hostile."""
    return shutil.copytree(checkpoints / "igt5", tmp_path / "igt5")


def change(path, **settings):
    """Set members of a JSON file, made if it is not there."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | settings))


def load(folder):
    return IgT5(open_checkpoint(str(folder), ""), CPU, "mean")


def scrambled(spiece):
    """A vocabulary in which two letters have changed places."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(spiece.read_bytes())
    model.pieces[3].piece, model.pieces[4].piece = model.pieces[4].piece, model.pieces[3].piece
    return model.SerializeToString()


def test_code_in_the_config_is_refused(igt5):
    """A model that brings its own classes is told so, and they are not run."""
    (igt5 / "evil.py").write_text(CODE)
    change(igt5 / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    with pytest.raises(EncoderError, match=r"code of its own.*auto_map"):
        load(igt5)
    with pytest.raises(EncoderError, match="auto_map"):
        convert(str(igt5), "", igt5.with_name("out"))
    assert not (igt5 / "ran").exists()


def test_code_in_the_tokenizer_is_not_run(igt5, checkpoints):
    """Settings that name code are not shown to transformers; the vocabulary is the folder's."""
    (igt5 / "evil.py").write_text(CODE)
    code = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    change(igt5 / "tokenizer_config.json", auto_map=code, tokenizer_class="Evil")
    change(igt5 / "special_tokens_map.json", auto_map=code)
    assert load(igt5).dim == load(checkpoints / "igt5").dim
    assert not (igt5 / "ran").exists()


@pytest.mark.parametrize("key", ["vocab_file", "tokenizer_file", "special_tokens_map_file", "spm_file", "name_or_path"])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_reads_no_file_that_its_settings_name(igt5, tmp_path, file, key):
    """With the other vocabulary its letters would not be the published ones."""
    other = tmp_path / "other.model"
    other.write_bytes(scrambled(igt5 / "spiece.model"))
    change(igt5 / file, **{key: str(other)})
    load(igt5)


@pytest.mark.parametrize("key", ["quantization_config", "transformers_weights"])
def test_a_config_that_names_other_weights_is_refused(igt5, key):
    """With the key and what to do."""
    change(igt5 / "config.json", **{key: {"quant_method": "x"} if key.startswith("q") else "other.safetensors"})
    with pytest.raises(EncoderError, match=key):
        open_checkpoint(str(igt5), "")


def test_what_lies_beside_the_weights_is_not_seen(igt5, checkpoints, tmp_path):
    """Adapters, pickles and a second set of weights change nothing: what is digested is what is loaded."""
    expected = load(checkpoints / "igt5").model.state_dict()
    tensors = {name: tensor for file in igt5.glob("*.safetensors") for name, tensor in load_file(file).items()}
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, igt5 / "model.safetensors", {"format": "pt"})
    torch.save(tensors, igt5 / "pytorch_model.bin")
    change(igt5 / "adapter_config.json", base_model_name_or_path=str(tmp_path / "elsewhere"), peft_type="LORA")
    change(igt5 / "generation_config.json", custom_generate="evil")
    found = load(igt5).model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    "name", ["../igt5/config.json", "/etc/passwd", "..", ".", "", "sub/model.safetensors", "a.bin", 5]
)
def test_an_index_names_safetensors_of_its_own_folder_alone(igt5, name):
    """Neither paths nor pickles are followed, whatever is there."""
    torch.save({"x": torch.zeros(1)}, igt5 / "a.bin")
    index = igt5 / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = name
    index.write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=r"names '.*', which is no safetensors file of its folder"):
        open_checkpoint(str(igt5), "")


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "", "[" * 100_000])
def test_an_unreadable_index_is_named(igt5, content):
    """Whatever is in it, it is a sentence."""
    (igt5 / "model.safetensors.index.json").write_text(content)
    with pytest.raises(EncoderError, match=r"model\.safetensors\.index\.json"):
        open_checkpoint(str(igt5), "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "no object"),
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"num_layers": 1000000000}', "num_layers = 1000000000"),
        ('{"num_hidden_layers": "many"}', "num_hidden_layers = 'many'"),
    ],
)
def test_a_config_that_is_none_is_refused(igt5, content, message):
    """Deep nesting and a billion layers too."""
    (igt5 / "config.json").write_text(content)
    with pytest.raises(EncoderError, match=message):
        open_checkpoint(str(igt5), "")


@pytest.mark.parametrize("width", [None, "wide", -1, 1.5])
def test_a_config_without_a_width_is_refused(igt5, embed_config, width):
    """The width of its vectors is asked for before anything is loaded."""
    change(igt5 / "config.json", d_model=width)
    with pytest.raises(EncoderError, match="d_model"):
        find_sources(dataclasses.replace(embed_config, antibody=str(igt5)))


FILES = ["config.json", "spiece.model", "tokenizer_config.json", "model.safetensors.index.json", "model-00001*"]


@pytest.mark.parametrize("pattern", FILES)
def test_a_link_out_of_the_folder_is_refused(igt5, tmp_path, pattern):
    """Even to a file that would serve; `convert` does not copy it either."""
    (path,) = igt5.glob(pattern)
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(EncoderError, match=rf"{path.name} leads out of its folder, to .*secret"):
        load(igt5)
    if "safetensors" not in path.name:
        torch.save({"shared.weight": torch.zeros(1)}, igt5 / "pytorch_model.bin")
        with pytest.raises(EncoderError, match="leads out of its folder"):
            convert(str(igt5), "", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_hub_s_cache_links_to_its_blobs_and_nowhere_else(igt5, tmp_path):
    """Its snapshots are links; they load, and one that leaves the model's own cache does not."""
    commit, cache = "0" * 40, tmp_path / "hub" / "models--lab--igt5"
    snapshot = cache / "snapshots" / commit
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(igt5.iterdir())):
        shutil.copyfile(path, cache / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    load(snapshot)
    (snapshot / "spiece.model").unlink()
    (snapshot / "spiece.model").symlink_to(igt5 / "spiece.model")
    with pytest.raises(EncoderError, match="leads out of its folder"):
        load(snapshot)


@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize(
    "put", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)], ids=["pipe", "folder", "link"]
)
def test_what_stands_in_a_file_s_place_is_refused(igt5, pattern, put):
    """A pipe is not waited for; a folder or a dangling link is no file."""
    (path,) = igt5.glob(pattern)
    path.unlink()
    put(path)
    with pytest.raises(EncoderError, match=path.name.partition("-0")[0]):
        load(igt5)


class _Boom:
    def __reduce__(self):
        return (sys.exit, ("code ran",))


def test_pickles_beside_an_index_are_never_loaded(igt5):
    """Not even when every safetensors file is gone."""
    for file in igt5.glob("*.safetensors*"):
        file.unlink()
    torch.save({"encoder.block": _Boom()}, igt5 / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="pickled weights are not loaded"):
        load(igt5)


def test_convert_unpickles_in_another_process(igt5, tmp_path, monkeypatch):
    """This one never does, so what a pickle breaks is that one."""
    tensors = {name: tensor for file in igt5.glob("*.safetensors") for name, tensor in load_file(file).items()}
    torch.save(tensors, igt5 / "pytorch_model.bin")

    def here(*arguments, **named):
        raise AssertionError("unpickled here")

    monkeypatch.setattr(torch, "load", here)
    assert convert(str(igt5), "", tmp_path / "out").tensors == len(
        [name for name in tensors if name.startswith(("shared.", "encoder."))]
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_convert_names_damaged_pickles(igt5, tmp_path, content):
    """In one sentence, and leaves nothing behind."""
    (igt5 / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin is damaged"):
        convert(str(igt5), "", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["igt5"]
