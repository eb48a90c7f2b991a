"""What is told to the product for each row of the ablation: pure functions of configs."""

from dataclasses import replace

from embed.config import EmbedConfig, Precision
from pipeline.bench.optimisations import Optimisation
from train.config import TrainConfig


def embed_with_all(config: EmbedConfig) -> EmbedConfig:
    """Turn on every optimisation of encoding."""
    return replace(
        config,
        precision="int8",
        antibody_precision="",
        antigen_precision="",
        batching="packed",
        tokens_per_batch="auto",
    )


def embed_without(
    config: EmbedConfig, optimisation: Optimisation | None, *, longest: int, instead: Precision
) -> EmbedConfig:
    """Turn one optimisation of encoding off, where a setting does that.

    Args:
        config: With all of them on.
        optimisation: Which one.
        longest: Tokens of the longest piece, to which every batch is padded without packing.
        instead: Precision without INT8.
    """
    if optimisation is Optimisation.BATCHED:
        return replace(config, tokens_per_batch=1)
    if optimisation is Optimisation.PACKED:
        return replace(config, batching="bucketed", buckets=(longest,))
    if optimisation is Optimisation.INT8:
        return replace(config, precision=instead)
    return config


def train_with_all(config: TrainConfig, *, compiler: bool) -> TrainConfig:
    """Turn on every optimisation of training, also those that the defaults leave off."""
    return replace(config, checkpointing="all", compile="default" if compiler else "off")


def train_without(config: TrainConfig, optimisation: Optimisation | None) -> TrainConfig:
    """Turn one optimisation of training off, where a setting does that."""
    if optimisation is Optimisation.CHECKPOINTED:
        return replace(config, checkpointing="none")
    if optimisation is Optimisation.COMPILED:
        return replace(config, compile="off")
    return config
