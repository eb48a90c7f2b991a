"""A sweep on two cores against plain Optuna: one command, wall clock and best validation score of both.

`python -m benchmarks.sweep --seed 1 --seed 2`

Both search the same space and train with the same trainer on vectors of the demo's encoders. With the sampler `random`
they try the very same settings: a trial's depend on its number and the seed alone. `tpe` learns from the trials before,
so that the two go their own ways. Plain Optuna trains one trial after another to its end, in one process that has read
the vectors once.

A kept trial is the very same training on both sides, so that of the same trials the best of those that halving kept is
at most the best of all. What that costs, and what the ensemble that a sweep ends with brings, is told with the interval
that chance in the validation pairs leaves: all differences on the same resamples of them. Plain Optuna ends with its
best trial; an ensemble of its best is made here, for comparison, by no one's clock.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import describe
from benchmarks.sweep_score import above, together
from benchmarks.workloads import BUILTIN
from pipeline.demo import write_demo
from pipeline.demo_pairs import demo_rows

_RESULTS = Path(__file__).parent / "results"
_TABLE = "ch65_si06.parquet"

_CONFIG = """
[pairs]
path = "pairs.parquet"
id = "pair_id"
affinity = "pkd"

[embed]
antibody = "./demo/igt5"
antigen = "./demo/esm2"
store = "store"
precision = "fp32"

[train]
run = "run"

[sweep]
folder = "sweep"

[sweep.space]
lr = {log = [3e-4, 1e-2]}
weight_decay = {log = [1e-3, 0.3]}
dropout = {float = [0.0, 0.5]}
widths = {choice = [[256, 128], [512, 256, 128], [1024, 512, 256, 128]]}
batch_size = {choice = [64, 128, 256]}
"""


@click.command()
@click.option("--trials", type=click.IntRange(2), default=64, show_default=True)
@click.option("--pairs", type=click.IntRange(100), default=20_000, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True, help="Repeat for more.")
@click.option("--sampler", type=click.Choice(["random", "tpe"]), default="random", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of the record.")
def main(*, trials: int, pairs: int, seeds: tuple[int, ...], sampler: str, out: Path) -> None:
    """Measure a sweep against plain Optuna, and write a record after each seed of all so far: up to an hour each."""
    machine = describe()
    words = f"--trials {trials} --pairs {pairs} --sampler {sampler} " + " ".join(f"--seed {seed}" for seed in seeds)
    rounds: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _prepare(folder, pairs)
        for number, seed in enumerate(seeds):
            rounds[seed] = _round(folder, trials, seed, sampler, ours_first=number % 2 == 0)
            record = {
                "date": date.today().isoformat(),
                "machine": asdict(machine),
                "command": f"python -m benchmarks.sweep {words}",
                "table": source,
                "seeds": seeds,
                "rounds": rounds,
            }
            click.echo(_write(record, out))


def _write(record: dict[str, Any], out: Path) -> str:
    """Write a record as JSON and as Markdown, which comes back."""
    text = _markdown(record)
    out.mkdir(parents=True, exist_ok=True)
    stem = f"sweep-{record['date']}-seeds-" + "-".join(map(str, record["seeds"]))
    (out / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (out / f"{stem}.md").write_text(text, "utf-8")
    return text


def _prepare(folder: Path, pairs: int) -> str:
    """Write table, encoders and config, and embed; gives the table's name."""
    write_demo(folder / "demo")
    data = os.environ.get("BINDCACHE_BENCH_DATA")
    path = Path(data) / _TABLE if data else None
    if path is not None and path.is_file():
        whole, source = pq.read_table(path), path.stem
    else:
        names = ("pair_id", "heavy", "light", "antigen", "pkd")
        columns = zip(*demo_rows(0), strict=True)
        whole, source = pa.table({name: list(column) for name, column in zip(names, columns, strict=True)}), BUILTIN
    chosen = np.sort(np.random.default_rng(0).permutation(whole.num_rows)[:pairs])
    pq.write_table(whole.take(chosen), folder / "pairs.parquet")
    (folder / "config.toml").write_text(_CONFIG, "utf-8")
    _run("pipeline", "embed", "--config", str(folder / "config.toml"))
    return f"{source}, {len(chosen):,} pairs"


