"""The page of a run: how good it is, and everything that rests on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.belief import LEAKAGE, belief_facts, leakage_rows
from pipeline.report.accuracy import against_baselines, interval, predictions, test_scores
from pipeline.report.antigens import by_antigen
from pipeline.report.blocks import Card, Cell, Facts, Note, Page, Section, Table
from pipeline.report.distance import error_by_distance
from pipeline.report.finished import Finished
from pipeline.report.learning import learning
from pipeline.report.lengths import lengths, lengths_of
from pipeline.report.precision import precision
from pipeline.report.repeat import repeat
from pipeline.report.rows import rows_changed

_RANDOM = (
    "The split is random: where variants of one complex are in every part, it flatters any regressor. Look at a run "
    'with train.split = "cluster" before you trust it on new antigens or antibodies.'
)


def run_page(found: Finished) -> Page:
    """Make the page of a finished run."""
    return Page(
        kind="run",
        title="/".join(found.run.root.absolute().parts[-2:]),
        answer=answer(found.result),
        cards=cards(found.result),
        caution=_RANDOM if found.result["details"]["split"].startswith("random") else "",
        sections=run_sections(found),
        table_digest=str(found.identity["pairs table (SHA-256)"]),
    )


def run_sections(found: Finished) -> list[Section]:
    """List what a run has to show, what matters most first; a new check of the evaluation takes its place here."""
    makers: Sequence[Callable[[Finished], Section]] = (
        against_baselines,
        _belief,
        predictions,
        by_antigen,
        error_by_distance,
        learning,
        _lengths,
        _rows,
        _precision,
        _repeat,
    )
    return [make(found) for make in makers]


def answer(result: Mapping[str, Any]) -> str:
    """Say in two sentences how good a run is, on which pairs, and against what."""
    test, ours = result["test"], result["test"]["spearman"]
    where = f"the {test['n']:,} test pairs (split: {result['details']['split']})"
    if ours is None:
        return f"Spearman is undefined on {where}: fewer than three, or their pKd or the predictions are all alike."
    said = f"On {where}, predictions rank affinities with a Spearman of {ours:.3f}{_bounds(test['spearman_ci'])}"
    said += f" and miss the measured pKd by {test['rmse']:.2f} (RMSE)."
    scores = test_scores(result).items()
    rivals = {name: each for name, each in scores if each is not test and each["spearman"] is not None}
    if not rivals:
        return said
    name, best = max(rivals.items(), key=lambda item: item[1]["spearman"])
    return f"{said} {verdict(test, best, name)}"


def verdict(ours: Mapping[str, Any], best: Mapping[str, Any], name: str) -> str:
    """Compare with the best baseline; only intervals that do not touch are called a difference."""
    told = f"the best baseline, {name}, with {best['spearman']:.3f}{_bounds(best['spearman_ci'])}"
    ours_ci, best_ci = ours["spearman_ci"], best["spearman_ci"]
    if ours_ci and best_ci and ours_ci[0] > best_ci[1]:
        return f"That is better than {told}; the intervals do not overlap."
    if ours_ci and best_ci and ours_ci[1] < best_ci[0]:
        return f"That is worse than {told}; the intervals do not overlap."
    return f"That is not told apart from {told}: the intervals overlap."


def cards(result: Mapping[str, Any]) -> list[Card]:
    """Pick the numbers that matter most."""
    test = result["test"]
    names = {"spearman": "Spearman", "r2": "R²", "rmse": "RMSE, pKd", "mae": "MAE, pKd"}
    found = [
        Card(
            name=name,
            value="undefined" if test[key] is None else f"{test[key]:.3f}",
            detail=interval(test[f"{key}_ci"]),
        )
        for key, name in names.items()
    ]
    return [*found, Card(name="test pairs", value=f"{test['n']:,}", detail=f"of {result['pairs']:,} pairs")]


def _bounds(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f" (95 % {interval(bounds)})"


def _belief(found: Finished) -> Section:
    title, result = "New to training", found.result
    if "unseen" not in result:
        return Section(title, [Note("The version of bindcache that made this run did not look for it.")])
    caption = "Share of the test pairs that have this in common with a training pair, and the score of the others."
    if unsought := result["details"]["near_not_sought"]:
        caption += f" {unsought:,} distinct test sequences were too many to be compared, and count as near."
    table = Table(header=LEAKAGE, rows=leakage_rows(result), caption=caption)
    facts = belief_facts(result)
    return Section(title, [table, Facts(facts)] if facts else [table])


def _lengths(found: Finished) -> Section:
    if isinstance(found.behind, str):
        return _without("Lengths, buckets and padding", found.behind)
    return lengths(lengths_of(found.behind.table), found.behind.config.embed)


def _rows(found: Finished) -> Section:
    if isinstance(found.behind, str):
        return _without("Rejected and normalised", found.behind)
    table, store = found.behind.table, found.behind.config.embed.store
    return rows_changed(
        used=table.rows,
        rejected=table.rejected,
        normalised=table.normalised,
        warnings=table.warnings,
        where=str(store / "rejected.csv"),
    )


def _precision(found: Finished) -> Section:
    folders = {use: str(found.identity[f"vectors of {use}"]) for use in ("paired", "single", "antigen")}
    digest = str(found.identity["pairs table (SHA-256)"])
    store = Path(found.settings["embed"]["store"])
    return precision(store, folders, digest=digest, trained=found.result["details"])


def _repeat(found: Finished) -> Section:
    facts: dict[str, Cell] = dict(found.result["details"].get("versions", {}))
    facts["pairs table"] = str(found.settings["pairs"]["path"])
    facts["pairs table (SHA-256)"] = str(found.identity["pairs table (SHA-256)"])
    facts["split (SHA-256)"] = str(found.identity["split (SHA-256)"])
    command = "bindcache embed --config repeat.toml\nbindcache train --config repeat.toml --set train.run=AGAIN"
    return repeat(found.settings, facts, command=command)


def _without(title: str, why: str) -> Section:
    return Section(title, [Note(f"Left out, for the table cannot be read as it was: {why}")])
