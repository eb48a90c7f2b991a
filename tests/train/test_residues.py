"""Attention pooling: its formula, the residues of each batch, what only it can learn, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embed.sequences import antibody_keys, antigen_keys
from train.attention_pooling import AttentionPooling, Residues
from train.config import TrainConfig
from train.dataset import VectorFolders, build_dataset, distinct_rows, residue_blocks
from train.errors import TrainError
from train.loader import Loader, Pairs, epoch_order
from train.predict import predict_rows
from train.regressor import Prepare
from train.residue_scale import ResidueScale
from train.rundir import RunDir
from train.stage import run_train
from train.streamed import Streamed
from train.sweep.config import SweepConfig
from train.sweep.stage import run_sweep
from train.weights import load_regressor


def residues_of(lengths, dim, seed=0):
    """Random residues whose columns have other means and deviations."""
    random = np.random.default_rng(seed)
    shift, scale = random.normal(3, 2, dim), random.uniform(0.1, 4, dim)
    return [(random.normal(size=(length, dim)) * scale + shift).astype(np.float16) for length in lengths]


def scaled(mean_D, scale_D):
    scale = ResidueScale(len(mean_D))
    scale.mean_D.copy_(torch.as_tensor(mean_D))
    scale.scale_D.copy_(torch.as_tensor(scale_D))
    return scale


def test_pooling_is_the_plain_formula():
    """Standardise all residues, score them, softmax, average: one sequence after the other, in float64."""
    torch.manual_seed(0)
    pooling, lengths = AttentionPooling(8, 3), [4, 4, 4, 9, 17, 17]
    sequences = residues_of(lengths, 8)
    every = np.concatenate(sequences).astype(np.float64)
    mean_D, deviation_D = every.mean(axis=0), every.std(axis=0)
    mean_UK = torch.randn(6, 5)
    residues = Residues(
        torch.from_numpy(np.concatenate(sequences)), ((3, 4), (1, 9), (2, 17)), mean_UK,
        torch.tensor([5, 0, 0, 2]), scaled(mean_D, 1 / deviation_D),
    )  # fmt: skip
    query_QD = pooling.query_QD.detach().double().numpy()
    expected = []
    for sequence, mean_K in zip(sequences, mean_UK.double().numpy(), strict=True):
        standard_LD = (sequence.astype(np.float64) - mean_D) / deviation_D
        score_QL = query_QD @ standard_LD.T / np.sqrt(8)
        weight_QL = np.exp(score_QL) / np.exp(score_QL).sum(axis=1, keepdims=True)
        expected.append(np.concatenate([mean_K, (weight_QL @ standard_LD).ravel()]))
    found = pooling(residues)
    np.testing.assert_allclose(found.detach().numpy(), np.stack(expected), rtol=1e-4, atol=1e-4)
    rows = residues.which() @ found
    assert torch.equal(rows, found[[5, 0, 0, 2]])
    assert pooling.width == 24


@pytest.fixture
def dataset(make_table, random_rows, embedded_residues):
    """Pairs of 12 antibodies and 5 antigens, all of whose residues have vectors."""
    table = make_table(random_rows(50))
    return build_dataset(table, embedded_residues(table))


def side_of(matrix, row_U, dtype=torch.float32):
    return Streamed(matrix, row_U, Prepare(matrix.dim), ResidueScale(matrix.dim), dtype)


def test_the_scale_is_that_of_all_training_residues(dataset):
    """Mean and deviation of each column over the residues of the sequences named, each once."""
    used = np.array([0, 3, 4, 9])
    scale = ResidueScale(6).fit(dataset.antibodies, used)
    every = dataset.antibodies.gather_residues(used).astype(np.float64)
    np.testing.assert_allclose(scale.mean_D, every.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale.scale_D, 1 / every.std(axis=0), rtol=1e-5)


def test_a_column_that_is_constant_over_residues_becomes_zero(make_table, random_rows, publish_residues):
    """It says nothing, and must not be blown up."""
    table = make_table(random_rows(20))
    states = [np.array([[1.5, number], [1.5, 1]]) for number in range(len(table.antigens))]
    folder = publish_residues("constant", antigen_keys(table.antigens), states)
    antibody = publish_residues("igt5", antibody_keys(table.antibodies), [np.eye(2)] * len(table.antibodies))
    antigens = build_dataset(table, VectorFolders(paired=antibody, single=antibody, antigen=folder)).antigens
    scale = ResidueScale(2).fit(antigens, np.arange(len(antigens)))
    assert scale.scale_D[0] == 0
    assert scale.scale_D[1] > 0


def test_blocks_of_residues_are_small_and_hold_each_row_once(dataset, monkeypatch):
    """However long the sequences; one alone may be larger."""
    monkeypatch.setattr("train.dataset._RESIDUE_VALUES", 400 * 6)
    index = np.array([3, 1, 1, 7, 0, 11])
    parts = list(residue_blocks(dataset.antibodies, index))
    assert np.concatenate(parts).tolist() == index.tolist()
    counts = [int(dataset.antibodies.residue_counts(part).sum()) for part in parts]
    assert len(parts) > 1
    assert max(counts) <= 400


@pytest.mark.parametrize("start", [0, 2])
def test_batches_hold_the_residues_of_their_distinct_sequences(dataset, start):
    """Each once, shorter ones first, with its mean; the same for the same seed and epoch, from any step on."""
    row_M2, (antibody_U, antigen_U) = distinct_rows(dataset.row_N2)
    pairs = Pairs(
        row_M2=row_M2, target_M=dataset.target_N,
        antibodies=side_of(dataset.antibodies, antibody_U), antigens=side_of(dataset.antigens, antigen_U),
    )  # fmt: skip
    order = epoch_order(3, 1, len(row_M2))
    loader = Loader(pairs, 8)
    seen = 0
    for step, batch in enumerate(loader.epoch(order, start), start):
        chosen = np.resize(order, loader.steps_per_epoch * 8)[step * 8 : step * 8 + 8]
        assert batch.target_B.tolist() == dataset.target_N[chosen].tolist()
        for number, (residues, matrix) in enumerate(
            ((batch.antibody_residues, dataset.antibodies), (batch.antigen_residues, dataset.antigens))
        ):
            assert sum(count for count, _ in residues.runs) == len(np.unique(dataset.row_N2[chosen, number]))
            lengths = np.repeat([n for _, n in residues.runs], [count for count, _ in residues.runs])
            assert sorted(lengths) == lengths.tolist()
            parts = np.split(residues.vector_TD.numpy(), np.cumsum(lengths)[:-1])
            for pair, place in zip(chosen, residues.place_B.tolist(), strict=True):
                row = dataset.row_N2[[pair], number]
                assert parts[place].tobytes() == matrix.gather_residues(row).tobytes()
                np.testing.assert_array_equal(residues.mean_UK[place], matrix.gather(row)[0])
        seen += 1
    assert seen == loader.steps_per_epoch - start


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_batches_are_those_of_the_cpu(dataset):
    """With a slow consumer and batches that grow, no buffer is overwritten while the device still reads it."""
    cuda, (row_M2, rows) = torch.device("cuda"), distinct_rows(dataset.row_N2)

    def batches(device):
        busy = torch.rand(4096, 4096, device=device) if device.type == "cuda" else None
        sides = [
            Streamed(matrix, row_U, Prepare(matrix.dim).to(device), ResidueScale(matrix.dim).to(device), torch.float32)
            for matrix, row_U in zip((dataset.antibodies, dataset.antigens), rows, strict=True)
        ]
        pairs = Pairs(row_M2=row_M2, target_M=dataset.target_N, antibodies=sides[0], antigens=sides[1])
        for batch in Loader(pairs, 4).epoch():
            if busy is not None:
                busy = (busy @ busy).tanh()  # the copies below wait behind it on the consumer's stream
            for residues in (batch.antibody_residues, batch.antigen_residues):
                yield residues.runs, *(x.clone() for x in (residues.vector_TD, residues.mean_UK, residues.place_B))

    for _ in range(3):
        for ours, expected in zip(list(batches(cuda)), list(batches(torch.device("cpu"))), strict=True):
            assert ours[0] == expected[0]
            assert all(torch.equal(one.cpu(), other) for one, other in zip(ours[1:], expected[1:], strict=True))


def rule(make_table, publish_residues, publish=None, antibodies=400, antigens=3):
    """Plant a rule that no mean shows: what one marked residue of the antibody carries, among as much noise."""
    random = np.random.default_rng(0)
    heavies = [
        "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for length in random.integers(24, 30, antibodies)
    ]
    targets = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)) for _ in range(antigens)]
    states, told = [], []
    for heavy in heavies:
        state_LD = random.normal(size=(len(heavy), 8))
        state_LD[:, 0] = 0
        place = random.integers(len(heavy))
        state_LD[place, 0] = 3  # the mark
        state_LD[:, 1] -= state_LD[:, 1].mean() - 0.1 * random.normal()  # the mean carries noise alone
        states.append(state_LD)
        told.append(state_LD[place, 1])
    rows = [
        (heavy, "", targets[number % antigens], round(8 + pkd, 4), "")
        for number, (heavy, pkd) in enumerate(zip(heavies, told, strict=True))
    ]
    table = make_table(rows)
    by_heavy = dict(zip(heavies, states, strict=True))
    antibody = publish_residues(
        "igt5", antibody_keys(table.antibodies), [by_heavy[heavy] for heavy, _ in table.antibodies], shard_rows=100
    )
    if publish is None:
        antigen = publish_residues("esm2", antigen_keys(table.antigens), [np.eye(40)[:, :3]] * antigens)
    else:
        antigen = publish("esm2", antigen_keys(table.antigens), np.eye(antigens, 4, dtype=np.float32))
    return table, VectorFolders(paired=antibody, single=antibody, antigen=antigen)


def train(source, run, **fields):
    table, folders = source
    given = {
        "run": run, "widths": (32, 16), "batch_size": 32, "epochs": 30, "lr": 1e-2, "dropout": 0.0, "queries": 4,
        "features": "standardise", "patience": 0, "device": "cpu", **fields,
    }  # fmt: skip
    return run_train(TrainConfig(**given), table, folders, resolved={})


@pytest.mark.parametrize(("precision", "plain_antigens"), [("fp32", False), ("bf16", True)])
def test_it_learns_what_no_mean_shows(make_table, publish_residues, publish, tmp_path, precision, plain_antigens):
    """Queries find the marked residue; ridge on means does not. The weights' file alone predicts the same again."""
    source = rule(make_table, publish_residues, publish if plain_antigens else None)
    result = train(source, tmp_path / "run", precision=precision)
    assert result.test["r2"] > 0.6
    assert result.baselines["ridge on vectors"]["test"]["r2"] < 0.2
    assert result.details["placement"] == "mapped"
    assert result.details["residues"] == (
        "4 queries beside the mean, of antibodies"
        if plain_antigens
        else "4 queries beside the mean, of antibodies and antigens"
    )
    regressor, facts = load_regressor(RunDir(tmp_path / "run").weights)
    assert facts["queries"] == [4, 0 if plain_antigens else 4]
    assert regressor.network.antibody_pooling.query_QD.shape == (4, 8)
    table, folders = source
    dataset = build_dataset(table, folders)
    whole = predict_rows(tmp_path / "run", dataset)
    some = np.random.default_rng(0).permutation(len(dataset))[:50]
    part = replace(dataset, row_N2=dataset.row_N2[some], target_N=dataset.target_N[some])
    np.testing.assert_allclose(predict_rows(tmp_path / "run", part), whole[some], atol=1e-4)


