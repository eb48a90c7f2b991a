"""Two random encoders in the layout of the published ones, so that the same code loads them."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save
from transformers import (
    EsmConfig,
    EsmForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

IGT5_RESIDUES = "ALGVSREDTIPKFQNYMHWCXBOUZ"
"""Residues in the order of the ProtT5 vocabulary, from id 3 on."""

ESM2_TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
"""The 33 tokens of ESM-2, in the order of their ids."""

EXTRA_IDS = 100
LAYERS, WIDTH, FEED_FORWARD, HEADS = 2, 128, 512, 4
_SHARD_BYTES = "1MB"


def write_igt5(folder: Path, *, seed: int) -> None:
    """Write a random T5 with the files, keys and vocabulary of IgT5 to `folder`."""
    config = T5Config(
        vocab_size=3 + len(IGT5_RESIDUES) + EXTRA_IDS,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=FEED_FORWARD,
        num_layers=LAYERS,
        num_heads=HEADS,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    _write_model(folder, T5ForConditionalGeneration, config, seed)
    (folder / "spiece.model").write_bytes(_sentencepiece_model())
    _write_json(
        folder / "tokenizer_config.json",
        {
            "do_lower_case": False,
            "eos_token": "</s>",
            "extra_ids": EXTRA_IDS,
            "pad_token": "<pad>",
            "tokenizer_class": "T5Tokenizer",
            "unk_token": "<unk>",
        },
    )


def write_esm2(folder: Path, *, seed: int) -> None:
    """Write a random ESM-2 with the files, keys and vocabulary of facebook/esm2 to `folder`."""
    config = EsmConfig(
        vocab_size=len(ESM2_TOKENS),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        pad_token_id=1,
        mask_token_id=32,
    )
    _write_model(folder, EsmForMaskedLM, config, seed)
    (folder / "vocab.txt").write_text("\n".join(ESM2_TOKENS), encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {"do_lower_case": False, "model_max_length": 1024, "tokenizer_class": "EsmTokenizer"},
    )


def _write_model(folder: Path, model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    _write_weights(folder, model)


def _write_weights(folder: Path, model: PreTrainedModel) -> None:
    # Not save_pretrained: it renames LayerNorm.weight to LayerNorm.gamma, which the hub's files do not.
    tied = model.all_tied_weights_keys
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    plan = split_torch_state_dict_into_shards(tensors, max_shard_size=_SHARD_BYTES)
    for file, names in plan.filename_to_tensors.items():
        (folder / file).write_bytes(save({name: tensors[name] for name in names}, metadata={"format": "pt"}))
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    _write_json(folder / "model.safetensors.index.json", index)


def _sentencepiece_model() -> bytes:
    """Build what `spiece.model` holds: a unigram model of three special pieces and one for each residue."""
    proto: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")

    kinds = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    for piece, score, kind in [
        ("<pad>", 0.0, kinds.CONTROL),
        ("</s>", 0.0, kinds.CONTROL),
        ("<unk>", 0.0, kinds.UNKNOWN),
        *((f"▁{residue}", -2.0, kinds.NORMAL) for residue in IGT5_RESIDUES),
    ]:
        model.pieces.add(piece=piece, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type = proto.TrainerSpec.UNIGRAM
    spec.vocab_size = len(model.pieces)
    spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 0, 1, 2, -1
    model.normalizer_spec.name = "identity"
    return bytes(model.SerializeToString())


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
