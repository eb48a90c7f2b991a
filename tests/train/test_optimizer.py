"""The flat optimizer does what AdamW, clipping and autocast do to weights that lie apart."""

import copy

import pytest
import torch
from torch import nn

from train.errors import TrainError
from train.optimizer import Optimizer
from train.regressor import Network


def network() -> Network:
    torch.manual_seed(0)
    return Network(7, 5, widths=(13, 6))  # sizes that leave gaps between the weights


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(number)
    return torch.randn(9, 7), torch.randn(9, 5), torch.randn(9)


def loss_of(model: nn.Module, number: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    antibody_BD, antigen_BD, target_B = batch(number)
    return (model(antibody_BD.to(dtype), antigen_BD.to(dtype)) - target_B).square().sum()


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("clip", [0.1, 1e9])
def test_steps_are_those_of_adamw(accumulation, clip) -> None:
    """Float32: weights after ten steps are those of torch's AdamW on the weights one by one."""
    plain, flat = network(), network()
    matrices, others = ([w for w in plain.parameters() if (w.ndim > 1) == is_matrix] for is_matrix in (True, False))
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}])
    optimizer = Optimizer(flat, weight_decay=0.3, bf16=False)
    assert optimizer.working is flat
    for step in range(10):
        rate = 0.01 / (step + 1)
        optimizer.begin_step()
        for number in range(accumulation):
            loss_of(plain, 10 * step + number).backward()
            loss_of(flat, 10 * step + number).backward()
            optimizer.take_gradients(add=number > 0)
        nn.utils.clip_grad_norm_(plain.parameters(), clip)
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.step()
        adamw.zero_grad()
        optimizer.step(rate, clip=clip)
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(flat.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_bf16_computes_with_rounded_copies() -> None:
    """Losses are those of weights rounded to bf16, gradients reach float32 weights, which keep small steps."""
    plain = network()
    optimizer = Optimizer(plain, weight_decay=0.0, bf16=True)
    optimizer.begin_step()
    rounded = copy.deepcopy(plain).bfloat16()
    loss, expected = (loss_of(model, 1, torch.bfloat16) for model in (optimizer.working, rounded))
    assert torch.equal(loss, expected)
    loss.backward()
    expected.backward()
    optimizer.take_gradients(add=False)
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    optimizer.step(1e-6, clip=1e9)
    for name, weight in plain.named_parameters():
        moved = weight.detach() - before[name]
        told = rounded.get_parameter(name).grad.float()
        large = told.abs() > 1e-3
        assert weight.dtype == torch.float32
        assert torch.equal(moved[large].sign(), -told[large].sign())  # the first step of Adam is the sign
    assert all(torch.equal(a, b) for a, b in zip(optimizer.working.parameters(), rounded.parameters(), strict=True))
    optimizer.begin_step()
    for working, weight in zip(optimizer.working.parameters(), plain.parameters(), strict=True):
        assert torch.equal(working, weight.bfloat16())


def test_a_network_with_loaded_weights_goes_on() -> None:
    """Weights and optimizer state loaded into another network lead to the same next step."""
    one, other = network(), Network(7, 5, widths=(13, 6))
    optimizers = [Optimizer(model, weight_decay=0.1, bf16=True) for model in (one, other)]

    def step(number: int, optimizer: Optimizer) -> None:
        optimizer.begin_step()
        loss_of(optimizer.working, number, torch.bfloat16).backward()
        optimizer.take_gradients(add=False)
        optimizer.step(0.01, clip=1.0)

    step(1, optimizers[0])
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for optimizer in optimizers:
        step(2, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_network_moves_with_its_working_copy() -> None:
    """Joining others between a step's beginning and its loss changes no loss."""
    optimizer = Optimizer(network(), weight_decay=0.1, bf16=True)
    optimizer.begin_step()
    before = loss_of(optimizer.working, 1, torch.bfloat16)
    optimizer.lie_in(optimizer.room(2).each()[1])
    assert torch.equal(loss_of(optimizer.working, 1, torch.bfloat16), before)


def test_the_state_of_an_earlier_version_is_refused() -> None:
    """That of torch's AdamW, which checkpoints held once: the sentence says what to do."""
    model = network()
    state = torch.optim.AdamW([*model.parameters()]).state_dict()
    with pytest.raises(TrainError, match=r"earlier version .*set train\.run to another folder"):
        Optimizer(model, weight_decay=0.1, bf16=False).load_state_dict(state)
