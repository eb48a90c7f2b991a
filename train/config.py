"""What the train stage can be told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from train.errors import TrainError

Loss = Literal["squared", "huber", "ranking"]
Head = Literal["concat", "bilinear", "gated", "difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Section `[train]`: how pairs are split, what is trained on them, and where the run lies."""

    run: Path
    """Folder of the run; new, or with `--resume` the run of this very config and table."""
    split: Literal["random", "column", "group", "cluster"] = "random"
    """`random` (80/10/10 of the pairs), `column` (as `pairs.split` says), whole `group`s, or whole `cluster`s."""
    split_values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For `split = "column"`: its values for `train`, `valid` and `test`; empty: these three words."""
    group: Literal["antigen", "antibody", "both"] = "antigen"
    """For `group` and `cluster`: what no two parts share; clusters of antibodies are those of their heavy chains."""
    identity: float = 0.9
    """Share of residues from which two heavy chains, or two antigens, are near-identical: for `cluster` and reports."""
    folds: int = 5
    """Folds into which `evaluate` deals the pairs, groups or clusters; each tests once."""
    fold: int = 0
    """Which fold tests, from 1, as `evaluate` sets it; 0 makes one split of 80/10/10."""
    split_seed: int = 0
    """Seeds the split."""
    seed: int = 0
    """Seeds the first weights, dropout and the order of the pairs."""
    features: Literal["standardise", "whiten"] = "whiten"
    """How training statistics prepare vectors: columns scaled (`standardise`), or decorrelated (`whiten`)."""
    widths: tuple[int, ...] = (1024, 512, 256, 128)
    """Hidden widths of the regressor."""
    depth: int = 0
    """How many of `widths`, from the first, are used; 0 uses all."""
    head: Head = "concat"
    """How the vectors of a pair meet: end to end (`concat`), or also multiplied: `bilinear`, `gated`, `difference`."""
    queries: int = 4
    """For `embed.pooling = "residues"`: learned queries, each of which finds residues of a sequence."""
    dropout: float = 0.2
    """Share of hidden units dropped in training."""
    epochs: int = 40
    """Passes over the training pairs, at most."""
    batch_size: int = 128
    """Pairs in one batch of training."""
    accumulation: int = 1
    """Batches whose gradients make one optimizer step."""
    loss: Loss = "squared"
    """`squared` errors, `huber` (linear beyond one deviation), or `ranking`: half squared, half order in an antigen."""
    lr: float = 1e-3
    """Highest learning rate of AdamW, reached after the warm-up."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, on matrices only."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises; then it falls as a cosine to 0."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    patience: int = 10
    """Epochs without a lower validation error after which training stops; 0 never stops early."""
    checkpointing: Literal["none", "wide", "all"] = "none"
    """Blocks whose activations are recomputed in the backward pass to save memory: none, the widest, all."""
    compile: Literal["auto", "off", "default", "max-autotune"] = "auto"
    """`torch.compile` of the regressor; `auto` compiles where a long training wins that time back."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training: `bf16` rounds copies of float32 weights; `auto` takes it where the device has it."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    placement: Literal["auto", "device", "pinned", "mapped"] = "auto"
    """Where vectors wait: prepared on the device or in host memory, raw in the shards; `auto`: first that fits."""
    checkpoint_every: int = 0
    """Optimizer steps between checkpoints, beside the one after each epoch; 0 leaves those alone."""
    keep: int = 2
    """Checkpoints kept, the newest, beside the best."""
    tensorboard: bool = False
    """Write every epoch's metrics as TensorBoard scalars, in the folder `tensorboard` of the run."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            TrainError: A value breaks its rule.
        """
        for name in ("epochs", "batch_size", "accumulation", "keep", "queries"):
            _refuse_unless(getattr(self, name) >= 1, name, getattr(self, name), "is at least 1")
        for name in ("split_seed", "seed", "depth", "weight_decay", "patience", "checkpoint_every"):
            _refuse_unless(getattr(self, name) >= 0, name, getattr(self, name), "is 0 or more")
        for name in ("lr", "clip"):
            _refuse_unless(getattr(self, name) > 0, name, getattr(self, name), "is above 0")
        _refuse_unless(0.5 <= self.identity <= 1, "identity", self.identity, "is in [0.5, 1]")
        _refuse_unless(self.folds >= 3, "folds", self.folds, "is at least 3")
        _refuse_unless(0 <= self.fold <= self.folds, "fold", self.fold, f"is 0, or 1 to folds ({self.folds})")
        foldable = self.fold == 0 or self.split != "column"
        _refuse_unless(foldable, "fold", self.fold, 'is 0 with split = "column", which says by itself what tests')
        _refuse_unless(0 <= self.dropout < 1, "dropout", self.dropout, "is in [0, 1)")
        _refuse_unless(0 <= self.warmup <= 1, "warmup", self.warmup, "is in [0, 1]")
        positive = bool(self.widths) and all(width >= 1 for width in self.widths)
        _refuse_unless(positive, "widths", list(self.widths), "holds at least one width, all at least 1")
        deep_enough = self.depth <= len(self.widths)
        _refuse_unless(deep_enough, "depth", self.depth, f"is at most {len(self.widths)}, the number of widths")
        parts = set(self.split_values) <= {"train", "valid", "test"}
        _refuse_unless(parts, "split_values", dict(self.split_values), "has no keys but train, valid, test")
        known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None
        _refuse_unless(known, "device", self.device, "is auto, cpu, cuda or cuda:N")

    @property
    def layers(self) -> tuple[int, ...]:
        """Hidden widths in use."""
        return self.widths[: self.depth or None]


def _refuse_unless(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise TrainError(f"train.{name} = {value!r}: {name} {rule}.")
