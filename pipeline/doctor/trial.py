"""A process that tries what may crash or hang, and tells each trial when it begins and when it ends.

Run as `python -m pipeline.doctor.trial`, with a `Trials` as JSON on stdin; prints a JSON object a line.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from embed.config import EmbedConfig, Model, Precision

KERNELS, COMPILE, TRAIN, RATE, TINY_RATE = "kernels", "torch.compile", "train", "rate ", "tiny "
PRECISIONS: tuple[str, ...] = get_args(Precision)

# N sequences, D width

_HEAVY = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSR"
_LIGHT = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPP"
_SAMPLE = 16
_FARTHEST = {"fp32": 0.0, "int8": 0.05, "int8-fast": 0.1, "int8-bnb": 0.2, "bf16": 0.1, "fp16": 0.05}
"""Largest relative error against fp32 of a tiny random encoder that counts as working; far above what is usual."""
_RATE_SECONDS = 2.0
_BATCHES = 20


def main() -> None:
    """Do the trials in order."""
    asked = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like
    folder, sets = Path(asked["folder"]), asked["sets"]
    config = _config(asked["config"], sets)
    if any(name in PRECISIONS or name.startswith((RATE, TINY_RATE)) for name in asked["trials"]):
        _prepare(folder, config)
    for name in asked["trials"]:
        print(json.dumps({"begun": name}), file=out, flush=True)
        before = time.perf_counter()
        found = _trial(name, folder, config)()
        print(json.dumps({"done": name, "seconds": time.perf_counter() - before} | found), file=out, flush=True)


def _config(path: str, sets: list[str]) -> Any:  # noqa: ANN401 (a Config, whose module is loaded only if it is needed)
    if not path:
        return None
    from pipeline.config import load

    return load(Path(path), sets)


def tiny_operations() -> float:
    """Count the parameters of the layers of either tiny encoder: two of width 128, 512 in between."""
    return 2.0 * (4 * 128 * 128 + 2 * 128 * 512)


def _prepare(folder: Path, config: Any) -> None:  # noqa: ANN401
    """Load the libraries and encode in fp32, which no trial's time should count."""
    import bitsandbytes  # noqa: F401

    reference = folder / "reference.npz"
    vectors = _encode(_tiny(folder, config, "fp32"))
    if not reference.exists():
        np.savez(reference, *vectors)


def _trial(name: str, folder: Path, config: Any) -> Callable[[], dict[str, object]]:  # noqa: ANN401
    if name in PRECISIONS:
        return lambda: _try_precision(cast(Precision, name), folder, config)
    if name.startswith(RATE):
        return lambda: _measure(name.removeprefix(RATE), config.embed)
    if name.startswith(TINY_RATE):
        role = name.removeprefix(TINY_RATE)
        return lambda: _measure(role, _tiny(folder, config, config.embed.precision_of(role)))
    return {KERNELS: _try_kernels, COMPILE: _try_compile, TRAIN: lambda: _measure_training(config)}[name]


def _tiny(folder: Path, config: Any, precision: Precision) -> EmbedConfig:  # noqa: ANN401
    """Name two tiny encoders, made at first use."""
    if not (folder / "esm2").exists():
        from pipeline.demo_checkpoints import write_esm2, write_igt5

        for name, write in (("igt5", write_igt5), ("esm2", write_esm2)):
            (folder / name).mkdir()
            write(folder / name, seed=0)
    return EmbedConfig(
        antibody=Model(str(folder / "igt5")),
        antigen=Model(str(folder / "esm2")),
        store=folder / "store",
        precision=precision,
        device=config.embed.device if config else "auto",
    )


def _encode(config: EmbedConfig) -> list[npt.NDArray[np.float32]]:
    from embed.encoders.open import open_encoder
    from embed.fingerprint import find_sources
    from embed.inference import encode

    sources = find_sources(config)
    heavies = [_HEAVY[place:] for place in range(_SAMPLE)]
    antibody, _ = encode(open_encoder(sources.paired, config), [(heavy, _LIGHT) for heavy in heavies], config)
    antigen, _ = encode(open_encoder(sources.antigen, config), heavies, config)
    return [antibody, antigen]


def _try_precision(precision: Precision, folder: Path, config: Any) -> dict[str, object]:  # noqa: ANN401
    vectors = _encode(_tiny(folder, config, precision))
    with np.load(folder / "reference.npz") as arrays:
        pairs = zip(vectors, arrays.values(), strict=True)
        error = max(float(np.linalg.norm(ours - exact) / np.linalg.norm(exact)) for ours, exact in pairs)
    if not error <= _FARTHEST[precision]:
        return {"problem": f"vectors are {error:.2g} of their length away from fp32"}
    return {"error": error}


def _try_kernels() -> dict[str, object]:
    from embed.encoders.kernel import find_kernel

    kernel, why = find_kernel()
    return {"problem": why} if kernel is None else {}


def _try_compile() -> dict[str, object]:
    import torch

    x = torch.arange(64.0)
    compiled = torch.compile(lambda x: (x * 2 + 1).relu())
    return {} if torch.equal(compiled(x), x * 2 + 1) else {"problem": "a compiled function gives another result"}


def _measure(role: str, config: EmbedConfig) -> dict[str, object]:
    """Measure the tokens a second of an encoder, on sequences of the usual length."""
    from embed.encoders.open import open_encoder
    from embed.fingerprint import find_sources
    from embed.inference import encode

    sources = find_sources(config)
    encoder = open_encoder(sources.paired if role == "antibody" else sources.antigen, config)
    tokens, seconds, rows = 0, 0.0, 2
    while seconds < _RATE_SECONDS:
        some = [_HEAVY[place % _SAMPLE :] for place in range(rows)]
        sequences = [(heavy, _LIGHT) for heavy in some] if role == "antibody" else some
        _, tally = encode(encoder, sequences, config)
        tokens, seconds = tally.tokens, tally.seconds
        rows *= 2 if seconds > _RATE_SECONDS / 4 else 4
    return {"rate": tokens / seconds}


def _measure_training(config: Any) -> dict[str, object]:  # noqa: ANN401
    """Measure steps a second of a plain network of the regressor's shape."""
    import torch

    train = config.train
    from train.acceleration import resolve_device

    device = resolve_device(train.device)
    widths = [2304, *train.layers, 1]
    layers = [
        module
        for wide, narrow in itertools.pairwise(widths)
        for module in (torch.nn.Linear(wide, narrow), torch.nn.GELU())
    ]
    model = torch.nn.Sequential(*layers).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    x_BF = torch.randn(train.batch_size, widths[0], device=device)
    for step in range(_BATCHES + 3):
        if step == 3:  # the first ones set up
            before = time.perf_counter()
        optimizer.zero_grad()
        model(x_BF).square().mean().backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {"rate": _BATCHES / (time.perf_counter() - before)}


if __name__ == "__main__":
    main()
