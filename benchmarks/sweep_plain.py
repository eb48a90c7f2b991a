"""Plain Optuna with bindcache's trainer, as its user would write it: one trial after another, each to its end."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna

from embed.fingerprint import find_sources
from embed.stage import read_table
from pipeline.config import load
from pipeline.training import vector_folders_of
from train.build import Task
from train.stage import find_material, train_task
from train.sweep.sampler import make_sampler
from train.sweep.space import read_space
from train.sweep.trials import distribution_of


def sweep_plainly(request: dict[str, Any]) -> dict[str, Any]:
    """Search the space of the config in `folder` with so many `trials` and this `seed`."""
    folder = Path(request["folder"])
    config = load(folder / "config.toml")
    assert config.train is not None
    assert config.sweep is not None
    base, space = config.train, read_space(config.sweep.space, asdict(config.train))
    table = read_table(config.embed, config.pairs)
    material = find_material(base, table, vector_folders_of(find_sources(config.embed)))
    distributions = {name: distribution_of(each) for name, each in space.items()}
    sampler = make_sampler(replace(config.sweep, seed=request["seed"], sampler=request["sampler"]))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found = []
    for number in range(request["trials"]):
        trial = study.ask(distributions)
        chosen = {
            name: each.values[trial.params[name]] if each.kind == "choice" else trial.params[name]
            for name, each in space.items()
        }
        run = folder / f"plain-{request['seed']}" / f"{number:05d}"
        result = train_task(Task(config=replace(base, run=run, **chosen), material=material), resolved={})
        assert result.valid is not None
        assert result.test is not None
        study.tell(trial, result.valid["spearman"])
        found.append((result.valid["spearman"], result.test["spearman"], result.epochs, str(run)))
    found.sort(reverse=True)
    epochs = sum(each[2] for each in found)
    counts = {"complete": len(found), "pruned": 0, "failed": 0, "epochs": epochs}
    runs = [each[3] for each in found[: config.sweep.best]]
    return {"runs": runs, "best": found[0][0], "test": found[0][1], **counts}


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(json.dumps(sweep_plainly(json.loads(sys.argv[1]))))
