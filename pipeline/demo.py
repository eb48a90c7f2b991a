"""The embedded default: all that `bindcache embed` and `bindcache train` need, made locally in seconds.

The demo shows that the machinery works and that it learns; its encoders are random, so it says nothing about
real affinities.
"""

import csv
from pathlib import Path

from embed.store.durable import replace_file
from pipeline.demo_pairs import COLUMNS, demo_rows
from pipeline.errors import ConfigError

CONFIG_NAME = "demo.toml"

_CONFIG = """\
# The embedded default: a synthetic table and two random encoders, made by `bindcache demo`.
# Paths are relative to this file. The fields and their defaults are listed in the README.

[pairs]
path = "pairs.csv"
id = "pair_id"
affinity = "pkd"

[embed]
antibody = "./igt5"
antigen = "./esm2"
store = "store"

[train]
epochs = 20
run = "run"
"""


def write_demo(folder: Path, *, seed: int = 0) -> Path:
    """Write a pairs table, two checkpoints and a config, and return the config's path.

    Args:
        folder: Where to; made if it is missing.
        seed: Decides the table and the weights; the same seed gives the same bytes with the same libraries.

    Raises:
        ConfigError: There is a demo in this folder already.
    """
    config = folder / CONFIG_NAME
    if config.exists():
        raise ConfigError(f"{config} exists already; use it, or delete {folder} or name another folder.")
    # Imported here: torch takes seconds, and a refusal should not.
    from pipeline.demo_checkpoints import write_esm2, write_igt5

    folder.mkdir(parents=True, exist_ok=True)
    _write_pairs(folder / "pairs.csv", seed)
    write_igt5(folder / "igt5", seed=seed)
    write_esm2(folder / "esm2", seed=seed + 1)
    # Last: a config in the folder means that all it names is there.
    replace_file(config, _CONFIG.encode())
    return config


def _write_pairs(path: Path, seed: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(demo_rows(seed))
