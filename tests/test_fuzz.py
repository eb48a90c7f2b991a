"""What reads files, fed with damaged ones: only our errors come out, in bounded time and memory.

A seed is a valid file or an input of the catalogue (tests/embed/test_bad_input.py); each try changes it in some places.
`make fuzz` runs the same tests with many more tries.
"""

import hashlib
import importlib.util
import io
import os
import random
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed.errors import EmbedError, PairsError, StoreError
from embed.pairs import PairsConfig, read_pairs
from embed.store.folder import read_fingerprint
from embed.store.image import build_shard
from embed.store.publish import publish
from embed.store.reader import Vectors
from embed.store.schema import FINGERPRINT_FILE, fingerprint_digest
from embed.store.writer import create_folder
from pipeline.config import load
from pipeline.errors import ConfigError
from train.checkpoint import read_checkpoint, write_state
from train.errors import TrainError

REPOSITORY = Path(__file__).parents[1]
FACTS = {"encoder": "fuzz"}
MOST_BYTES = 1 << 30
"""Peak memory of a process that reads damaged files, torch's own 400 MB included."""

tries = settings(
    deadline=timedelta(minutes=1),  # a hang, not a time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXTS = ['"', '""', ",", ";", "\t", "\n", "\r", "\r\n", "\0", "*", "-", ">x", "1e999", "-1", "nan", "NA", "inf", "=1+1"]
TEXTS += [
    "#REF!",
    "9" * 400,
    "\u00a0",
    "\u200b",
    "\ufeff",
    "[",
    "]",
    "{",
    "'''",
    "\\u0000",
    "[[pairs]]\n",
    "true",
    "PAR1",
]
TOKENS = [*(text.encode() for text in TEXTS), b"\xff\xfe", b"\xb5", b"\xed\xa0\x80", b"\x89HDF", b"PK\3\4"]
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """Change a file in one to six places."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at, end = sorted(chance.randint(0, len(data)) for _ in range(2))
        end = min(end, at + 64)
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at:at] = chance.choice(TOKENS)
            case 2:
                data[at:end] = chance.choice(TOKENS)
            case 3:
                del data[at:end]
            case 4:
                data[at:at] = data[at:end] * chance.choice([1, 1, 2, 50])
            case 5:
                width = chance.choice([1, 2, 4, 8])
                extreme = chance.choice(EXTREMES) & (1 << 8 * width) - 1
                data[at : at + width] = extreme.to_bytes(width, chance.choice(["little", "big"]))
            case 6 if chance.randrange(4) == 0:
                del data[at:]
    return bytes(data)


def _catalogue() -> list[bytes]:
    spec = importlib.util.spec_from_file_location("bad_input", REPOSITORY / "tests/embed/test_bad_input.py")
    bad_input = importlib.util.module_from_spec(spec)
    sys.modules["bad_input"] = bad_input  # dataclasses look their module up
    spec.loader.exec_module(bad_input)
    tables = [pa.table({name: [good, cell] for (name, good), cell in zip(bad_input.GOOD.items(), (
        bad_input.GOOD | {"id": "bad"} | case.cells).values(), strict=True)}) for case in bad_input.CASES
        if sum(map(len, case.cells.values())) < 5_000]  # fmt: skip
    return [_written(pyarrow.csv.write_csv, table) for table in tables] + [
        content for *_, content, _ in bad_input.FILES
    ]


def _written(write, table: pa.Table) -> bytes:
    sink = io.BytesIO()
    write(table, sink)
    return sink.getvalue()


def _parquet() -> list[bytes]:
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "heavy": ["EVQLVESGGG", "EVQLVESGGG", "EVQLV"],
            "light": pa.array(["DIQMTQ", None, ""]).dictionary_encode(),
            "antigen": ["MKTAYIAKQR"] * 3,
            "kd": [1e-9, 1e-8, None],
            "split": ["train", "test", "valid"],
        }
    )
    kinds = [{}, {"compression": "none"}, {"compression": "zstd", "use_dictionary": False, "row_group_size": 1}]
    return [_written(lambda t, sink, k=kind: pyarrow.parquet.write_table(t, sink, **k), table) for kind in kinds]


def _shard() -> bytes:
    key_N16 = np.arange(64, dtype=np.uint8).reshape(4, 16)
    return build_shard(key_N16, np.ones((4, 8), np.float32), np.arange(4, dtype=np.int32), fingerprint_digest(FACTS))


def _checkpoint() -> bytes:
    import torch

    file = io.BytesIO()
    state = {
        "model": {"weight": torch.ones(4, 3), "bias": torch.zeros(3)},
        "step": 7,
        "best_step": 7,
        "history": [{"a": 1.5}],
    }
    write_state(state, file)
    return file.getvalue()


CONFIGS = [(REPOSITORY / "configs" / name).read_bytes() for name in ("demo.toml", "igt5-esm2.toml")]
EMBED = '[embed]\nantibody = "not/there"\nantigen = "not/there"\nstore = "store"\n'
SETTINGS = {"id": "id", "affinity": "kd", "unit": "M", "split": "split", "on_bad_row": "reject", "censored": "drop"}
SEEDS = {
    "table.csv": _catalogue(),
    "table.parquet": _parquet(),
    "config.toml": CONFIGS,
    "shard": [_shard()],
    "fingerprint.json": [b'{"facts": {"encoder": "fuzz"}, "resolved": {}}'],
    "checkpoint": [_checkpoint()],
}


def read_table_file(path: Path) -> None:
    """Read a table; every row of it is in one pair or rejected."""
    try:
        read = read_pairs(PairsConfig(path=path, **SETTINGS))
    except PairsError:
        return
    assert len(read.pair_of_row) == len(read.row_ids) == len(read.rejected) + read.rows
    assert np.isfinite(read.affinity_N).all()


def read_config_file(path: Path) -> None:
    """Load a config, or hear what is wrong with it."""
    with suppress(ConfigError, EmbedError, TrainError):
        load(path)


def read_shard_bytes(path: Path) -> None:
    """Open a shard whose name promises just these bytes, in a folder of its own, and read all of it."""
    folder = create_folder(path.parent / "store", f"fuzz-{fingerprint_digest(FACTS)[:16]}", FACTS, {})
    published = publish(path.read_bytes(), folder / "shards")
    try:
        vectors = Vectors(folder)
        location_N = vectors.find(np.arange(64, dtype=np.uint8).reshape(4, 16))
        vectors.read(location_N[location_N >= 0])
    except StoreError:
        pass
    finally:
        published.unlink()
        (folder / "verified.json").unlink(missing_ok=True)


def read_fingerprint_file(path: Path) -> None:
    """Read what a folder says of its vectors; only the facts of its name pass."""
    folder = path.parent / f"fuzz-{fingerprint_digest(FACTS)[:16]}"
    folder.mkdir(exist_ok=True)
    (folder / FINGERPRINT_FILE).write_bytes(path.read_bytes())
    with suppress(StoreError):
        assert read_fingerprint(folder).facts == FACTS


def read_checkpoint_file(path: Path) -> None:
    """Read a checkpoint as it lies there, and again under a digest that says it is whole."""
    body = path.read_bytes()[:-48]
    for content in (path.read_bytes(), body + b"bindcache-sha256" + hashlib.sha256(body).digest()):
        path.write_bytes(content)
        with suppress(TrainError):
            assert isinstance(read_checkpoint(path), dict)


READERS = {
    "table.csv": read_table_file,
    "table.parquet": read_table_file,
    "config.toml": read_config_file,
    "shard": read_shard_bytes,
    "fingerprint.json": read_fingerprint_file,
    "checkpoint": read_checkpoint_file,
}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_end_in_our_errors_alone(tmp_path, kind, figure):
    """Whatever is done to a file, its reader takes it or refuses it in our words."""

    @tries
    @given(st.sampled_from(SEEDS[kind]), st.randoms(use_true_random=False))
    def read(seed, chance):
        path = tmp_path / kind
        path.write_bytes(mutate(seed, chance))
        READERS[kind](path)
        figure(f"damaged files read ({kind})", 1)

    read()


@tries
@given(st.text(max_size=40) | st.from_regex(r"(pairs|embed|train|sweep|cluster)\.[a-z_]+=.{0,30}", fullmatch=True))
def test_overrides_end_in_our_errors_alone(override):
    """Whatever is typed after --set."""
    with suppress(ConfigError, EmbedError, TrainError):
        load(REPOSITORY / "configs" / "demo.toml", [override])


def test_the_command_line_never_shows_a_traceback(tmp_path, figure):
    """In real processes: exit code 2, one message, and no more memory than a table of this size needs."""
    chance = random.Random(0)
    config = tmp_path / "config.toml"
    for number in range(max(4, settings.default.max_examples // 200)):
        kind = ["table.csv", "table.parquet", "config.toml"][number % 3]
        path = tmp_path / kind
        path.write_bytes(mutate(chance.choice(SEEDS[kind]), chance))
        if kind != "config.toml":
            pairs = "\n".join(f'{key} = "{value}"' for key, value in SETTINGS.items())
            config.write_text(f'[pairs]\npath = "{path}"\n{pairs}\n{EMBED}')
        code, peak, told = _run_alone(tmp_path, "pipeline", "embed", "--config", str(config))
        assert code == 2, (told, path.read_bytes())
        assert "Traceback" not in told
        assert "bug" not in told
        assert peak < MOST_BYTES / 4
        figure("damaged files through the command line", 1)


def test_damaged_files_take_no_memory(tmp_path, figure):
    """Sizes that a file merely claims are not believed: the peak of a process that reads many is measured."""
    code, peak, told = _run_alone(tmp_path, __file__, str(settings.default.max_examples // 5))
    assert code == 0, told
    assert peak < MOST_BYTES, f"{peak:,} bytes"
    figure("peak memory while reading damaged files, MB", peak >> 20)


ALONE = """
import atexit, re, runpy, sys
from pathlib import Path
told = lambda: re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
atexit.register(lambda: Path("peak").write_text(told()))
sys.argv = sys.argv[1:]
(runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module)(sys.argv[0], run_name="__main__")
"""
"""Runs a module and leaves its own peak of memory: what the system tells of a child counts its parent's too."""


def _run_alone(folder: Path, *words: str) -> tuple[int, int, str]:
    """Run a module in a process; tell its exit code, its peak of memory in bytes, and all that it said."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-X", "faulthandler", "-c", ALONE, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode >= 0, f"signal {-done.returncode} ended it: {done.stdout.decode()}"
    return done.returncode, int((folder / "peak").read_text()) << 10, done.stdout.decode()


def _read_many(folder: Path, times: int) -> None:
    chance = random.Random(1)
    for kind, read in READERS.items():
        for _ in range(times):
            path = folder / kind
            path.write_bytes(mutate(chance.choice(SEEDS[kind]), chance))
            read(path)


if __name__ == "__main__":
    _read_many(Path.cwd(), int(sys.argv[1]))
