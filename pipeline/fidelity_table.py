"""How the result of `bindcache fidelity` reads in a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

from pipeline.fidelity import Fidelity, RoleFidelity, Row
from pipeline.fidelity_sample import PLURALS, Role
from pipeline.fidelity_scores import SCORES, Score
from pipeline.fidelity_train import SEEDS, RegressorRow
from pipeline.output import columns

WIDTH = 80

_SCORE_NAMES = {"r2": "R2", "spearman": "Spearman"}
_LEGEND = (
    "error: relative to fp32. cosine: the lowest. spread/err: spread between sequences over the error that differs "
    "between them. 10-nn: share of the 10 nearest neighbours kept. ridge: each fifth of the pairs predicted from the "
    "others. against fp32: 95 % interval of the difference on the same pairs."
)


def fidelity_table(result: Fidelity) -> str:
    """Lay out the result: what was measured, a block for each role, the A/B test, and the recommendation."""
    whole = "the whole table" if result.pairs == result.pairs_of_table else f"a sample of {result.pairs_of_table:,}"
    blocks = [f"{result.pairs:,} pairs ({whole}), {result.seconds:.0f} s"]
    blocks += [_role_block(role, fidelity) for role, fidelity in result.roles.items()]
    if result.regressor is not None:
        blocks += [_regressor_block(name, result.regressor) for name in SCORES]
    return "\n\n".join([*blocks, _wrap(_LEGEND), _wrap(result.recommendation)])


def _role_block(role: Role, fidelity: RoleFidelity) -> str:
    header = f"{PLURALS[role]}: {fidelity.sequences:,} distinct, {fidelity.residues:,} residues"
    lines = [
        header,
        columns(
            (role, "error", "cosine", "spread/err", "10-nn", "residues/s", "s"),
            [_vector_cells(row) for row in fidelity.rows],
        ),
    ]
    if fidelity.not_judged is None:
        lines += ["", _ridge_table(fidelity.rows)]
    else:
        lines += [_wrap(f"No ridge: {fidelity.not_judged}.")]
    for reason in dict.fromkeys(fidelity.skipped.values()):
        names = " and ".join(name for name, why in fidelity.skipped.items() if why == reason)
        lines.append(_wrap(f"{names} skipped: {reason}"))
    return "\n".join(lines)


def _vector_cells(row: Row) -> Sequence[object]:
    found = row.vectors
    return (
        _arm(row),
        f"{found.relative_error:.1e}" if found.relative_error else "0",
        f"{found.lowest_cosine:.6f}",
        "" if found.spread_over_error is None else f"{found.spread_over_error:,.4g}",
        "" if found.neighbours_kept is None else f"{found.neighbours_kept:.1%}",
        f"{row.residues_per_second:,.0f}",
        f"{row.seconds:.3g}",
    )


def _ridge_table(rows: Sequence[Row]) -> str:
    cells = [(_arm(row), *(cell for name in SCORES for cell in _compared((row.ridge or {})[name]))) for row in rows]
    header = [cell for name in SCORES for cell in (_SCORE_NAMES[name], "against fp32")]
    return columns(("ridge", *header), cells)


def _regressor_block(name: str, rows: Sequence[RegressorRow]) -> str:
    header = (f"regressor, {SEEDS} seeds", f"{_SCORE_NAMES[name]}: valid", "test", "against fp32", "s")
    cells = [(_arm(row), _number(row.valid[name]), *_compared(row.test[name]), f"{row.seconds:.1f}") for row in rows]
    return columns(header, cells)


def _compared(score: Score) -> tuple[str, str]:
    if score.low is None or score.high is None:
        return _number(score.value), ""
    return _number(score.value), f"{score.low:+.3f} to {score.high:+.3f}" if score.low or score.high else ""


def _arm(row: Row | RegressorRow) -> str:
    return row.precision if row.vector_dtype == "float32" else f"{row.precision}, {row.vector_dtype}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH)
