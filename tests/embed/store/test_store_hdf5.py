"""What the environment could load into libhdf5 through a shard: nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = """
#include <fcntl.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) { open(getenv("RAN"), O_CREAT | O_WRONLY, 0600); }
"""


@pytest.fixture
def plugin(tmp_path):
    """A folder with a shared library that leaves a file where RAN says, as soon as it is loaded."""
    compiler = shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no compiler to make a plugin with")
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "evil.c").write_text(PLUGIN)
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-o", folder / "libevil.so", folder / "evil.c"]
    subprocess.run(command, check=True)
    return folder


def python(program, *arguments, **environment):
    """Run a program in the project; returns what it printed, errors included."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("HDF5_")}  # ours are set already
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT, env=bare | environment, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout + done.stderr


UNGUARDED = "import h5py, sys\n"
GUARDED = "import embed.store.reader, sys; from embed.store.hdf5 import h5py\n"
READ = "\ntry:\n    h5py.File(sys.argv[1])['vector'][:]\nexcept OSError as error:\n    print('refused', error)\n"


@pytest.fixture
def filtered(tmp_path):
    """A file whose data went through a filter that libhdf5 does not know."""
    path = tmp_path / "filtered.h5"
    with h5py.File(path, "w", libver=("earliest", "v110")) as root:
        root.create_dataset("vector", data=np.zeros((4, 4), np.float32), compression="gzip")
    image = bytearray(path.read_bytes())
    name = image.index(b"deflate\0")
    image[name - 8 : name - 6] = (32099).to_bytes(2, "little")
    image[name - 4 : name - 2] = bytes(2)  # not optional
    path.write_bytes(image)
    return path


def test_an_unknown_filter_loads_no_code(plugin, filtered, tmp_path):
    """With HDF5_PLUGIN_PATH set, plain h5py loads the library to look for the filter; ours does not."""
    ran = tmp_path / "ran"
    environment = {"HDF5_PLUGIN_PATH": str(plugin), "RAN": str(ran)}
    python(UNGUARDED + READ, filtered, **environment)
    assert ran.exists(), "the plugin was not dangerous, so this test could not fail"
    ran.unlink()
    assert "refused" in python(GUARDED + READ, filtered, **environment)
    assert not ran.exists()


def test_a_connector_named_by_the_environment_loads_no_code(plugin, filtered, tmp_path):
    """HDF5_VOL_CONNECTOR would load libraries when libhdf5 starts, before any file is opened."""
    ran = tmp_path / "ran"
    environment = {"HDF5_PLUGIN_PATH": str(plugin), "HDF5_VOL_CONNECTOR": "evil", "RAN": str(ran)}
    python(UNGUARDED + READ, filtered, **environment)
    assert ran.exists(), "the connector was not dangerous, so this test could not fail"
    ran.unlink()
    assert python(GUARDED + "print(h5py.h5pl.size())", **environment) == "0\n"
    assert not ran.exists()


def test_a_driver_named_by_the_environment_is_not_used(folder, fingerprint):
    """HDF5_DRIVER would open shards by something else than a plain file."""
    from embed.store.image import build_shard

    image = build_shard(np.zeros((1, 16), np.uint8), np.ones((1, 4), np.float32), np.ones(1, np.int32), fingerprint)
    (folder / "shards" / f"{hashlib.sha256(image).hexdigest()}.h5").write_bytes(image)
    program = (
        "import sys; from pathlib import Path; from embed.store.reader import Vectors\n"
        "print(len(Vectors(Path(sys.argv[1]))))"
    )
    assert python(program, folder, HDF5_DRIVER="evil", HDF5_PLUGIN_PRELOAD="evil") == "1\n"


def test_plugins_stay_off_when_h5py_came_first(plugin, filtered, tmp_path):
    """Whoever imported h5py before us: no folder is left from which libhdf5 would load."""
    ran = tmp_path / "ran"
    program = "import h5py\n" + GUARDED + READ
    assert "refused" in python(program, filtered, HDF5_PLUGIN_PATH=str(plugin), RAN=str(ran))
    assert not ran.exists()
