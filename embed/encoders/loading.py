"""A checkpoint -> a frozen module in the asked arithmetic on the asked device."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError

from embed.config import Precision
from embed.encoders.attention import PACKED
from embed.encoders.checkpoint import Checkpoint
from embed.encoders.fuse import quantise
from embed.encoders.half import halve
from embed.encoders.kept import keep, kept_file, recall
from embed.encoders.view import view
from embed.errors import EncoderError

_DROPPED = (
    "decoder.",
    "lm_head.",
    "pooler.",
    "contact_head.",
    "embeddings.position_ids",
    "embeddings.position_embeddings.",
)
"""Weights of a checkpoint that an encoder does not use, or that the hub's ESM-2 lacks and this encoder never runs."""


_TERMS = {"int8": 2, "int8-fast": 1}
"""Int8 terms of an activation."""

_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Of a whole encoder, but for T5 in fp16."""

_CAPABILITY = {"int8": (7, 5), "int8-fast": (7, 5), "int8-bnb": (7, 5), "bf16": (8, 0), "fp16": (5, 3), "fp32": (0, 0)}
"""CUDA compute capability that each precision needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """In what numbers and where an encoder computes."""

    precision: Precision
    threshold: float
    """Outlier threshold of `int8-bnb`."""
    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    packed: bool
    """Whether sequences lie end to end in one row, instead of padded under each other."""


def choose_device(asked: str) -> str:
    """Turn the config's device into one that is here.

    Raises:
        EncoderError: CUDA is asked for and there is none, or not that many.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda:0" if present else "cpu"
    if asked == "cpu":
        return asked
    wanted = int(asked.partition(":")[2] or 0)
    if wanted >= present:
        raise EncoderError(f'embed.device = "{asked}": this machine has {present} CUDA devices; use "auto" or "cpu".')
    return f"cuda:{wanted}"


def load_model(cls: Any, checkpoint: Checkpoint, arithmetic: Arithmetic, **kwargs: object) -> Any:  # noqa: ANN401
    """Load a model of an official transformers class, frozen, in eval mode.

    Args:
        cls: `T5EncoderModel` or `EsmModel`.
        checkpoint: Its files.
        arithmetic: Precision and device.
        kwargs: Passed on to the class.

    Raises:
        EncoderError: The device cannot do it, or the checkpoint lacks weights.
    """
    _refuse_impossible(arithmetic)
    attention = PACKED if arithmetic.packed else "sdpa"
    options: dict[str, object] = {"dtype": torch.float32, "attn_implementation": attention, **kwargs}
    halved = arithmetic.precision == "fp16" and checkpoint.config.get("model_type") == "t5"
    if arithmetic.precision in _DTYPE and not halved:
        options["dtype"] = _DTYPE[arithmetic.precision]
    if arithmetic.precision == "int8-bnb":
        options |= _bitsandbytes_options(arithmetic)
    if arithmetic.precision in _TERMS and (recalled := _recall(cls, checkpoint, arithmetic, options)) is not None:
        return recalled
    model, report = _from_pretrained(cls, checkpoint, options)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_DROPPED))
    if missing or report["mismatched_keys"]:
        key = missing[0] if missing else report["mismatched_keys"][0][0]
        raise EncoderError(
            f"{checkpoint.model} lacks the weight {key} of a {cls.__name__} (or has it in another shape); "
            "name a checkpoint of this architecture."
        )
    model.requires_grad_(False).eval()
    if arithmetic.precision in _TERMS:
        device = torch.device(arithmetic.device)
        quantise(model, terms=_TERMS[arithmetic.precision], device=device)
        keep(model, kept_file(checkpoint.digest, device))
    if halved:
        halve(model, packed=arithmetic.packed)
    if arithmetic.precision != "int8-bnb":  # which is placed as it is loaded, and cannot be moved
        model.to(arithmetic.device)
    return model


def _recall(cls: Any, checkpoint: Checkpoint, arithmetic: Arithmetic, options: dict[str, object]) -> Any:  # noqa: ANN401
    """Load the INT8 form that an earlier process kept; None where there is none."""
    device = torch.device(arithmetic.device)
    file = kept_file(checkpoint.digest, device)
    if file is None or not file.exists():
        return None
    config = cls.config_class.from_pretrained(checkpoint.folder, local_files_only=True)
    with torch.device("meta"):
        model = cls._from_config(config, **options).requires_grad_(False).eval()
    quantise(model, terms=_TERMS[arithmetic.precision], device=device)
    return model.to(device) if recall(model, file) else None


def load_tokenizer(cls: Any, checkpoint: Checkpoint) -> Callable[[str], Any]:  # noqa: ANN401
    """Load the checkpoint's own tokenizer.

    Raises:
        EncoderError: Its files are missing or unreadable.
    """
    files = [*cls.vocab_files_names.values(), "tokenizer.json"]
    if not any((checkpoint.folder / file).is_file() for file in files):  # transformers would make one up
        raise EncoderError(
            f"{checkpoint.model}: {checkpoint.folder} holds no tokenizer ({' or '.join(sorted(set(files)))}); "
            "fetch it beside the weights."
        )
    try:
        with view(checkpoint) as folder:
            tokenizer: Callable[[str], Any] = cls.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise EncoderError(
            f"{checkpoint.model}: its tokenizer ({cls.__name__}) could not be read from {checkpoint.folder} "
            f"({_first_line(error)}); fetch it again."
        ) from error
    return tokenizer


def _from_pretrained(
    cls: Any,  # noqa: ANN401
    checkpoint: Checkpoint,
    options: dict[str, object],
) -> tuple[Any, dict[str, Any]]:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # its load report lists the decoder, which is dropped on purpose
    transformers_logging.disable_progress_bar()
    try:
        with view(checkpoint) as folder:
            loaded: tuple[Any, dict[str, Any]] = cls.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise EncoderError(
            f"{checkpoint.model}: its weights could not be loaded as {cls.__name__} ({_first_line(error)}); "
            "fetch the model again, or name one of this architecture."
        ) from error
    return loaded


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _bitsandbytes_options(arithmetic: Arithmetic) -> dict[str, object]:
    from transformers import BitsAndBytesConfig

    # one "inputs will be cast" for every product of every batch says nothing new
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    quantisation = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=arithmetic.threshold)
    # bf16, as fp16 keeps T5's `wo` in fp32 and loses the memory that int8 saves
    return {
        "dtype": torch.bfloat16,
        "quantization_config": quantisation,
        "device_map": {"": arithmetic.device},
    }


def _refuse_impossible(arithmetic: Arithmetic) -> None:
    device = torch.device(arithmetic.device)
    if device.type != "cuda":
        return
    major, minor = torch.cuda.get_device_capability(device)
    needed = _CAPABILITY[arithmetic.precision]
    if (major, minor) < needed:
        raise EncoderError(
            f'embed.precision = "{arithmetic.precision}" needs compute capability {needed[0]}.{needed[1]}, and '
            f'{torch.cuda.get_device_name(device)} has {major}.{minor}; use "fp32".'
        )
