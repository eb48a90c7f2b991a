"""The loss of a batch and its gradient without autograd: matrix products into memory that is there, and the kernel.

Shape suffixes: B batch, U antigens, D width of a layer, H width of the first.
"""

import torch
from torch import Tensor
from torch.profiler import record_function

from train.config import TrainConfig
from train.dropout import Draw, first_of, levels_of
from train.kernel import Activation, Kernel, LayerWeights
from train.loader import Batch
from train.optimizer import Optimizer
from train.share import Share

_LEAST = 1e-5
"""LayerNorm's, by torch's default."""


class Differentiator:
    """Does for one network in bf16 what autograd does with `Network`, in batches of one size."""

    def __init__(self, kernel: Kernel, optimizer: Optimizer, config: TrainConfig) -> None:
        """Take memory for what the layers give; the kernel knows losses of one pair alone."""
        assert config.loss != "ranking"
        self._loss = config.loss
        self._kernel = kernel
        self._optimizer = optimizer
        self._config = config
        self._layers = [Activation.of(config.batch_size, width) for width in config.layers]

    @torch.no_grad()
    def differentiate(self, share: Share) -> Tensor:
        """Put the gradient of a batch's loss, over `rows`, into the optimizer's; the loss comes back, float32 []."""
        with record_function("forward"):
            loss = self._forward(share)
        with record_function("backward"):
            self._backward(share.batch)
        return loss

    def _forward(self, share: Share) -> Tensor:
        """Fill the layers' memory, and give the loss; the head's gradient comes along."""
        batch = share.batch
        for number, layer in enumerate(self._layers):
            self._sum(number, batch)
            first, dropped = first_of(Draw(share.base), number), levels_of(self._config.dropout)
            assert isinstance(first, int)
            weights = _around(self._optimizer.weights, number)
            self._kernel.activate(layer, weights, least=_LEAST, first=first, dropped=dropped)
        return self._kernel.head(
            self._layers[-1],
            *((of["head.weight"], of["head.bias"]) for of in (self._optimizer.weights, self._optimizer.gradients)),
            target_B=batch.target_B,
            weight_B=batch.weight_B,
            pairs=share.rows,
            loss=self._loss,
        )

    def _backward(self, batch: Batch) -> None:
        """Turn the head's gradient into those of all weights."""
        for number, layer in reversed(list(enumerate(self._layers))):
            weights, gradients = (_around(of, number) for of in (self._optimizer.weights, self._optimizer.gradients))
            self._kernel.activate_back(layer, weights, gradients)
            self._sum_back(number, batch)

    def _sum(self, number: int, batch: Batch) -> None:
        """Multiply what a layer reads by its weights; the bias is the kernel's to add."""
        weights, sum_BD = self._optimizer.weights, self._layers[number].sum_BD
        if number:
            torch.mm(self._layers[number - 1].y_BD, weights[f"blocks.{number}.linear.weight"].t(), out=sum_BD)
            return
        torch.mm(batch.antibody_BD, weights["blocks.0.linear.antibody"].t(), out=sum_BD)
        antigen_DH = weights["blocks.0.linear.antigen"].t()
        if batch.which_BU is None:
            torch.addmm(sum_BD, batch.antigen_UD, antigen_DH, out=sum_BD)
        else:
            torch.addmm(sum_BD, batch.which_BU, batch.antigen_UD @ antigen_DH, out=sum_BD)

    def _sum_back(self, number: int, batch: Batch) -> None:
        """Compute the gradients of a layer's matrix and of what it reads, from that of its sums."""
        gradients, sum_BD = self._optimizer.gradients, self._layers[number].gradient_BD
        if number:
            name, before = f"blocks.{number}.linear.weight", self._layers[number - 1]
            torch.mm(sum_BD.t(), before.y_BD, out=gradients[name])
            torch.mm(sum_BD, self._optimizer.weights[name], out=before.gradient_BD)
            return
        torch.mm(sum_BD.t(), batch.antibody_BD, out=gradients["blocks.0.linear.antibody"])
        antigen_DU = sum_BD.t() if batch.which_BU is None else sum_BD.t() @ batch.which_BU
        torch.mm(antigen_DU, batch.antigen_UD, out=gradients["blocks.0.linear.antigen"])


def _around(of: dict[str, Tensor], number: int) -> LayerWeights:
    block = f"blocks.{number}"
    return LayerWeights(of[f"{block}.linear.bias"], of[f"{block}.norm.weight"], of[f"{block}.norm.bias"])
