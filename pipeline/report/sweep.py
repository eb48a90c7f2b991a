"""The page of a sweep: what its trials were worth, what mattered, and the best of them as a run's page shows it.

Shape suffix: T trials.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from pipeline.errors import ConfigError
from pipeline.report.behind import Behind
from pipeline.report.blocks import Block, Card, Cell, Facts, Note, Page, Section, Table
from pipeline.report.drawing import ACCENT, GRID, MUTED, SECOND, draw
from pipeline.report.finished import read_finished
from pipeline.report.run import answer, cards, run_sections
from train.rundir import RunDir

_LISTED = 50
_MOST_CURVES = 200
_MOST_SLICES = 6
_CHOSEN = (
    "The best trial was chosen among many by its validation pairs. Its test scores are honest once: choosing again "
    "after reading them would make them too good."
)

Trial = Mapping[str, Any]


def sweep_page(folder: Path, behind: Behind | None = None) -> Page:
    """Make the page of a sweep as it stands.

    Args:
        folder: Of the sweep.
        behind: What its trials were trained on; None reads that anew.

    Raises:
        ConfigError: The sweep has no result yet.
    """
    try:
        result = json.loads((folder / "result.json").read_bytes())
        space = json.loads((folder / "sweep.json").read_bytes())["identity"]["sweep.space"]
        trials: list[Trial] = pq.read_table(folder / "sweep.parquet").to_pylist()
    except FileNotFoundError:
        raise ConfigError(f"--run {folder} is a sweep without a result; go on with it by `bindcache sweep`.") from None
    sections = [_trials(result, trials), _parameters(result, trials, space), _ensemble(result)]
    title = "/".join(folder.absolute().parts[-2:])
    if not result["best"]:
        done = f"None of the {result['trials']:,} trials was trained to its end yet."
        return Page(kind="sweep", title=title, answer=done, sections=sections)
    first = result["best"][0]
    best = read_finished(RunDir(folder / result["ensemble"]["members"][0]), behind)  # found if the folder was moved
    worth = f"validation {result['objective']} {first['value']:.3f}"
    said = f"Of {result['trials']:,} trials, number {first['number']} is the best ({worth})."
    return Page(
        kind="sweep",
        title=title,
        answer=f"{said} {answer(best.result)}",
        cards=[*cards(best.result), Card(name="trials", value=f"{result['trials']:,}", detail=_states(result))],
        caution=_CHOSEN,
        sections=[*sections, *run_sections(best)],
        table_digest=str(best.identity["pairs table (SHA-256)"]),
    )


def _states(result: Mapping[str, Any]) -> str:
    return f"{result['complete']} to the end, {result['pruned']} halved away, {result['failed']} failed"


def _trials(result: Mapping[str, Any], trials: Sequence[Trial]) -> Section:
    objective = result["objective"]
    best = {each["number"] for each in result["best"]}
    done = [trial for trial in trials if trial["value"] is not None]
    low = objective in ("rmse", "mae")
    blocks: list[Block] = []
    if done:
        content = partial(_draw_values, done=done, objective=objective, best=best)
        caption = f"Validation {objective} of each trial, in the order they began. Orange: those of the ensemble."
        blocks.append(draw("trials", content, caption=caption, size=(4.6, 3.2)))
    curves = [trial for trial in trials if trial["curve"]]
    if curves:
        kept = [trial for place, trial in enumerate(curves) if place < _MOST_CURVES or trial["trial"] in best]
        caption = f"Validation {objective} by epoch; the curves that end early were halved away."
        if len(kept) < len(curves):
            caption += f" {len(kept)} of {len(curves):,} trials."
        content = partial(_draw_curves, trials=kept, objective=objective, best=best)
        blocks.append(draw("curves", content, caption=caption, size=(4.6, 3.2)))
    ranked = sorted(done, key=lambda t: (t["state"] != "complete", t["value"] if low else -t["value"]))
    listed = [*ranked, *(trial for trial in trials if trial["value"] is None)][:_LISTED]
    names = _names(trials)
    rows: list[tuple[Cell, ...]] = [
        (t["trial"], t["state"], t["value"], t["epochs"], *(_cell(t[f"train.{n}"]) for n in names)) for t in listed
    ]
    caption = f"The best {len(listed)} of {len(trials):,} trials; all are in sweep.parquet."
    header = ("trial", "state", f"valid {objective}", "epochs", *names)
    return Section("Trials", [*blocks, Table(header=header, rows=rows, caption=caption)])


def _parameters(result: Mapping[str, Any], trials: Sequence[Trial], space: Mapping[str, Any]) -> Section:
    importance: Mapping[str, float] = result["importance"]
    title = "What mattered"
    done = [trial for trial in trials if trial["value"] is not None]
    if not importance:
        return Section(title, [Note("There are too few trials to tell which settings matter.")])
    ranked = sorted(importance, key=lambda name: -importance[name])
    caption = "Share of each setting in what makes a trial one of the better ones (PED-ANOVA, Watanabe et al. 2023)."
    content = partial(_draw_importance, importance=importance, ranked=ranked)
    blocks: list[Block] = [draw("importance", content, caption=caption, size=(4.6, 0.9 + 0.4 * len(ranked)))]
    for name in ranked[:_MOST_SLICES]:
        content = partial(
            _draw_slice, done=done, name=name, objective=result["objective"], logarithmic="log" in space[name]
        )
        caption = f"Validation {result['objective']} of trained trials by {name}."
        blocks.append(draw(f"slice-{name}", content, caption=caption, size=(4.6, 2.8)))
    return Section(title, blocks)


def _ensemble(result: Mapping[str, Any]) -> Section:
    ensemble = result["ensemble"]
    if ensemble is None:
        return Section("Ensemble", [Note("There is none before a trial was trained to its end.")])
    test = ensemble["test"]
    facts: list[tuple[str, Cell]] = [
        ("members", len(ensemble["members"])),
        ("test Spearman", test["spearman"]),
        ("test RMSE", test["rmse"]),
        ("spread follows the error, Spearman", ensemble["spread_follows_error"]),
    ]
    facts += [(f"test pairs inside {float(k):.0%} intervals", _share(v)) for k, v in ensemble["coverage"].items()]
    return Section("Ensemble", [Facts(facts)])


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _names(trials: Sequence[Trial]) -> list[str]:
    return [name.removeprefix("train.") for name in (trials[0] if trials else {}) if name.startswith("train.")]


def _cell(value: object) -> Cell:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _draw_values(axes: Axes, *, done: Sequence[Trial], objective: str, best: set[int]) -> None:
    number_T, value_T = np.array([t["trial"] for t in done]), np.array([t["value"] for t in done])
    chosen_T = np.isin(number_T, list(best))
    axes.scatter(number_T[~chosen_T], value_T[~chosen_T], s=18, color=ACCENT, alpha=0.6, linewidths=0)
    axes.scatter(number_T[chosen_T], value_T[chosen_T], s=34, color=SECOND, linewidths=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=f"validation {objective}")


def _draw_curves(axes: Axes, *, trials: Sequence[Trial], objective: str, best: set[int]) -> None:
    for trial in sorted(trials, key=lambda trial: trial["trial"] in best):
        chosen = trial["trial"] in best
        curve = [np.nan if value is None else value for value in trial["curve"]]
        colour, width = (SECOND, 1.6) if chosen else (MUTED, 0.8)
        axes.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=width, alpha=1 if chosen else 0.45)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"validation {objective}")


def _draw_importance(axes: Axes, *, importance: Mapping[str, float], ranked: Sequence[str]) -> None:
    names = ranked[::-1]
    axes.barh(names, [importance[name] for name in names], height=0.55, color=ACCENT, alpha=0.85)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_color(GRID)
    axes.set_xlabel("importance")


def _draw_slice(axes: Axes, *, done: Sequence[Trial], name: str, objective: str, logarithmic: bool) -> None:
    values = [trial[f"train.{name}"] for trial in done]
    score_T = [trial["value"] for trial in done]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places: list[Any] = values if numbers else [_cell(value) for value in values]
    axes.scatter(places, score_T, s=20, color=ACCENT, alpha=0.6, linewidths=0)
    if all(isinstance(value, int) for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=name, ylabel=f"validation {objective}")
