"""What the embed stage says before its first batch, so that nobody takes it for hanging."""

from pathlib import Path

import pytest

from embed.config import EmbedConfig, Model
from embed.pairs import PairsConfig
from embed.stage import run_embed

TABLE = "heavy,light,antigen\nEVQLVESGG,DIQMTQSPS,MKTAYIAKQR\nQVQLQESGP,,MKTAYIAK\n"


@pytest.fixture
def told(checkpoints, tmp_path):
    """Embed a small table; list the phases in the order in which they were told."""

    def embed(**settings: object) -> list[str]:
        (tmp_path / "pairs.csv").write_text(TABLE)
        store = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        models = {role: Model(str(checkpoints / name)) for role, name in (("antibody", "igt5"), ("antigen", "esm2"))}
        config = EmbedConfig(**models, store=Path(store), device="cpu", **settings)
        phases: list[str] = []
        run_embed(config, PairsConfig(path=tmp_path / "pairs.csv"), progress=lambda *step: phases.append(step[0]))
        return list(dict.fromkeys(phases))

    return embed


def test_loading_is_told_before_embedding(told):
    """Of each encoder."""
    assert told(precision="fp32") == [
        "loading the encoder of antibodies",
        "embedding antibodies",
        "loading the encoder of antigens",
        "embedding antigens",
    ]


def test_building_kernels_is_told(told, monkeypatch):
    """Where they are not built yet."""
    monkeypatch.setattr("embed.encoders.open.must_build", lambda: True)
    assert told(precision="int8")[:2] == ["loading the encoder of antibodies", "building kernels for this CPU"]


def test_compiling_is_told(told, monkeypatch):
    """It happens at the first batches, and its phase lasts until the first is through."""
    monkeypatch.setattr("embed.encoders.encoder.compile_layers", lambda layers: None)
    phases = told(precision="fp32", compile="on")
    assert phases.index("compiling the encoder of antibodies") == phases.index("embedding antibodies") - 1
