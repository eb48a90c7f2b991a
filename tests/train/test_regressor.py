"""The network: what prepares its input, recomputed activations, and compiling once for all batches."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.acceleration import antigens_apart, compile_mode, has_compiler, resolve_device
from train.config import Head
from train.dataset import Matrix
from train.errors import TrainError
from train.features import fit_preparation
from train.regressor import Network, Prepare
from train.schedule import Stopper, learning_rate, rows_of_step

CPU = torch.device("cpu")
HEADS = get_args(Head)


def neighbours(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Vectors that differ in the fourth digit along correlated directions, as point mutants do."""
    random = np.random.default_rng(seed)
    spread = random.normal(size=(rows, dim)) @ random.normal(size=(dim, dim)) * 1e-4
    return (random.normal(size=dim) + spread).astype(np.float32)


def test_whitened_training_vectors_are_uncorrelated_with_unit_variance() -> None:
    """On the training pairs (vectors counted as often as used) the covariance is the identity, ridge aside."""
    vector_UD = neighbours(500, 6)
    count_U = np.random.default_rng(1).integers(0, 4, 500)
    found = fit_preparation(Matrix.of(vector_UD), count_U, "whiten")
    used = np.repeat(vector_UD, count_U, axis=0).astype(np.float64)
    prepared = (used - found.mean_D) @ found.map_DK
    variance, axes = np.linalg.eigh(np.cov(used.T, bias=True))
    expected = variance / (variance + 1e-4 * variance.max())
    np.testing.assert_allclose(np.sort(np.var(prepared, axis=0)), np.sort(expected), rtol=1e-2)
    np.testing.assert_allclose(np.cov(prepared.T, bias=True), np.diag(np.var(prepared, axis=0)), atol=1e-2)
    assert axes.shape == (6, 6)


