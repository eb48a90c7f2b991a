"""What `bindcache sweep` prints: the best trials, what mattered, and how far to trust the ensemble."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pipeline.output import columns, two_columns

if TYPE_CHECKING:
    from train.sweep.outcome import SweepResult


def sweep_table(result: "SweepResult", places: Iterable[tuple[str, object]] = ()) -> str:
    """Lay out the best trials, the importance of the parameters, the ensemble, and where everything lies."""
    facts: list[tuple[str, object]] = [
        (
            "trials",
            f"{result.trials} ({result.complete} to the end, {result.pruned} halved away, {result.failed} failed)",
        ),
        ("epochs", f"{result.epochs:,}"),
        ("seconds", f"{result.seconds:.1f}"),
        ("trials' table", f"{result.folder}/sweep.parquet"),
        *places,
    ]
    parts = [_best(result), _importance(result.importance), _ensemble(result), two_columns(facts)]
    return "\n\n".join(part for part in parts if part)


def _best(result: "SweepResult") -> str:
    if not result.best:
        return ""
    names = list(result.best[0].params)
    rows = [
        (
            each.number,
            f"{each.value:.4f}",
            _number(each.test[result.objective]),
            *(_short(each.params[n]) for n in names),
        )
        for each in result.best
    ]
    return columns(("trial", f"valid {result.objective}", "test", *names), rows)


def _importance(importance: Mapping[str, float]) -> str:
    rows = sorted(importance.items(), key=lambda item: -item[1])
    return columns(("importance", ""), [(name, f"{share:.0%}") for name, share in rows]) if rows else ""


def _ensemble(result: "SweepResult") -> str:
    ensemble = result.ensemble
    if ensemble is None:
        return ""
    covered = ", ".join(f"{float(level):.0%}: {_number(share)}" for level, share in ensemble.coverage.items())
    return two_columns(
        [
            (
                f"ensemble of {len(ensemble.members)}",
                f"test {result.objective} {_number(ensemble.test[result.objective])}",
            ),
            ("  intervals", f"hold of the test pairs {covered}"),
            ("  spread", f"follows the error with Spearman {_number(ensemble.spread_follows_error)}"),
        ]
    )


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "undefined"
