"""What the embed stage can be told."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NewType, TypeGuard, get_args

from embed.errors import EmbedError

Model = NewType("Model", str)
"""A Hugging Face hub id (`owner/name`), an absolute local folder, or a `Table`."""

Table = Literal["onehot", "blosum62"]
"""Encoders without a model, which look each residue up in a table."""
TABLES: tuple[str, ...] = get_args(Table)

Precision = Literal["int8", "int8-fast", "int8-bnb", "bf16", "fp16", "fp32"]
Pooling = Literal["mean", "chains", "card", "residues"]
"""`mean` averages residues; `chains` does so for each chain and lays both means side by side, the second one zeros
where there is no light chain; `card` is the published IgT5 recipe, which counts the separator too; `residues` averages
nothing and keeps the vector of each residue, of antigens too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedConfig:
    """Section `[embed]`: which encoders read the sequences, how, and where the vectors go."""

    antibody: Model
    """Antibody encoder: hub id or local folder of a T5 encoder (IgT5); or `onehot`, `blosum62`, without a model."""
    antigen: Model
    """Antigen encoder: hub id or local folder of an ESM-2 model; or `onehot`, `blosum62`, without a model."""
    store: Path
    """Folder of the store; one store may hold any number of tables, encoders and precisions."""
    antibody_revision: str = ""
    """Commit, tag or branch of the antibody encoder on the hub; resolved to a commit, recorded and printed."""
    antigen_revision: str = ""
    """Commit, tag or branch of the antigen encoder on the hub."""
    precision: Precision = "int8"
    """Of both encoders: `int8` (two-term, as true as fp32), `int8-fast` (one term), `int8-bnb`, or a float."""
    antibody_precision: Precision | Literal[""] = ""
    """Overrides `precision` for the antibody encoder."""
    antigen_precision: Precision | Literal[""] = ""
    """Overrides `precision` for the antigen encoder."""
    threshold: float = 6.0
    """Outlier threshold of `int8-bnb`; 0 turns the 16-bit outlier columns off."""
    pooling: Pooling = "mean"
    """`mean` over residues, each chain's mean (`chains`), with the separator (`card`), or each residue (`residues`)."""
    single_chain: Model = Model("same")
    """Antibodies without light chain: `same` encoder, `error`, or another one."""
    single_chain_revision: str = ""
    """Commit, tag or branch of the single-chain encoder on the hub."""
    long: Literal["window", "truncate", "error"] = "window"
    """Antigens longer than `window`: averaged over overlapping windows, cut, or refused."""
    window: int = 1022
    """Residues that ESM-2 reads at once; it was trained on crops of 1022."""
    stride: int = 511
    """Residues between the starts of two windows."""
    batching: Literal["packed", "bucketed"] = "packed"
    """How sequences share a batch: end to end without padding, or padded to the edge of their length bucket."""
    buckets: Literal["auto"] | tuple[int, ...] = "auto"
    """Of `bucketed`: edges in tokens, as `[256, 384, 512]`, or `auto`: from the lengths, padding at most 5 %."""
    tokens_per_batch: int | Literal["auto"] = "auto"
    """Tokens in one batch, padding included, or `auto`: from the CPU's cache or the GPU's free memory."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the encoders' layers (`torch.compile`): `auto` where there is enough work to win its time back."""
    shard_rows: int = 4096
    """Sequences in one shard (of `residues` 64 MiB at most); so much work, or 60 s of it, is lost at a kill."""
    vector_dtype: Literal["float32", "float16"] = "float32"
    """How vectors of sequences are stored; float16 halves them and costs fidelity between near-identical ones."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            EmbedError: A value breaks its rule.
        """
        for name in ("window", "stride", "shard_rows"):
            _refuse_unless(getattr(self, name) >= 1, name, getattr(self, name), "is at least 1")
        _refuse_unless(
            self.stride <= self.window,
            "stride",
            self.stride,
            f"is at most window ({self.window}), else residues are skipped",
        )
        _refuse_unless(self.threshold >= 0, "threshold", self.threshold, "is 0 or more")
        if self.tokens_per_batch != "auto":
            _refuse_unless(
                self.tokens_per_batch >= 1,
                "tokens_per_batch",
                self.tokens_per_batch,
                "is at least 1 or `auto`",
            )
        if self.buckets != "auto":
            rising = all(a < b for a, b in zip((0, *self.buckets), self.buckets, strict=False))
            _refuse_unless(
                bool(self.buckets) and rising,
                "buckets",
                list(self.buckets),
                "rise from 1 upwards, or are `auto`",
            )
        _refuse_unless(
            re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None,
            "device",
            self.device,
            "is auto, cpu, cuda or cuda:N",
        )

    def one_vector(self) -> "EmbedConfig":
        """The same config with one vector for each sequence: in place of `residues` their mean."""
        return replace(self, pooling="mean") if self.pooling == "residues" else self

    def precision_of(self, role: Literal["antibody", "antigen"]) -> Precision:
        """Tell the arithmetic of one encoder."""
        own = self.antibody_precision if role == "antibody" else self.antigen_precision
        return own or self.precision


def is_table(model: str) -> TypeGuard[Table]:
    """Tell whether an encoder is a table in place of a model."""
    return model in TABLES


def vectors_of(pooling: Pooling) -> int:
    """Count the vectors that an antibody's stored one is made of."""
    return 2 if pooling == "chains" else 1


def _refuse_unless(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise EmbedError(f"embed.{name} = {value!r}: {name} {rule}.")
