"""A T5 encoder's linear layers in fp16 between a residual stream, norms and embeddings in float32.

T5's feed-forward output exceeds 65,504, fp16's largest number (Hugging Face transformers issue 5651), and its residual
stream sums such outputs; weights and the inputs of products do not.
"""

import torch
from torch import Tensor, nn

_INTO_RESIDUAL = ("o", "wo")
_INTO_ATTENTION = ("q", "k", "v")


class HalfLinear(nn.Module):
    """A frozen linear layer without bias: fp16 weights and inputs, sums in float32, given in `out`."""

    def __init__(self, linear: nn.Linear, *, out: torch.dtype) -> None:
        super().__init__()
        assert linear.bias is None
        self.weight: Tensor
        self.register_buffer("weight", linear.weight.detach().half())
        self._out: torch.dtype = out

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: Any float dtype `[..., K]`, within fp16's range.

        Returns:
            `out` `[..., N]`.
        """
        half = x.half()
        if self._out != torch.float32:
            return nn.functional.linear(half, self.weight)
        if not x.is_cuda:  # which has no product of fp16 into float32
            return nn.functional.linear(half.float(), self.weight.float())
        y_MN = torch.mm(half.reshape(-1, half.shape[-1]), self.weight.t(), out_dtype=torch.float32)
        return y_MN.view(*x.shape[:-1], -1)


def halve(model: nn.Module, *, packed: bool) -> None:
    """Put a frozen T5 encoder's linear layers into fp16, in place.

    Args:
        model: `T5EncoderModel`, float32.
        packed: Whether our attention reads queries, keys and values; the official one adds a float32 bias to them.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            wide = name in _INTO_RESIDUAL or (name in _INTO_ATTENTION and not packed)
            setattr(model, name, HalfLinear(child, out=torch.float32 if wide else torch.float16))
        else:
            halve(child, packed=packed)