def test_what_cannot_be_is_refused(make_table, publish_residues, publish, tmp_path):
    """Placements and compiling that are for one vector each, and predicting on a store of those."""
    source = rule(make_table, publish_residues, antibodies=40)
    for placement in ("device", "pinned"):
        with pytest.raises(TrainError, match=f'placement = "{placement}": vectors of residues are read'):
            train(source, tmp_path / placement, placement=placement)
    with pytest.raises(TrainError, match=r'train.compile = "default" is for batches of one shape'):
        train(source, tmp_path / "compiled", compile="default")
    train(source, tmp_path / "run", epochs=1)
    table, folders = source
    plain = publish("plain", antibody_keys(table.antibodies), np.zeros((len(table.antibodies), 8), np.float32))
    other = build_dataset(table, replace(folders, paired=plain, single=plain))
    with pytest.raises(TrainError, match="reads vectors of antibody residues, and the store has one vector"):
        predict_rows(tmp_path / "run", other)


def test_residues_of_paired_antibodies_alone_are_refused(make_table, random_rows, publish, publish_residues):
    """Antibodies of both kinds must have the same kind of vectors."""
    table = make_table(random_rows(50))
    keys, alone = antibody_keys(table.antibodies), np.array([light is None for _, light in table.antibodies])
    folders = VectorFolders(
        paired=publish_residues("igt5", keys[~alone], [np.ones((2, 4))] * int((~alone).sum())),
        single=publish("alone", keys[alone], np.ones((int(alone.sum()), 4), np.float32)),
        antigen=publish("esm2", antigen_keys(table.antigens), np.ones((len(table.antigens), 4), np.float32)),
    )
    with pytest.raises(TrainError, match=r'one vector each: use embed.single_chain = "same"'):
        build_dataset(table, folders)


def test_a_sweep_trains_them_one_by_one(make_table, publish_residues, tmp_path):
    """Trials on residues are ordinary runs, whatever the sweep says of packs."""
    table, folders = rule(make_table, publish_residues, antibodies=60)
    sweep = SweepConfig(folder=tmp_path / "sweep", space={"queries": {"int": (1, 3)}}, population=2)
    base = TrainConfig(run=tmp_path / "base", widths=(8,), batch_size=16, epochs=2, device="cpu")
    result = run_sweep(sweep, base, table, folders, wanted=3, resolved=lambda config: {})
    assert result.trials == 3
    for number in range(3):
        regressor, facts = load_regressor(RunDir(tmp_path / "sweep" / "trials" / f"{number:05d}").weights)
        assert facts["queries"][0] == regressor.network.antigen_pooling.query_QD.shape[0]