def test_standardised_columns_have_mean_0_and_deviation_1() -> None:
    """Columns of the training pairs are centred and scaled, one by one."""
    vector_UD = neighbours(300, 5)
    found = fit_preparation(Matrix.of(vector_UD), np.ones(300, np.int64), "standardise")
    prepared = (vector_UD - found.mean_D) @ found.map_DK
    np.testing.assert_allclose(prepared.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(prepared.std(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("features", ["standardise", "whiten"])
def test_a_constant_column_becomes_zero(features) -> None:
    """One antigen in training: its vector says nothing, and another antigen must not be blown up."""
    vector_UD = np.array([[0.3, -1.7], [0.9, 2.0]], np.float32)
    found = fit_preparation(Matrix.of(vector_UD), np.array([50, 0]), features)
    np.testing.assert_array_equal((vector_UD - found.mean_D) @ found.map_DK, 0)


def plain_whitening(vector_UD: np.ndarray, count_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and map by the formula, all columns at once: axes over the roots of their variances, raised a little."""
    used_ND = np.repeat(vector_UD, count_U, axis=0).astype(np.float64)
    variance, axes = np.linalg.eigh(np.cov(used_ND.T, bias=True))
    kept = variance > 1e-9 * variance.max()
    return used_ND.mean(axis=0), axes[:, kept] / np.sqrt(variance[kept] + 1e-4 * variance.max())


@pytest.mark.parametrize(("rows", "constant"), [(400, 0), (400, 7), (9, 0), (9, 7), (24, 3)])
def test_whitening_by_either_matrix_is_the_plain_formula(rows, constant) -> None:
    """More vectors than columns or fewer, some columns constant: distances and products of any vectors are the same."""
    random = np.random.default_rng(rows)
    vector_UD = random.normal(size=(rows, 24 - constant)) @ random.normal(size=(24 - constant, 24 - constant)) + 3
    vector_UD = np.insert(vector_UD, np.arange(constant) * 2, 0.7, axis=1).astype(np.float32)
    count_U = random.integers(1, 4, rows)
    found = fit_preparation(Matrix.of(vector_UD), count_U, "whiten")
    mean_D, map_DA = plain_whitening(vector_UD, count_U)
    asked_MD = vector_UD.mean(axis=0) + random.normal(size=(50, 24)) * vector_UD.std(axis=0)
    ours_MK, plain_MA = (asked_MD - found.mean_D) @ found.map_DK, (asked_MD - mean_D) @ map_DA
    np.testing.assert_allclose(ours_MK @ ours_MK.T, plain_MA @ plain_MA.T, rtol=1e-3, atol=1e-3)
    assert found.axes <= 24
    assert np.count_nonzero(found.map_DK.any(axis=0)) == map_DA.shape[1] == min(rows - 1, 24 - constant)


@pytest.mark.parametrize("features", ["standardise", "whiten"])
def test_wide_vectors_of_few_pairs_have_few_axes(features) -> None:
    """20 point mutants of one-hot width: what is constant in training is left out of what the network reads."""
    random = np.random.default_rng(0)
    vector_UD = np.zeros((20, 2000), np.float32)
    vector_UD[:, ::20] = 1
    for row, place in enumerate(random.integers(0, 100, 20) * 20):
        vector_UD[row, [place, place + 1 + row % 19]] = 0, 1
    found = fit_preparation(Matrix.of(vector_UD), np.ones(20, np.int64), features)
    assert found.axes <= 48
    prepared = (vector_UD - found.mean_D) @ found.map_DK
    assert len(np.unique(prepared.round(4), axis=0)) == len(np.unique(vector_UD, axis=0))


def prepare_of(vector_UD: np.ndarray) -> Prepare:
    preparation = fit_preparation(Matrix.of(vector_UD), np.ones(len(vector_UD), np.int64), "whiten")
    prepare = Prepare(vector_UD.shape[1], preparation.axes)
    prepare.fit(preparation)
    return prepare


def test_neighbours_stay_apart_in_bf16() -> None:
    """Prepared in float32, then rounded: neighbours keep their distances, where bf16 vectors would be the same."""
    vectors = torch.from_numpy(neighbours(64, 8))
    prepared = prepare_of(vectors.numpy())(vectors)
    rounded = prepared.bfloat16().float()
    exact, found = (torch.pdist(rows) for rows in (prepared, rounded))
    assert torch.corrcoef(torch.stack([exact, found]))[0, 1] > 0.9999
    assert len(torch.unique(vectors.bfloat16().float(), dim=0)) < 32


@pytest.mark.parametrize("dim", [6, 1024])
def test_a_prepared_row_does_not_depend_on_its_neighbours(dim) -> None:
    """Alone, among others, in any place: the same bits; and they are (vector - mean) @ map."""
    vectors = torch.from_numpy(neighbours(300, dim))
    prepare = prepare_of(vectors.numpy())
    whole = prepare(vectors)
    expected = (vectors.double() - prepare.mean_D.double()) @ prepare.map_DK.double()
    torch.testing.assert_close(whole.double(), expected, rtol=1e-3, atol=1e-3)
    random = np.random.default_rng(0)
    for rows in (1, 2, 33, 128, 129, 250):
        some = torch.from_numpy(random.permutation(300)[:rows])
        assert torch.equal(prepare(vectors[some]), whole[some])


def _gradients(checkpointing: str, inputs: tuple[torch.Tensor, ...], head: str = "concat") -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = Network(12, 8, widths=(64, 32, 16), head=head, dropout=0.3, checkpointing=checkpointing).train()
    network(*inputs).square().sum().backward()
    return [parameter.grad for parameter in network.parameters()]


def distinct_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """16 pairs of 3 antigens."""
    torch.manual_seed(1)
    return torch.randn(16, 12), torch.randn(3, 8), torch.eye(3)[torch.randint(0, 3, (16,))]


@pytest.mark.parametrize("checkpointing", ["wide", "all"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_recomputing_changes_no_gradient(checkpointing, apart, head) -> None:
    """Gradients are bit-equal with and without recomputation, dropout included."""
    inputs = distinct_inputs() if apart else (torch.randn(16, 12), torch.randn(16, 8))
    pairs = zip(_gradients("none", inputs, head), _gradients(checkpointing, inputs, head), strict=True)
    for plain, recomputed in pairs:
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("head", HEADS)
def test_reading_each_antigen_once_changes_no_sum(head) -> None:
    """Scores and gradients are those of one antigen vector per pair, up to the order of summation."""
    antibody_BD, antigen_UD, which_BU = distinct_inputs()
    once = _gradients("none", (antibody_BD, antigen_UD, which_BU), head)
    each = _gradients("none", (antibody_BD, which_BU @ antigen_UD), head)
    for one, other in zip(once, each, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    network = Network(12, 8, widths=(64, 32), head=head).eval()
    torch.testing.assert_close(
        network(antibody_BD, antigen_UD, which_BU), network(antibody_BD, which_BU @ antigen_UD), rtol=1e-5, atol=1e-6
    )


def _joined(head: str, x: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """What each head says of both vectors end to end, [5, 20] to [5, 16]."""
    first = {name.removeprefix("blocks.0.linear."): weight for name, weight in weights.items()}
    if head == "concat":
        return x @ torch.cat([first["antibody"], first["antigen"]], dim=1).T + first["bias"]
    antibody = x @ torch.cat([first["antibody"], torch.zeros_like(first["antigen"])], dim=1).T + first["bias"]
    antigen = x @ torch.cat([torch.zeros_like(first["antibody"]), first["antigen"]], dim=1).T + first["antigen_bias"]
    if head == "difference":
        features = torch.cat([antibody, antigen, (antibody - antigen).abs(), antibody * antigen], dim=1)
        return features @ first["join.mix.weight"].T + first["join.mix.bias"]
    a1, a2, g1, g2 = antibody[:, :16], antibody[:, 16:], antigen[:, :16], antigen[:, 16:]
    return a1 + g1 + a2 * g2 if head == "bilinear" else a1 / (1 + torch.exp(-g2)) + g1 / (1 + torch.exp(-a2))


@pytest.mark.parametrize("head", HEADS)
def test_the_network_is_what_it_says(head) -> None:
    """What the head joins, LayerNorm, GELU, ..., linear: computed again from the weights alone, in float64."""
    torch.manual_seed(0)
    network = Network(12, 8, widths=(16, 4), head=head).eval()
    antibody_BD, antigen_BD = torch.randn(5, 12), torch.randn(5, 8)
    for name, weight in network.named_parameters():
        if name.endswith("bias"):  # some begin as zeros, which would hide them
            torch.nn.init.normal_(weight)
    weights = {name: weight.double() for name, weight in network.state_dict().items()}
    x = _joined(head, torch.cat([antibody_BD, antigen_BD], dim=1).double(), weights)
    for number in range(2):
        if number:
            x = x @ weights["blocks.1.linear.weight"].T + weights["blocks.1.linear.bias"]
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = x * weights[f"blocks.{number}.norm.weight"] + weights[f"blocks.{number}.norm.bias"]
        x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    expected = (x @ weights["head.weight"].T + weights["head.bias"]).squeeze(1)
    torch.testing.assert_close(network(antibody_BD, antigen_BD).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("checkpointing", "recomputed"), [("none", 0), ("wide", 1), ("all", 3)])
def test_checkpointing_names_its_blocks(checkpointing, recomputed) -> None:
    """`wide` recomputes the widest block, `all` every one: fewer activations are kept for the backward pass."""
    calls = []
    network = Network(12, 8, widths=(64, 32, 16), checkpointing=checkpointing).train()
    for block in network.blocks:
        block.linear.register_forward_pre_hook(lambda *_: calls.append(1))
    network(torch.randn(4, 12), torch.randn(4, 8)).sum().backward()
    assert len(calls) == 3 + recomputed


@given(st.integers(1, 500), st.floats(0, 1), st.floats(1e-6, 1))
@settings(deadline=None, max_examples=100)
def test_the_learning_rate_rises_once_then_falls_to_nothing(total, warmup, peak) -> None:
    """Never above the peak, never negative, rising then falling."""
    rates = [learning_rate(step, total=total, warmup=warmup, peak=peak) for step in range(total)]
    assert all(0 <= rate <= peak * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert learning_rate(total, total=total, warmup=0.0, peak=peak) == pytest.approx(0, abs=1e-12)


@given(st.integers(1, 1000), st.integers(1, 64), st.integers(1, 8))
@settings(deadline=None, max_examples=100)
def test_steps_share_out_all_rows(rows, batch_size, accumulation) -> None:
    """The rows of an epoch's steps add up to the epoch, none empty."""
    steps = math.ceil(math.ceil(rows / batch_size) / accumulation)
    shares = [rows_of_step(step, rows=rows, batch_size=batch_size, accumulation=accumulation) for step in range(steps)]
    assert sum(shares) == rows
    assert min(shares) > 0


def test_early_stopping_waits_and_never_takes_nan() -> None:
    """The best is kept with its epoch and step; `patience` epochs without a better one end it, 0 never."""
    stopper = Stopper()
    for epoch, error in enumerate([3.0, 2.0, math.nan, 2.0], 1):
        stopper = stopper.after(error, epoch=epoch, step=10 * epoch)
    assert (stopper.best, stopper.best_epoch, stopper.best_step) == (2.0, 2, 20)
    assert stopper.is_done(2)
    assert not stopper.is_done(3)
    assert not stopper.is_done(0)


def test_compiling_is_decided_by_length_compiler_and_accumulation() -> None:
    """`auto` compiles long trainings, and says why not; CUDA graphs never meet accumulation."""

    def mode(asked, *, device="cuda", batches=10**9, accumulation=1, compiler=True):
        return compile_mode(
            asked, device=torch.device(device), batches=batches, accumulation=accumulation, compiler=compiler
        )

    assert mode("auto")[0] == "default"
    assert mode("auto", batches=100) == (None, "the training is too short to win the compile time back")
    assert mode("auto", compiler=False) == (None, "no C++ compiler (g++ or $CXX) found")
    assert mode("auto", device="cpu") == (None, "a compiled batch is no faster on the CPU")
    assert mode("off")[0] is None
    assert mode("max-autotune")[0] == "max-autotune"
    assert mode("max-autotune", accumulation=2)[0] == "max-autotune-no-cudagraphs"
    with pytest.raises(TrainError, match=r"train.compile = 'default' needs a C\+\+ compiler"):
        mode("default", compiler=False)


def test_few_antigens_are_read_once_per_batch() -> None:
    """Up to half a batch of antigens in training; above, the reason counts the distinct antigens of a batch."""
    few = np.zeros(500, np.int64)
    few[:64] = 10
    assert antigens_apart(few, 128) == (True, "once per antigen: 64 for each batch of 128 pairs")
    few[64] = 10
    assert not antigens_apart(few, 128)[0]
    random = np.random.default_rng(0)
    count_U = random.integers(1, 40, 5000)
    apart, why = antigens_apart(count_U, 128)
    drawn = [len(np.unique(random.choice(5000, 128, p=count_U / count_U.sum()))) for _ in range(200)]
    assert not apart
    assert f"a batch of 128 has about {np.mean(drawn):.0f} distinct of 5,000 antigens" in why


def test_a_missing_gpu_is_refused_by_name() -> None:
    """A CUDA device that is not there is an error that names it, and `auto` finds something."""
    with pytest.raises(TrainError, match=r"train\.device = 'cuda:99'"):
        resolve_device("cuda:99")
    assert resolve_device("auto").type in ("cpu", "cuda")


def test_no_compiler_is_found_where_there_is_none(monkeypatch) -> None:
    """The search follows $CXX, as the compiler of torch does."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler()
