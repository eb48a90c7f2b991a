"""Scores a trained run: how good it is on held-out pairs, beside the baselines, and how far that can be believed.

Shape suffix: N pairs.
"""

import numpy as np

from train.build import Task
from train.groups import spearman_in_groups
from train.intervals import judge_intervals
from train.metrics import evaluate, respected_bounds
from train.noise import noise_ceiling
from train.predict import predict_rows
from train.result import TrainResult, write_predictions
from train.rundir import RunDir


def score_run(task: Task, run: RunDir, result: TrainResult) -> None:
    """Predict all pairs with the best weights; score both held-out parts, and the baselines beside."""
    material = task.material
    dataset, split = material.dataset, material.split
    prediction_N = predict_rows(run.root, dataset, device=str(material.device))
    target_N, side_N = dataset.target_N, dataset.side_N
    write_predictions(run.predictions, dataset.id, split, target_N=target_N, prediction_N=prediction_N, side_N=side_N)
    valid, test = (dataset.measured(split.rows(part)) for part in ("valid", "test"))
    result.valid = evaluate(target_N[valid], prediction_N[valid])
    result.test = evaluate(target_N[test], prediction_N[test])
    intervals = judge_intervals(prediction_N, target_N, valid=valid, test=test)
    intervals.write(run.intervals)
    result.intervals = intervals.by_level()
    result.baselines = material.baselines
    whole_test = split.rows("test")
    leakage = material.leakage(task.config.identity)
    result.seen = leakage.shares()
    result.unseen = leakage.scores_of_rest(target_N[whole_test], prediction_N[whole_test], np.isin(whole_test, test))
    result.split, result.near_identity = split.kind, task.config.identity
    result.details["near_not_sought"] = leakage.unsought
    result.within = {
        role: spearman_in_groups(target_N[test], prediction_N[test], dataset.row_N2[test, number])
        for number, role in ((1, "antigen"), (0, "antibody"))
    }
    result.bounds = respected_bounds(target_N, prediction_N, side_N, whole_test)
    result.ceiling = noise_ceiling(material.table, test)
