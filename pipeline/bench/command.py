"""What `bindcache bench` does: a config or the demo, and the measurements that are asked for."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from embed.config import is_table
from embed.stage import read_table
from pipeline.bench import ablation, ladder
from pipeline.bench.processes import Bench
from pipeline.bench.tables import ablation_table, ladder_table
from pipeline.config import load, train_section
from pipeline.demo import write_demo
from pipeline.errors import ConfigError
from pipeline.fidelity_sample import ROLES, residues_of, sample_pairs
from train.errors import TrainError
from train.splits import make_split

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""


def run_bench(
    config: Path | None,
    overrides: Sequence[str],
    *,
    sample: int,
    ablate: bool,
    climb: bool,
    progress: Progress,
) -> tuple[dict[str, object], str]:
    """Measure the ablation, the ladder, or both.

    Args:
        config: A TOML file; None makes the demo in a temporary folder.
        overrides: `section.key=value` each.
        sample: Pairs, at most.
        ablate: Whether to measure each optimisation alone off.
        climb: Whether to measure the ladder.
        progress: Told the measurements done.

    Returns:
        The result as JSON has it, and as a table.

    Raises:
        ConfigError: The config cannot be read, or has no section [train].
        EmbedError: The table or an encoder cannot be used as it is.
        TrainError: The regressor cannot be trained as the config says.
    """
    found: dict[str, object] = {}
    tables = []
    with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
        path = config or write_demo(Path(folder) / "demo")
        sizes = _sizes(path, overrides, sample)
        if ablate:
            with _bench(path, overrides, sample, progress, "ablation", ablation.MEASUREMENTS) as bench:
                result = ablation.ablate(bench)
            found["ablation"] = result.as_json()
            tables.append(ablation_table(result))
        if climb:
            with _bench(path, overrides, sample, progress, "ladder", ladder.MEASUREMENTS) as bench:
                rungs = ladder.climb(bench, sizes)
            found["ladder"] = rungs.as_json()
            tables.append(ladder_table(rungs))
    return found, "\n\n".join(tables)


@contextmanager
def _bench(
    config: Path, overrides: Sequence[str], sample: int, progress: Progress, phase: str, total: int
) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
        yield Bench(
            config=config,
            overrides=tuple(overrides),
            sample=sample,
            folder=Path(folder),
            progress=progress,
            phase=phase,
            total=total,
        )
        progress(phase, total, total)  # what cannot matter was left out


def _sizes(path: Path, overrides: Sequence[str], sample: int) -> ladder.Sizes:
    """Count what the ladder scales by; what cannot be trained is refused before anything is measured."""
    config = load(path, overrides)
    for role, model in (("antibody", config.embed.antibody), ("antigen", config.embed.antigen)):
        if is_table(model):
            raise ConfigError(
                f'embed.{role} = "{model}": the bench takes optimisations away from models, and this is a table; '
                "name a hub id or a folder."
            )
    training = train_section(config, path)
    whole = read_table(config.embed, config.pairs)
    if whole.affinity_N is None:
        raise TrainError("The bench trains, which needs affinities, and pairs.affinity names no column; name it.")
    table = sample_pairs(whole, sample)
    split = make_split(training, table)
    residues = [sum(int(residues_of(each, role).sum()) for role in ROLES) for each in (table, whole)]
    return ladder.Sizes(
        pairs=len(whole.id),
        sampled_pairs=len(table.id),
        train_pairs=len(split.rows("train")),
        valid_pairs=len(split.rows("valid")),
        residues=residues[0],
        residues_of_table=residues[1],
    )
