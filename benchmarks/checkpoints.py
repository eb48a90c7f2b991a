"""Random-weight encoders of the published shapes, in the published file layout.

`python -m benchmarks.checkpoints NAME FOLDER` writes one, unless it lies there already.
"""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import EsmConfig, EsmForMaskedLM, T5Config, T5EncoderModel

from benchmarks.shapes import SHAPES, Shape
from pipeline.demo_checkpoints import ESM2_TOKENS, EXTRA_IDS, IGT5_RESIDUES, write_esm2, write_igt5

OLD_KEYS = "esm-cpp.safetensors"
"""The same ESM-2 under the keys that esm-cpp reads, named so that nobody else takes it for weights."""

_SEED = 0


def ready(name: str, root: Path) -> Path:
    """Find the checkpoint of a shape under a folder, or write it there.

    Args:
        name: A key of `SHAPES`.
        root: Folder of all benchmark checkpoints.
    """
    folder = root / name
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        shape, part = SHAPES[name], Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
        write(shape, part)
        if shape.family == "esm2":
            write_old_keys(shape, part)
        part.rename(folder)
    return folder


def write(shape: Shape, folder: Path, device: str = "cpu") -> None:
    """Write a random encoder to an empty folder.

    Args:
        shape: Its size.
        folder: Where to.
        device: Where the weights are drawn; each device draws others.
    """
    (write_igt5 if shape.family == "igt5" else write_esm2)(folder, seed=_SEED)
    if not shape.demo:
        _replace_model(shape, folder, device)


def write_old_keys(shape: Shape, folder: Path) -> None:
    """Save the ESM-2 in a folder once more for esm-cpp, as transformers 4 did: rotary frequencies in every layer."""
    model = EsmForMaskedLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    tied = model.all_tied_weights_keys
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items() if key not in tied}
    frequencies = tensors.pop("esm.rotary_embeddings.inv_freq")
    for layer in range(shape.layers):
        key = f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"
        tensors[key] = frequencies.clone()
    save_file(tensors, folder / OLD_KEYS, metadata={"format": "pt"})


def _replace_model(shape: Shape, folder: Path, device: str) -> None:
    """Keep the demo's tokenizer and put a model of this shape in the place of the demo's."""
    for path in folder.glob("model*"):
        path.unlink()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(_SEED)
        model = _igt5(shape) if shape.family == "igt5" else _esm2(shape)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    # not save_pretrained: it renames LayerNorm.weight to LayerNorm.gamma, which the hub's files do not
    tied = model.all_tied_weights_keys
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items() if key not in tied}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _igt5(shape: Shape) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=3 + len(IGT5_RESIDUES) + EXTRA_IDS,
            d_model=shape.width,
            d_kv=shape.head_width,
            d_ff=shape.feed_forward,
            num_layers=shape.layers,
            num_heads=shape.heads,
            feed_forward_proj="relu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def _esm2(shape: Shape) -> EsmForMaskedLM:
    return EsmForMaskedLM(
        EsmConfig(
            vocab_size=len(ESM2_TOKENS),
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=1026,
            position_embedding_type="rotary",
            token_dropout=True,
            emb_layer_norm_before=False,
            layer_norm_eps=1e-5,  # as the hub has it and esm-cpp takes for granted; the class says 1e-12
            pad_token_id=1,
            mask_token_id=32,
        )
    )


if __name__ == "__main__":
    print(ready(sys.argv[1], Path(sys.argv[2])))
