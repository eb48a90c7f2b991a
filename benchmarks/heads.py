"""The heads of the regressor beside each other, in speed and on real tables: `python -m benchmarks.heads --data DIR`.

Pairs/s are of an epoch on synthetic vectors of the real widths, in alternating order, once a round. Scores are test
Spearman on vectors of the demo's random encoders: every head on the same split, once a seed.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, Literal, get_args

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import train.material
from benchmarks.machine import describe
from benchmarks.training_data import write_data
from benchmarks.training_one import train_one
from embed.config import EmbedConfig, Model, Pooling
from embed.pairs import PairsConfig
from embed.stage import read_table, run_embed, vector_folders
from pipeline.bench.standins import standing_in
from pipeline.demo_checkpoints import write_esm2, write_igt5
from train.config import Head, TrainConfig
from train.dataset import VectorFolders
from train.stage import run_train

Split = Literal["random", "group"]
HEADS: tuple[Head, ...] = get_args(Head)
_DRAWN = {"pairs": 5_000, "antibodies": 5_000, "antigens": 300}


SPLITS: dict[str, Split] = {"skempi2_abag": "group", "ch65_si06": "random"}
"""How each table is split: by antigen, unless it has but one."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--rounds", type=click.IntRange(0), default=5, show_default=True, help="Of the speed; 0: leave it out.")
@click.option(
    "--seeds", type=click.IntRange(0), default=5, show_default=True, help="Of split and training; 0: no scores."
)
@click.option("--sample", type=click.IntRange(100), default=5_000, show_default=True, help="Pairs of a table, at most.")
@click.option("--pooling", type=click.Choice(get_args(Pooling)), default="mean", show_default=True)
@click.option("--table", "tables", type=click.Choice(list(SPLITS)), multiple=True, help="Both unless given.")
def main(*, data: Path, rounds: int, seeds: int, sample: int, pooling: Pooling, tables: Sequence[str]) -> None:
    """Print a Markdown table of every head."""
    machine = describe()
    click.echo(f"{machine.cpu}, {machine.cores} cores, load {machine.load}, commit {machine.commit}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if rounds:
            _echo("pairs/s", _paces(folder / "drawn", rounds), digits=0)
        for table in (tables or SPLITS) if seeds else ():
            scores = _scores(folder / table, data / f"{table}.parquet", SPLITS[table], seeds, sample, pooling)
            _echo(f"{table}, split {SPLITS[table]}, test Spearman", scores, digits=3)


def _paces(folder: Path, rounds: int) -> dict[Head, list[float]]:
    """Give the pairs/s of each head in each round."""
    folder.mkdir()
    write_data(folder, **_DRAWN)
    found: dict[Head, list[float]] = {head: [] for head in HEADS}
    asked: dict[str, Any] = {"folder": str(folder), "contestant": "ours", "epochs": 1, "batch_size": 128}
    for seed in range(rounds):
        for head in HEADS[:: 1 if seed % 2 == 0 else -1]:
            answer = train_one({**asked, "seed": seed, "head": head})
            found[head].append(answer["pairs"] / answer["steps_seconds"])
    return found


def _scores(
    folder: Path, table: Path, split: Split, seeds: int, sample: int, pooling: Pooling
) -> dict[Head, list[float]]:
    """Give the test Spearman of each head with each seed."""
    embed, pairs = _embedded(folder, table, sample, pooling)
    read, (paired, single, antigen) = read_table(embed, pairs), vector_folders(embed)
    folders = VectorFolders(paired=paired, single=single, antigen=antigen)
    found: dict[Head, list[float]] = {head: [] for head in HEADS}
    with standing_in(train.material, "baselines", lambda *_: {}):  # not what is measured
        for seed, head in _each(seeds):
            config = TrainConfig(run=folder / f"{head}-{seed}", split=split, split_seed=seed, seed=seed, head=head)
            test = run_train(config, read, folders, resolved={}).test
            score = test and test["spearman"]
            assert isinstance(score, float), "predictions are all alike"
            found[head].append(score)
    return found


def _each(seeds: int) -> Iterator[tuple[int, Head]]:
    return ((seed, head) for seed in range(seeds) for head in HEADS)


def _embedded(folder: Path, table: Path, sample: int, pooling: Pooling) -> tuple[EmbedConfig, PairsConfig]:
    """Embed some pairs of a table, always the same, in fp32."""
    for name, write, seed in (("igt5", write_igt5, 0), ("esm2", write_esm2, 1)):
        (folder / name).mkdir(parents=True)
        write(folder / name, seed=seed)
    whole: pa.Table = pq.read_table(table)
    some = np.sort(np.random.default_rng(0).permutation(len(whole))[:sample])
    pq.write_table(whole.take(some), folder / "pairs.parquet")
    embed = EmbedConfig(
        antibody=Model(str(folder / "igt5")), antigen=Model(str(folder / "esm2")), store=folder / "store"
    )
    embed = replace(embed, precision="fp32", pooling=pooling)
    pairs = PairsConfig(path=folder / "pairs.parquet", id="pair_id", affinity="pkd")
    run_embed(embed, pairs)
    return embed, pairs


def _echo(what: str, found: Mapping[Head, Sequence[float]], *, digits: int) -> None:
    """Print a row for each head: median and range, or mean and standard error, and the difference to `concat`."""
    click.echo(f"\n| {what} | | against concat |\n|---|---|---|")
    for head, values in found.items():
        if digits:
            apart = [value - base for value, base in zip(values, found["concat"], strict=True)]
            cells = [_mean(values), _mean(apart)]
        else:
            times = [value / base for value, base in zip(values, found["concat"], strict=True)]
            cells = [f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})", f"{median(times):.2f}"]
        click.echo(f"| {head} | {' | '.join(cells)} |")


def _mean(values: Sequence[float]) -> str:
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{error}"


if __name__ == "__main__":
    main()
