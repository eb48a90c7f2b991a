"""What the noise of the assay leaves to be predicted, from the spread of replicates.

Shapes: N pairs of the table, T test pairs.
"""

import math

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable

LEAST_DEGREES = 5
"""Degrees of freedom below which replicates say too little of the noise."""


def noise_ceiling(table: PairTable, index_T: npt.NDArray[np.int64]) -> dict[str, int | float] | None:
    """Tell the best scores that any predictor can expect on pairs with measured values.

    The variance s^2 of one measurement is that within the pairs of the table, pooled: squared deviations from each
    pair's mean, over measurements minus pairs. A target that is the mean of n measurements holds noise of s^2 / n. A
    predictor that knows the true values then has an expected

        R2 = 1 - mean(s^2 / n) / var(target),  Pearson = sqrt(R2)

    (Kramer et al. 2012, J. Med. Chem. 55:5165, whose R2 is this Pearson squared; Spearman 1904 for the square root).
    The median, which targets are, holds a little more noise than the mean from three measurements on, so that the
    true ceiling is a little lower. Rows that repeat id and value are duplicates, not replicates.

    Returns:
        `pairs` with replicates, `degrees` of freedom, `sd` of one measurement (pKd), `rmse`, `r2` and `pearson` at
        best (R2 is 0 where all is noise); None where the table has under 5 degrees of freedom, or fewer than three
        pairs to score.
    """
    if table.affinity_N is None or len(index_T) < 3:
        return None
    measured_N = table.measurements_N
    degrees = int((measured_N[measured_N > 0] - 1).sum())
    target_T = table.affinity_N[index_T]
    if degrees < LEAST_DEGREES or not target_T.var():
        return None
    variance = float(table.deviation_N.sum() / degrees)
    noise = variance * float((1 / measured_N[index_T]).mean())
    r2 = max(0.0, 1 - noise / float(target_T.var()))
    return {
        "pairs": int(np.count_nonzero(measured_N > 1)),
        "degrees": degrees,
        "sd": math.sqrt(variance),
        "rmse": math.sqrt(noise),
        "r2": r2,
        "pearson": math.sqrt(r2),
    }
