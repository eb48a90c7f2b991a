"""How the results of `bindcache bench` read in a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

from pipeline.bench.ablation import ALL, Ablation, Row
from pipeline.bench.ladder import ACCUMULATION, BATCH, EPOCHS, SAVE_EVERY, Ladder
from pipeline.bench.optimisations import Machine
from pipeline.output import columns, human_bytes

_WIDTH = 80


def ablation_table(result: Ablation) -> str:
    """Lay out what each optimisation is worth: encoding, training, and what does not pay here."""
    encoding = columns(
        ("encoding without", "s", "factor", "memory", "error", "10-nn", "Spearman"),
        [(*_cells(row), *_fidelity(row), _mean(row.spearman)) for row in result.encoding],
    )
    training = columns(
        ("training without", "s an epoch", "factor", "memory", "Spearman"),
        [(*_cells(row), _mean(row.spearman)) for row in result.training],
    )
    legend = (
        f"factor: seconds without it over seconds with {ALL}. error: of the antibodies' vectors, against fp32; 10-nn: "
        "share of their 10 nearest neighbours kept. Spearman: of the validation pairs, mean of the seeds and half "
        f"their range. Measured on at most {result.sample:,} pairs; twice the same differed by "
        f"{result.noise['encoding']:.0%} (encoding) and {result.noise['training']:.0%} (training), and what differs "
        "by less is called no difference."
    )
    return "\n\n".join([_machine(result.machine), encoding, training, _verdicts(result), _wrap(legend)])


def ladder_table(result: Ladder) -> str:
    """Lay out the ladder."""
    rows = [
        (
            rung.name if not number or number == len(result.rungs) - 1 else f"+ {rung.name}",
            f"{rung.epoch_seconds:,.3g}",
            _hours(rung.hours),
            f"{rung.factor:,.3g}",
            "undefined" if rung.spearman is None else f"{rung.spearman:.3f}",
            human_bytes(rung.peak_memory_bytes),
        )
        for number, rung in enumerate(result.rungs)
    ]
    header = ("cumulative", "s an epoch", f"{EPOCHS} epochs", "factor", "Spearman", "memory")
    sizes = result.sizes
    whole = "the whole table" if sizes.pairs == sizes.sampled_pairs else f"{sizes.sampled_pairs:,} pairs of the table"
    legend = (
        f"The loop: both encoders inside the training step, batches of {BATCH}, {ACCUMULATION} of them a step, a save "
        f"every {SAVE_EVERY}. Epochs are composed from a sample of their batches ({result.timed_batches} of the naive "
        f"loop's), from {whole} and scaled to its {sizes.pairs:,} pairs. Frozen encoders give the same vectors in "
        "every epoch: Spearman, of the validation pairs, is the loop's on vectors that its own encoders made once. "
        "The store trains as configured, on prepared vectors; its hours include the encoding."
    )
    remarks = [_wrap(f"{rung.name}: {rung.remark}.") for rung in result.rungs if rung.remark]
    return "\n\n".join([_machine(result.machine), columns(header, rows), "\n".join(remarks), _wrap(legend)])


def _machine(machine: Machine) -> str:
    return f"{machine.name}, {machine.threads} threads" if machine.device == "cpu" else machine.name


def _cells(row: Row) -> tuple[str, str, str, str]:
    factor = "" if row.name == ALL else f"{row.factor:.2f}"
    return row.name, f"{row.seconds:.3g}", factor, human_bytes(row.peak_memory_bytes)


def _fidelity(row: Row) -> tuple[str, str]:
    found = (row.vectors or {}).get("antibody")
    if found is None:
        return "", ""
    kept = "" if found.neighbours_kept is None else f"{found.neighbours_kept:.1%}"
    return f"{found.relative_error:.0e}" if found.relative_error else "0", kept


def _mean(scores: Sequence[float]) -> str:
    if not scores:
        return "undefined"
    return f"{sum(scores) / len(scores):.3f} ±{(max(scores) - min(scores)) / 2:.3f}"


def _verdicts(result: Ablation) -> str:
    rows = [*result.encoding, *result.training]
    said = [
        (verdict.capitalize(), [f"{row.name} ({row.factor:.2f})" for row in rows if row.verdict == verdict])
        for verdict in ("pays", "does not pay", "makes no difference")
    ]
    lines = [_wrap(f"{words} here: {', '.join(names)}.") for words, names in said if names]
    lines += [_wrap(f"Cannot matter here: {name}, as {why}.") for name, why in result.cannot_matter.items()]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
