"""The step without autograd: what autograd and AdamW give, as near as bf16 allows."""

import copy

import pytest
import torch

from train import kernel
from train.config import TrainConfig
from train.dropout import Draw
from train.gradient import Differentiator
from train.kernel import Activation, Kernel, LayerWeights, find_kernel
from train.loader import Batch
from train.loss import pair_loss
from train.optimizer import Optimizer
from train.regressor import Network
from train.share import Share

ROWS, ANTIGENS = 19, 5


@pytest.fixture
def built() -> Kernel:
    found, why = find_kernel()
    if found is None:
        pytest.skip(why)
    return found


def network(widths: tuple[int, ...], dropout: float) -> Network:
    torch.manual_seed(0)
    made = Network(30, 21, widths=widths, dropout=dropout)
    for weight in made.parameters():  # LayerNorm's scales and shifts are 1 and 0 at birth
        weight.data.add_(0.05 * torch.randn_like(weight))
    return made


def batch(*, apart: bool) -> Batch:
    random = torch.Generator().manual_seed(1)
    antigens = ANTIGENS if apart else ROWS
    which_BU = torch.eye(ANTIGENS)[torch.arange(ROWS) % ANTIGENS].bfloat16() if apart else None
    return Batch(
        torch.randn(ROWS, 30, generator=random).bfloat16(),
        torch.randn(antigens, 21, generator=random).bfloat16(),
        which_BU,
        torch.randn(ROWS, generator=random),
        (torch.arange(ROWS) < ROWS - 2).float(),
    )


def by_autograd(model: Network, batch: Batch, loss: str, base: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.draw.base = base
    vectors = (batch.antibody_BD, batch.antigen_UD, batch.which_BU)
    dtype = model.head.weight.dtype
    score_B = model(*(None if x is None else x.to(dtype) for x in vectors))
    total = (pair_loss(score_B - batch.target_B, loss) * batch.weight_B).sum()
    return total.detach(), list(torch.autograd.grad(total / 17, list(model.parameters())))


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found.float() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("apart", [False, True], ids=["antigens per pair", "antigens apart"])
@pytest.mark.parametrize(("widths", "dropout"), [((33, 16, 70), 0.3), ((64,), 0.0), ((128, 64), 0.5)])
def test_gradients_are_those_of_autograd(built, tmp_path, loss, apart, widths, dropout) -> None:
    """Of every weight, against float32 with the same masks: within 2 %, and no worse than autograd in bf16."""
    config = TrainConfig(run=tmp_path, widths=widths, dropout=dropout, loss=loss, batch_size=ROWS)
    optimizer = Optimizer(network(widths, dropout), weight_decay=0.0, bf16=True, kernel=built)
    optimizer.begin_step()
    pairs, base = batch(apart=apart), 77
    found = Differentiator(built, optimizer, config).differentiate(Share(batch=pairs, rows=17, base=base, add=False))
    working = optimizer.working.train()
    expected, gradients = by_autograd(copy.deepcopy(working).float(), pairs, loss, base)
    _, halves = by_autograd(working, pairs, loss, base)
    assert found.item() == pytest.approx(expected.item(), rel=1e-2)
    errors = {}
    for (name, _), truth, half in zip(working.named_parameters(), gradients, halves, strict=True):
        errors[name] = relative(optimizer.gradients[name], truth), relative(half, truth)
    assert max(ours for ours, _ in errors.values()) < 0.02, errors
    assert sum(ours for ours, _ in errors.values()) < 1.2 * sum(other for _, other in errors.values()), errors


@pytest.mark.parametrize("clip", [0.1, 1e9])
def test_steps_are_those_of_torch(built, clip) -> None:
    """Ten steps from the same bf16 gradients: weights, averages and step count as torch leaves them."""
    one, other = network((33, 16), 0.0), network((33, 16), 0.0)
    ours = Optimizer(one, weight_decay=0.3, bf16=True, kernel=built)
    torchs = Optimizer(other, weight_decay=0.3, bf16=True)
    for step in range(10):
        for optimizer in (ours, torchs):
            optimizer.begin_step()
            torch.manual_seed(step)
            for gradient in optimizer.gradients.values():
                gradient.copy_(torch.randn(gradient.shape).bfloat16())
            optimizer.step(0.01 / (step + 1), clip=clip)
        assert all(torch.equal(ours.weights[name], weight.bfloat16()) for name, weight in one.named_parameters())
    for weight, truth in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight, truth, rtol=1e-4, atol=1e-6)
    for found, truth in zip(ours.state_dict()["parts"], torchs.state_dict()["parts"], strict=True):
        assert found["steps"] == truth["steps"] == 10
        torch.testing.assert_close(found["square"], truth["square"], rtol=1e-4, atol=1e-9)


def test_no_number_hides(built) -> None:
    """What is no number in a gradient reaches every weight, so that the loss tells."""
    model = network((33, 16), 0.0)
    optimizer = Optimizer(model, weight_decay=0.0, bf16=True, kernel=built)
    optimizer.gradients["head.bias"].fill_(torch.nan)
    optimizer.step(0.01, clip=1.0)
    assert all(weight.isnan().all() for weight in model.parameters())


def test_threads_change_nothing(built) -> None:
    """Both passes around a product give the same bits with one thread and with two."""
    torch.manual_seed(0)
    rows, width = 37, 70
    sums, gradient = torch.randn(2, rows, width).bfloat16()
    weights = LayerWeights(*torch.randn(3, width).bfloat16())
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            layer, gradients = Activation.of(rows, width), LayerWeights(*torch.zeros(3, width).bfloat16())
            layer.sum_BD.copy_(sums)
            built.activate(layer, weights, least=1e-5, first=Draw(5).base, dropped=1 << 14)
            layer.gradient_BD.copy_(gradient)
            built.activate_back(layer, weights, gradients)
            found = (layer.y_BD, layer.gradient_BD, gradients.bias_D, gradients.scale_D, gradients.shift_D)
            results.append([*found, built.norm(layer.y_BD)])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*results, strict=True):
        assert one == other if isinstance(one, float) else torch.equal(one, other)


def test_without_a_compiler_there_is_none_and_a_reason(monkeypatch) -> None:
    """Training then takes torch's own way."""
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert kernel.find_kernel.__wrapped__() == (None, "no C++ compiler (g++ or $CXX) was found")
