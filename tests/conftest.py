"""What every test may use: tiny random encoders in the published file layout."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `igt5` and `esm2`, two random encoders as the demo writes them."""
    from pipeline.demo_checkpoints import write_esm2, write_igt5

    folder = tmp_path_factory.mktemp("checkpoints")
    for name, write, seed in (("igt5", write_igt5, 0), ("esm2", write_esm2, 1)):
        (folder / name).mkdir()
        write(folder / name, seed=seed)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tables that lies beside the project on some machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real tables do not lie beside the project")
    return folder
