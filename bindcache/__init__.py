"""Antibody-antigen binding affinity from sequences: `embed`, `train` and `predict` (docs/api.md)."""

from pipeline.api import ConfigError, EmbedError, TrainError, embed, predict, train

__all__ = ["ConfigError", "EmbedError", "TrainError", "embed", "predict", "train"]
