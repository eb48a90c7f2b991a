"""How training went: loss, validation scores and learning rate by epoch."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.report.blocks import Facts, Section
from pipeline.report.drawing import ACCENT, MUTED, SECOND, draw
from pipeline.report.finished import Finished

Lines = Sequence[Mapping[str, float]]


def learning(found: Finished) -> Section:
    """Show the learning curves."""
    history, best, result = found.history, int(found.result["best_epoch"]), found.result
    curves = {
        "loss": ("train_loss", "training loss", "Training loss, in units of the training targets' variance."),
        "valid-error": ("valid_rmse", "validation RMSE, pKd", "Validation error, which decides when to stop."),
        "valid-rank": ("valid_spearman", "validation Spearman", "How well validation pairs are ranked."),
        "rate": ("lr", "learning rate", "Learning rate at the end of each epoch."),
    }
    drawings = [
        draw(
            name,
            _curve(history, key, label, best),
            caption=f"{caption} Dashed: the best epoch, {best}.",
            size=(4.6, 2.9),
        )
        for name, (key, label, caption) in curves.items()
    ]
    facts = [
        ("epochs", f"{result['epochs']} (best {best})"),
        ("training pairs per second", round(result["pairs_per_second"])),
        ("waited for data", f"{result['waited_fraction']:.1%}"),
        ("seconds", f"{result['seconds']:.1f} ({result['setup_seconds']:.1f} setting up)"),
        ("peak memory", f"{result['peak_memory_bytes'] / 1e6:,.0f} MB"),
    ]
    return Section("Learning", [*drawings, Facts(facts)])


def _curve(history: Lines, key: str, label: str, best: int) -> Callable[[Axes], None]:
    def content(axes: Axes) -> None:
        value = [np.nan if line[key] is None else line[key] for line in history]
        epoch = [line["epoch"] for line in history]
        axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(epoch, value, color=SECOND if key == "train_loss" else ACCENT, marker="o" if len(epoch) < 2 else "")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=label)

    return content