def _round(folder: Path, trials: int, seed: int, sampler: str, *, ours_first: bool) -> dict[str, Any]:
    """Sweep both ways, in this order."""
    ways = {"bindcache sweep": _ours, "plain Optuna": _plain}
    found = {}
    for name in list(ways)[:: 1 if ours_first else -1]:
        started, used = time.perf_counter(), _processor_seconds()
        best = ways[name](folder, trials, seed, sampler)
        found[name] = {
            "seconds": time.perf_counter() - started,
            "processor_seconds": _processor_seconds() - used,
            **best,
        }
        click.echo(f"seed {seed}: {name}, {found[name]['seconds']:.0f} s, best {best['best']:.4f}", err=True)
    ours, plain = (found[name]["runs"] for name in ways)
    for each in found.values():
        each["ensemble"], each["ensemble_test"] = (together(each["runs"], part) for part in ("valid", "test"))
    compared = {"best": (ours[:1], plain[:1]), "ensemble": (ours, plain[:1]), "ensemble_ensemble": (ours, plain)}
    found["bindcache sweep"]["above"] = {name: above(*pair) for name, pair in compared.items()}
    return found


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ours(folder: Path, trials: int, seed: int, sampler: str) -> dict[str, Any]:
    chosen = {"folder": folder / f"sweep-{seed}", "seed": seed, "sampler": sampler}
    sets = [word for name, value in chosen.items() for word in ("--set", f"sweep.{name}={value}")]
    said = _run("pipeline", "sweep", "--config", str(folder / "config.toml"), "--trials", str(trials), *sets, "--json")
    result = json.loads(said)
    best = result["best"][0]
    return {
        "runs": [each["run"] for each in result["best"]],
        "best": best["value"],
        "test": best["test"]["spearman"],
        **{key: result[key] for key in ("complete", "pruned", "failed", "epochs")},
    }


def _plain(folder: Path, trials: int, seed: int, sampler: str) -> dict[str, Any]:
    request = {"folder": str(folder), "trials": trials, "seed": seed, "sampler": sampler}
    answer: dict[str, Any] = json.loads(_run("benchmarks.sweep_plain", json.dumps(request)))
    return answer


def _run(module: str, *arguments: str) -> str:
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _markdown(record: dict[str, Any]) -> str:
    machine = record["machine"]
    lines = [
        f"# Sweep, {record['date']}",
        "",
        f"* `{record['command']}`, commit {machine['commit']}",
        f"* {machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the start",
        f"* {record['table']}, vectors of the demo's encoders",
        "",
        "| seed | | seconds | faster | of processors | less | best validation Spearman | its test Spearman "
        "| ensemble's | its test | epochs | to the end |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, found in record["rounds"].items():
        slow, busy = (found["plain Optuna"][name] for name in ("seconds", "processor_seconds"))
        for name, each in found.items():
            lines.append(
                f"| {seed} | {name} | {each['seconds']:.0f} | {slow / each['seconds']:.2f} | "
                f"{each['processor_seconds']:.0f} | {busy / each['processor_seconds']:.2f} | {each['best']:.4f} | "
                f"{each['test']:.4f} | {each['ensemble']:.4f} | "
                f"{each['ensemble_test']:.4f} | {each['epochs']:,} | {each['complete']} |"
            )
    for seed, found in record["rounds"].items():
        best, ensemble, both = (
            "{:+.4f} ({:+.4f} to {:+.4f})".format(*gap) for gap in found["bindcache sweep"]["above"].values()
        )
        lines += [
            "",
            f"Seed {seed}, above plain Optuna's best: the best trial {best}, the ensemble {ensemble}; "
            f"above an ensemble of plain Optuna's best: the ensemble {both}.",
        ]
    foot = (
        "Seconds: the whole command, imports included. The same space, sampler, trainer and pairs; plain Optuna "
        "trains every trial to its end, one after another, and reads the vectors once."
    )
    return "\n".join([*lines, "", foot, ""])


if __name__ == "__main__":
    main()
