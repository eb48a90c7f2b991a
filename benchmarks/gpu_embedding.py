"""Checks of the embed stage on a GPU: a whole table into a store, and memory that runs out."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch

from benchmarks.gpu_checks import Place, Unfit
from benchmarks.workloads import made_antibodies, made_antigens
from embed.config import Precision
from embed.encoders.open import open_encoder
from embed.fingerprint import find_sources
from embed.inference import encode
from embed.pairs import PairsConfig
from embed.stage import run_embed

_TARGET_PAIRS = 140_000


def _embed(precision: Precision) -> Callable[[Place], str]:
    def embed(place: Place) -> str:
        sizes, table = place.sizes, place.folder / "embedded.csv"
        pairs = made_antibodies(sizes.embedded)
        antigens = made_antigens(max(1, sizes.embedded // 300))
        heavy, light = (list(chains) for chains in zip(*pairs, strict=True))
        antigen = [antigens[i % len(antigens)] for i in range(len(pairs))]
        pa.csv.write_csv(pa.table({"heavy": heavy, "light": light, "antigen": antigen}), table)
        config = place.embed_config(precision=precision, store=place.folder / f"store-{precision}")
        result = run_embed(config, PairsConfig(path=table))
        whole = result.setup_seconds + (result.seconds - result.setup_seconds) * _TARGET_PAIRS / sizes.embedded
        shown = result.as_json()
        return (
            f"{result.antibodies:,} antibodies and {result.antigens:,} antigens in {result.seconds:.1f} s "
            f"({shown['tokens_per_second']:,.0f} tokens/s, the device waited {shown['waited_fraction']:.1%}); "
            f"{_TARGET_PAIRS:,} pairs of as many antibodies would take {whole:.0f} s"
        )

    return embed


def _out_of_memory(place: Place) -> str:
    if place.device == "cpu":
        raise Unfit("needs CUDA")
    antigens = made_antigens(20)
    config = place.embed_config(precision="bf16", store=place.folder / "store-oom")
    encoder = open_encoder(find_sources(config).antigen, config)
    expected_ND, _ = encode(encoder, antigens, config)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    before = torch.cuda.memory_stats()["num_ooms"]
    # so little room over the weights that all of them at once cannot fit
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**29) / total)
    try:
        greedy = place.embed_config(precision="bf16", store=config.store, tokens_per_batch=2**20)
        split_ND, tally = encode(encoder, antigens, greedy)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    times = torch.cuda.memory_stats()["num_ooms"] - before
    if not times:
        raise Unfit("memory did not run out, so nothing was split")
    assert not tally.too_large, f"{len(tally.too_large)} sequences were given up"
    error = float((np.linalg.norm(split_ND - expected_ND, axis=1) / np.linalg.norm(expected_ND, axis=1)).max())
    assert error < 0.01, f"vectors moved by {error:.1e}"
    return f"ran out {times} times, all {len(antigens)} sequences encoded, vectors moved by {error:.1e} at most"


CHECKS = {
    "embed stage, `int8`": _embed("int8"),
    "embed stage, `bf16`": _embed("bf16"),
    "out of memory": _out_of_memory,
}
"""What each is called, and does."""
