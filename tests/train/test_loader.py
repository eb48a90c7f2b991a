"""Batches: the same from every placement, each row once, an order that knows nothing but the seed."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.dataset import Dataset, Matrix, build_dataset, distinct_rows
from train.loader import Batch, Loader, Pairs, epoch_order
from train.prepared import Mapped, place
from train.regressor import Prepare

CPU = torch.device("cpu")
PLACEMENTS = ["device", "pinned", "mapped"]


@pytest.fixture
def dataset(make_table, random_rows, embedded) -> Dataset:
    """50 pairs in a real table and store."""
    table = make_table(random_rows(50))
    return build_dataset(table, embedded(table))


def pairs_of(dataset: Dataset, index_M=None, placement="device", *, device=CPU, dtype=torch.float32, near=False):
    """Place vectors that preparing leaves as they are."""
    index_M = np.arange(len(dataset)) if index_M is None else index_M
    row_M2, sides = distinct_rows(dataset.row_N2[index_M])
    antibodies, antigens = (
        Mapped(matrix, rows, Prepare(matrix.dim).to(device), dtype)
        for matrix, rows in zip((dataset.antibodies, dataset.antigens), sides, strict=True)
    )
    return Pairs(
        row_M2=row_M2,
        target_M=dataset.target_N[index_M],
        antibodies=place(antibodies, placement),
        antigens=place(antigens, "device" if near else placement),
    )


def tensors(batch: Batch) -> list[torch.Tensor]:
    antigen_BD = batch.antigen_UD if batch.which_BU is None else batch.which_BU @ batch.antigen_UD
    return [batch.antibody_BD, antigen_BD, batch.target_B, batch.weight_B]


def copied(batches) -> list[list[torch.Tensor]]:
    return [[tensor.cpu().clone() for tensor in tensors(batch)] for batch in batches]


def assert_same(one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.mark.parametrize("batch_size", [1, 7, 45, 64])
@pytest.mark.parametrize("start", [0, 2])
def test_three_placements_give_identical_batches(dataset, batch_size, start) -> None:
    """Byte for byte, the padded last batch and a resumed epoch too; and they are the rows asked for."""
    index_M = np.arange(50)[np.arange(50) % 10 != 0]
    order_M = epoch_order(0, 1, len(index_M))
    found = {
        placement: copied(Loader(pairs_of(dataset, index_M, placement), batch_size).epoch(order_M, start))
        for placement in PLACEMENTS
    }
    assert_same(found["device"], found["pinned"])
    assert_same(found["device"], found["mapped"])

    rows = index_M[order_M][start * batch_size :]
    weights = torch.cat([batch[3] for batch in found["mapped"]] or [torch.empty(0)])
    assert weights.tolist() == [1.0] * len(rows) + [0.0] * (len(weights) - len(rows))
    if len(rows):
        features = torch.cat([torch.hstack(batch[:2]) for batch in found["mapped"]])[: len(rows)]
        np.testing.assert_array_equal(features, dataset.features(rows))
        targets = torch.cat([batch[2] for batch in found["mapped"]])[: len(rows)]
        np.testing.assert_array_equal(targets, dataset.target_N[rows])


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_antigens_apart_are_the_same_antigens(dataset, placement, dtype) -> None:
    """A batch that holds every antigen once, and says who has which, means the pairs that the other batch lists."""
    loaders = [
        Loader(pairs_of(dataset, placement=placement, dtype=dtype, near=apart), 16, antigens_apart=apart)
        for apart in (False, True)
    ]
    order_M = epoch_order(0, 0, 50)
    plain, apart = (copied(loader.epoch(order_M)) for loader in loaders)
    assert_same(plain, apart)
    batch = next(loaders[1].epoch(order_M))
    assert batch.which_BU is not None
    assert tuple(batch.which_BU.shape) == (16, len(dataset.antigens))
    assert len(batch.antigen_UD) == len(dataset.antigens) < 16


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_batch_is_whole_and_finite(dataset, placement) -> None:
    """Padding repeats real rows, so a compiled step sees one shape and no NaN."""
    loader = Loader(pairs_of(dataset, placement=placement), 16)
    batches = copied(loader.epoch())
    assert loader.steps_per_epoch == len(batches) == 4
    for batch in batches:
        assert [tuple(tensor.shape) for tensor in batch] == [(16, 6), (16, 5), (16,), (16,)]
        assert all(torch.isfinite(tensor).all() for tensor in batch)
    assert sum(float(batch[3].sum()) for batch in batches) == 50


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_resumed_epoch_is_the_rest_of_the_epoch(dataset, placement) -> None:
    """Starting at batch k gives what an unbroken epoch gives from batch k on, to the very end."""
    loader = Loader(pairs_of(dataset, placement=placement), 8)
    order_M = epoch_order(3, 0, 50)
    whole = copied(loader.epoch(order_M))
    for start in range(8):
        assert_same(copied(loader.epoch(order_M, start)), whole[start:])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_lives_until_the_next_but_one_is_asked_for(dataset, placement) -> None:
    """Two batches in hand stay what they were, however long the thread had for the next."""
    loader = Loader(pairs_of(dataset, placement=placement), 5)
    before: tuple[Batch, list[torch.Tensor]] | None = None
    for batch in loader.epoch():
        taken = batch, [tensor.clone() for tensor in tensors(batch)]
        threading.Event().wait(0.01)
        for held, copy in filter(None, (before, taken)):
            assert all(torch.equal(a, b) for a, b in zip(tensors(held), copy, strict=True))
        before = taken


def test_buffers_are_used_again(dataset) -> None:
    """Ten batches from the shards are read into three buffers."""
    loader = Loader(pairs_of(dataset, placement="mapped"), 5)
    assert len({batch.target_B.data_ptr() for batch in loader.epoch()}) == 3


def test_two_epochs_of_one_loader_do_not_share_buffers(dataset) -> None:
    """Two iterators side by side see their own batches."""
    loader = Loader(pairs_of(dataset, placement="mapped"), 5)
    whole = copied(loader.epoch())
    both = [(copied([one])[0], copied([two])[0]) for one, two in zip(loader.epoch(), loader.epoch(), strict=True)]
    assert_same([one for one, _ in both], whole)
    assert_same([two for _, two in both], whole)


def test_the_thread_ends_when_the_consumer_stops(dataset) -> None:
    """Closed early, left by an exception, or read to the end: no thread stays."""
    loader = Loader(pairs_of(dataset, placement="mapped"), 5)
    batches = loader.epoch()
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()

    def fail() -> None:
        for _ in loader.epoch():
            raise KeyError("the consumer's own")

    with pytest.raises(KeyError):
        fail()
    assert not loader_threads()
    assert len(list(loader.epoch())) == 10
    assert not loader_threads()


def test_an_error_in_the_thread_reaches_the_consumer(dataset, monkeypatch) -> None:
    """The third batch cannot be read: two arrive, then the error, and the thread is gone."""
    gather, calls = dataset.antibodies.gather, []

    def failing(index_B, out_BD=None):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("the disk is gone")
        return gather(index_B, out_BD)

    monkeypatch.setattr(dataset.antibodies, "gather", failing)
    batches = Loader(pairs_of(dataset, placement="mapped"), 5).epoch()
    next(batches)
    next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not loader_threads()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 300))
def test_an_order_holds_each_row_once_and_only_its_arguments_make_it(seed, epoch, rows) -> None:
    """A permutation, the same again whatever else drew random numbers."""
    order = epoch_order(seed, epoch, rows)
    np.random.default_rng().normal(size=3)
    torch.rand(3)
    assert sorted(order.tolist()) == list(range(rows))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, rows))


def test_epochs_and_seeds_differ() -> None:
    """Neither epoch 1 of seed 0 nor epoch 0 of seed 1 repeats the first order."""
    orders = {tuple(epoch_order(seed, epoch, 100)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_each_row_comes_once_per_epoch() -> None:
    """Targets that are row numbers come out complete, in the order asked for."""
    rows = 103
    dataset = Dataset(
        row_N2=np.stack([np.arange(rows), np.zeros(rows, np.int64)], axis=1),
        target_N=np.arange(rows, dtype=np.float32),
        antibodies=Matrix.of(np.arange(rows, dtype=np.float32)[:, None]),
        antigens=Matrix.of(np.zeros((1, 1), np.float32)),
        id=[str(row) for row in range(rows)],
    )
    order = epoch_order(0, 0, rows)
    for placement in ("device", "mapped"):
        loader = Loader(pairs_of(dataset, placement=placement), 10)
        seen = [
            (target, row)
            for batch in loader.epoch(order)
            for target, row, weight in zip(
                batch.target_B.tolist(),
                batch.antibody_BD[:, 0].tolist(),
                batch.weight_B.tolist(),
                strict=True,
            )
            if weight
        ]
        assert seen == [(row, row) for row in order.tolist()]


def test_order_never_follows_length(make_table, random_rows, embedded) -> None:
    """The store is written in order of length; batch number and length are as uncorrelated as chance has it.

    Under a random order the correlation has standard deviation 1 / sqrt(n - 1); over 40 epochs its largest
    size stays below 5 of them, and its mean within 5 standard errors of 0.
    """
    table = make_table(sorted(random_rows(50), key=lambda row: len(row[0]) + len(row[1]) + len(row[2])))
    length_N = np.array(
        [sum(map(len, filter(None, table.antibodies[a]))) + len(table.antigens[g]) for a, g in table.pair_N2]
    )
    assert len(set(length_N.tolist())) > 20
    dataset = build_dataset(table, embedded(table))
    dataset.target_N[:] = length_N
    found = []
    loader = Loader(pairs_of(dataset), 5)
    for epoch in range(40):
        batches = copied(loader.epoch(epoch_order(0, epoch, 50)))
        number = np.repeat(np.arange(10), 5)
        found.append(np.corrcoef(number, torch.cat([batch[2] for batch in batches]))[0, 1])
    deviation = 1 / np.sqrt(49)
    assert np.abs(found).max() < 5 * deviation
    assert abs(np.mean(found)) < 5 * deviation / np.sqrt(40)
    unshuffled = torch.cat([batch[2] for batch in copied(loader.epoch())])
    assert np.corrcoef(np.repeat(np.arange(10), 5), unshuffled)[0, 1] > 0.9  # the test would see it


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_cuda_batches_are_those_of_the_cpu(placement) -> None:
    """With a slow consumer of large batches, no buffer is overwritten while the device still reads it."""
    random = np.random.default_rng(0)
    rows = 20_000
    dataset = Dataset(
        row_N2=np.stack([random.permutation(rows), random.integers(0, 5, rows)], axis=1),
        target_N=random.normal(size=rows).astype(np.float32),
        antibodies=Matrix.of(random.normal(size=(rows, 1024)).astype(np.float32)),
        antigens=Matrix.of(random.normal(size=(5, 1280)).astype(np.float32)),
        id=[""] * rows,
    )
    order = epoch_order(0, 0, rows)
    expected = copied(Loader(pairs_of(dataset), 512).epoch(order))
    cuda = torch.device("cuda")
    busy = torch.rand(4096, 4096, device=cuda)
    for _ in range(3):
        found = []
        for batch in Loader(pairs_of(dataset, placement=placement, device=cuda), 512).epoch(order):
            busy = (busy @ busy).tanh()  # the copies below wait behind it on the consumer's stream
            found.append([tensor.clone() for tensor in tensors(batch)])
        assert_same([[tensor.cpu() for tensor in batch] for batch in found], expected)
