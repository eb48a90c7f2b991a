"""What `train` prints: how good the regressor is beside the baselines, and how far that can be believed."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.belief import LEAKAGE, belief_facts, leakage_rows, spearman_cells
from pipeline.output import columns, score_text, two_columns

_SCORES = ("r2", "rmse", "mae")


def train_table(result: Mapping[str, Any], places: Iterable[tuple[str, object]]) -> str:
    """Lay out what a regressor reached on the test pairs, beside the baselines, and where everything lies."""
    test = {"regressor": result["test"]} | {name: each["test"] for name, each in result["baselines"].items()}
    scores = columns(
        (f"test, {result['test']['n']:,} pairs", "Spearman", "95 %", *map(str.upper, _SCORES)),
        [(name, *spearman_cells(each), *map(score_text, map(each.get, _SCORES))) for name, each in test.items()],
    )
    epochs = f"{result['epochs']} (best {result['best_epoch']})"
    seconds = f"{result['seconds']:.1f} ({result['setup_seconds']:.1f} of them setting up)"
    facts: list[tuple[str, object]] = [
        ("pairs", f"{result['pairs']:,}"),
        ("split", result["split"]),
        *_intervals(result["intervals"]),
        *belief_facts(result),
        ("epochs", epochs),
        ("seconds", seconds),
        *places,
    ]
    return "\n\n".join([scores, columns(LEAKAGE, leakage_rows(result)), two_columns(facts)])


def _intervals(found: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, object]]:
    """Tell how wide intervals around predictions are, and how many of the test pairs they held."""
    told = [
        f"{float(level):.0%} ±{each['half_width']:.2f} (held {each['coverage']:.0%})"
        for level, each in found.items()
        if each["half_width"] is not None and each["coverage"] is not None
    ]
    return [("intervals", ", ".join(told))] if told else []
