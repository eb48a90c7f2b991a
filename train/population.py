"""Many trainings of one shape as one set of tensors: each step's matrix products serve all of them.

A member is an ordinary training: its own learning rate, decay, dropout, seed, order of batches, validation and
checkpoints. Only losses and gradients are computed together, by the same formulas in another order of sums.

Shape suffixes: K members, B batch, U antigens, D width of a vector or layer, H of the first layer.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from train.config import TrainConfig
from train.dropout import Draw, drop
from train.errors import TrainError
from train.loss import batch_loss
from train.share import Share
from train.trainer import Trainer

_OWN = frozenset({"run", "seed", "lr", "weight_decay", "dropout", "epochs", "warmup", "clip", "patience"}) | {
    "checkpoint_every",
    "keep",
}
"""Fields of `[train]` in which members may differ."""

T = TypeVar("T")


def shape_of(config: TrainConfig) -> tuple[object, ...] | None:
    """Tell what trainings must have in common to be members of one pack; None where they can be of none."""
    if config.accumulation != 1 or config.checkpointing != "none" or config.head != "concat":
        return None
    same = (field.name for field in fields(config) if field.name not in _OWN)
    return tuple((name, str(getattr(config, name))) for name in same)


@dataclass(slots=True)
class Member(Generic[T]):
    """A training in a pack, and what its owner wants to know it by."""

    trainer: Trainer
    steps: Generator[Share, Tensor, object]
    name: T
    share: Share | None = None
    """The batch whose loss it waits for."""


class Pack(Generic[T]):
    """Trainings of one shape, one step at a time."""

    def __init__(self) -> None:
        self._members: list[Member[T]] = []
        self._joint: _Joint | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, trainer: Trainer, steps: Generator[Share, Tensor, object], name: T) -> None:
        """Take in a training with what its `steps` returned; it begins with the next step."""
        self._members.append(Member(trainer, steps, name))
        self._joint = None

    def step(self) -> Iterator[tuple[T, object]]:
        """Do one batch of every member; yields those that left, with what their steps returned or raised."""
        left: list[tuple[T, object]] = []
        for member in self._members:
            if member.share is None:
                self._advance(member, None, left)
        self._remove_idle()
        if self._members:
            joint = self._joint = self._joint or _Joint([member.trainer for member in self._members])
            loss_K = joint.differentiate([member.share for member in self._members if member.share])
            for number, member in enumerate(self._members):
                self._advance(member, loss_K[number], left)
            self._remove_idle()
        yield from left

    def close(self) -> None:
        """Leave all members where they are."""
        for member in self._members:
            member.steps.close()
        self._members = []

    def _advance(self, member: Member[T], loss: Tensor | None, left: list[tuple[T, object]]) -> None:
        try:
            member.share = next(member.steps) if loss is None else member.steps.send(loss)
        except StopIteration as end:
            member.share = None
            left.append((member.name, end.value))
        except TrainError as error:
            member.share = None
            left.append((member.name, error))

    def _remove_idle(self) -> None:
        staying = [member for member in self._members if member.share is not None]
        if len(staying) < len(self._members):
            self._members, self._joint = staying, None


class _Joint:
    """The networks of a pack side by side in one set of tensors, in which their trainers go on."""

    def __init__(self, trainers: list[Trainer]) -> None:
        first = trainers[0]
        layout = first.optimizer.layout
        weight = first.optimizer.working.head.weight
        rows = first.optimizer.room(len(trainers))
        for trainer, row in zip(trainers, rows.each(), strict=True):
            trainer.optimizer.lie_in(row)
        self._gradients = layout.views(rows.gradient_P)
        self._weights = {name: view.detach().requires_grad_() for name, view in layout.views(rows.working_P).items()}
        self._loss = first.config.loss
        self._blocks = len(first.config.layers)
        self._share_K11 = torch.tensor([trainer.config.dropout for trainer in trainers], device=weight.device)
        self._share_K11 = self._share_K11[:, None, None]
        self._drops = any(trainer.config.dropout for trainer in trainers)

    def differentiate(self, shares: list[Share]) -> Tensor:
        """Put the gradient of each member's loss into its optimizer's; the losses come back, float32 [K]."""
        device = self._share_K11.device
        batches = [share.batch for share in shares]
        target_KB = torch.stack([batch.target_B for batch in batches])
        weight_KB = torch.stack([batch.weight_B for batch in batches])
        side_KB = _stack([batch.side_B for batch in batches])
        antigen_KB = _stack([batch.antigen_B for batch in batches])
        draw = Draw(torch.tensor([[share.base] for share in shares]).to(device, non_blocking=True))
        rows_K = torch.tensor([float(share.rows) for share in shares]).to(device, non_blocking=True)
        antibody_KBD = torch.stack([batch.antibody_BD for batch in batches])
        if batches[0].which_BU is None:
            antigen_KUD, which_KBU = torch.stack([batch.antigen_UD for batch in batches]), None
        else:  # all members read the same antigens
            antigen_KUD = batches[0].antigen_UD.expand(len(batches), -1, -1)
            which_KBU = torch.stack([batch.which_BU for batch in batches if batch.which_BU is not None])
        score_KB = self._score(antibody_KBD, antigen_KUD, which_KBU, draw)
        labels = (target_KB, weight_KB, side_KB, antigen_KB)
        loss_K = batch_loss(score_KB, *labels, self._loss)
        names = list(self._weights)
        gradients = torch.autograd.grad((loss_K / rows_K).sum(), [self._weights[name] for name in names])
        torch._foreach_copy_([self._gradients[name] for name in names], list(gradients))
        return loss_K.detach()

    def _score(self, antibody_KBD: Tensor, antigen_KUD: Tensor, which_KBU: Tensor | None, draw: Draw) -> Tensor:
        weights = self._weights
        antigen_KUH = antigen_KUD @ weights["blocks.0.linear.antigen"].mT
        x_KBD = torch.baddbmm(
            antigen_KUH if which_KBU is None else which_KBU @ antigen_KUH,
            antibody_KBD,
            weights["blocks.0.linear.antibody"].mT,
        )
        x_KBD = x_KBD + weights["blocks.0.linear.bias"][:, None]
        for number in range(self._blocks):
            if number:
                x_KBD = _linear(x_KBD, weights, f"blocks.{number}.linear")
            x_KBD = F.layer_norm(x_KBD, x_KBD.shape[-1:])
            scale, shift = (weights[f"blocks.{number}.norm.{part}"][:, None] for part in ("weight", "bias"))
            x_KBD = F.gelu(torch.addcmul(shift, x_KBD, scale))
            if self._drops:
                x_KBD = drop(x_KBD, self._share_K11, draw, number)
        score_KB: Tensor = _linear(x_KBD, weights, "head").squeeze(-1).float()
        return score_KB


def _stack(column_KB: list[Tensor | None]) -> Tensor | None:
    given = [column_B for column_B in column_KB if column_B is not None]
    return torch.stack(given) if given else None


def _linear(x_KBD: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return torch.baddbmm(weights[f"{name}.bias"][:, None], x_KBD, weights[f"{name}.weight"].mT)
