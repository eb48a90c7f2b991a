"""Measure what a run spends beside encoding: `python -m benchmarks.overhead --data DIR`."""

import functools
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

import embed.inference
import embed.stage
import embed.store.writer
from benchmarks.encoders import CHECKPOINTS, checkpoint
from embed.config import EmbedConfig, Model
from embed.inference import Loop
from embed.pairs import PairsConfig
from embed.stage import run_embed
from pipeline.bench.standins import standing_in

_STEPS: dict[str, tuple[object, str]] = {
    "reading and hashing the table": (embed.stage, "read_table"),
    "finding what the store lacks": (embed.stage, "left_to_read"),
    "tokenising": (Loop, "_tokenised"),
    "joining windows, checking vectors": (Loop, "_hand_on"),
    "building shards": (embed.store.writer, "build_shard"),
    "writing shards": (embed.store.writer, "publish"),
}
"""Each with the function that does it."""

_this = threading.local()


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--pairs", default=200, show_default=True, help="Pairs of skempi2_abag.")
@click.option("--shape", default="esm2-150m", show_default=True, help="Shape of the antigen encoder.")
def main(data: Path, pairs: int, shape: str) -> None:
    """Embed antigens of `skempi2_abag` and print each step's seconds of a CPU, and their share of the wall clock."""
    spent: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="bindcache-") as name, ExitStack() as stack:
        folder = Path(name)
        pq.write_table(pq.read_table(data / "skempi2_abag.parquet")[:pairs], folder / "pairs.parquet")
        config = EmbedConfig(
            antibody=Model(str(checkpoint("demo-igt5", CHECKPOINTS))),
            antigen=Model(str(checkpoint(shape, CHECKPOINTS))),
            store=folder / "store",
        )
        for step, (place, function) in _STEPS.items():
            timed = _timed(getattr(place, function), step, spent)
            stack.enter_context(standing_in(place, function, timed))
        result = run_embed(config, PairsConfig(path=folder / "pairs.parquet"))
    for step in _STEPS:
        click.echo(f"{step:36} {spent[step]:7.3f} s  {spent[step] / result.seconds:6.2%}")
    click.echo(f"{'together':36} {sum(spent.values()):7.3f} s  {sum(spent.values()) / result.seconds:6.2%}")
    waited = 1 - result.busy_seconds / result.encoding_seconds
    click.echo(f"{result.seconds:.1f} s in all, {result.encoding_seconds:.1f} s of them encoding")
    click.echo(f"the device waited {waited:.2%} of these")


def _timed(function: Callable[..., Any], step: str, spent: defaultdict[str, float]) -> Callable[..., Any]:
    """Add the seconds of a CPU that a thread spends in a function, less those of steps within it."""

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        outer, _this.inner = getattr(_this, "inner", 0.0), 0.0
        started = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            whole = time.thread_time() - started
            spent[step] += whole - _this.inner
            _this.inner = outer + whole

    return timed


if __name__ == "__main__":
    main()
