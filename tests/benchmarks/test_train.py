"""The benchmark of training: all contestants read the same pairs, and its rows say what was measured."""

import json
from statistics import stdev

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.train import CONTESTANTS, Size, main, run_rounds, summarise
from benchmarks.training_data import Data, write_data
from benchmarks.training_usual import RowByRow, copied
from train.dataset import build_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return write_data(tmp_path_factory.mktemp("data"), pairs=90, antibodies=40, antigens=7)


def test_all_contestants_read_the_same(data) -> None:
    """The HDF5 file row by row, the copy in memory, and the store hold the same vectors and affinities."""
    dataset = build_dataset(data.read(), data.folders())
    index = np.random.default_rng(0).permutation(90)[:50]
    rows, whole = RowByRow(data, index), copied(data, index)
    feature_MF = dataset.features(index)
    assert feature_MF.shape == (50, 2304)
    np.testing.assert_array_equal(np.stack([rows[at][0] for at in range(50)]), feature_MF)
    np.testing.assert_array_equal(whole.tensors[0], feature_MF)
    for target in ([rows[at][1] for at in range(50)], whole.tensors[1]):
        np.testing.assert_allclose(target, dataset.target_N[index], rtol=1e-6)


def test_the_table_has_the_pairs_asked_for(data) -> None:
    """90 distinct pairs that use all 40 antibodies and 7 antigens; the same arguments write the same."""
    table = data.read()
    assert (len(table.id), len(table.antibodies), len(table.antigens)) == (90, 40, 7)
    assert len({tuple(pair) for pair in table.pair_N2.tolist()}) == 90


def answers_of(paces: list[float]) -> list[dict]:
    return [
        {
            "pairs": 100,
            "steps_seconds": 100 / pace,
            "seconds": 3.0,
            "setup_seconds": 1.0,
            "spearman": 0.5 + 0.1 * n,
            "r2": 0.5,
            "peak_memory_bytes": n,
            "notes": {"workers": n, "why": "so"},
        }
        for n, pace in enumerate(paces)
    ]


def test_rows_are_medians_and_ratios_round_by_round() -> None:
    """A slow round of both contestants leaves the ratio as it was."""
    answers = {name: answers_of([10, 20, 5]) for name in CONTESTANTS} | {"ours": answers_of([40, 60, 20])}
    rows = {row.name: row for row in summarise(answers, epochs=2)}
    assert rows["rows"].pairs_per_second == pytest.approx((10, 5, 20))
    assert rows["rows"].faster == pytest.approx((4, 3, 4))
    assert rows["ours"].faster == pytest.approx((1, 1, 1))
    assert rows["copied"].spearman == pytest.approx((0.6, stdev([0.5, 0.6, 0.7]) / 3**0.5))
    assert rows["copied"].epoch_seconds == 1.5
    assert rows["copied"].notes == {"workers": 2, "why": "so"}


def test_more_pairs_than_there_can_be_are_refused(tmp_path) -> None:
    """One sentence, no traceback, nothing written."""
    result = CliRunner().invoke(main, ["--pairs", "200", "--antibodies", "100", "--antigens", "1", "--out", tmp_path])
    assert result.exit_code == 2
    assert "--pairs 200 needs" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_contestant_learns_the_rule(tmp_path) -> None:
    """Real processes, one small round: all four predict the validation pairs, none far from another."""
    answers = run_rounds(Size(pairs=3000, antigens=60, antibodies=3000, rounds=1, epochs=2, batch_size=128), tmp_path)
    scores = {name: answer["spearman"] for name, (answer,) in answers.items()}
    assert set(scores) == set(CONTESTANTS)
    assert min(scores.values()) > 0.8
    assert max(scores.values()) - min(scores.values()) < 0.05
    json.dumps(answers, allow_nan=False)
