"""How far a run's scores can be believed, in words: what leaked, scores within groups, and the best possible."""

from collections.abc import Mapping
from typing import Any

from pipeline.output import interval_text, score_text

_SHARED = {
    "antibody": "the same antibody",
    "antigen": "the same antigen",
    "near_antibody": "a heavy chain {}",
    "near_antigen": "an antigen {}",
    "near_either": "one of both {}",
    "near_both": "each of both {}",
}

LEAKAGE = ("also in training", "share", "others", "Spearman", "95 %")
"""Header of the rows of leakage."""


def leakage_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Tell which share of the test pairs shares what with training, and the score of the others."""
    rows: list[tuple[str, ...]] = []
    for name, rest in result["unseen"].items():
        cells = ("", "too few", "") if rest is None else (f"{rest['n']:,}", *spearman_cells(rest))
        near = f"{result['near_identity']:.0%} alike"
        rows.append((_SHARED[name].format(near), f"{result['seen'][name]:.0%}", *cells))
    return rows


def belief_facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the Spearman within groups, the noise ceiling, and what became of bounds, where there are any."""
    rows: list[tuple[str, str]] = []
    for role, found in result["within"].items():
        if found["groups"]:
            interval = f" ({interval_text(found['mean_ci'])})" if found["mean_ci"] else ""
            told = f"by pairs {found['weighted']:.3f}; {found['groups']:,} with {found['least']}+"
            rows.append((f"Spearman per {role}", f"{found['mean']:.3f}{interval}, {told}"))
    if ceiling := result["ceiling"]:
        source = f"replicates of {ceiling['pairs']:,} pairs, sd {ceiling['sd']:.2f}"
        rows.append(("best possible", f"R2 {ceiling['r2']:.3f}, Pearson {ceiling['pearson']:.3f} ({source})"))
    if bounds := result["bounds"]:
        respected = "" if bounds["respected"] is None else f"; predictions respect {bounds['respected']:.0%}"
        rows.append(("bounds in test", f"{bounds['n']:,}, scored apart{respected}"))
    return rows


def spearman_cells(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Put Spearman and its interval in words."""
    return score_text(metrics["spearman"]), interval_text(metrics["spearman_ci"])
