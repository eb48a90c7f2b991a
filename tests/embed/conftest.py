"""Configs over the tiny encoders."""

from pathlib import Path

import pytest

from embed.config import EmbedConfig


@pytest.fixture
def embed_config(checkpoints: Path, tmp_path: Path) -> EmbedConfig:
    """Defaults, with the tiny encoders and an empty store."""
    return EmbedConfig(
        antibody=str(checkpoints / "igt5"), antigen=str(checkpoints / "esm2"), store=tmp_path / "store", device="cpu"
    )
