"""What a sweep varies: for each field of `[train]`, the values it may take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from train.errors import TrainError

Kind = Literal["choice", "float", "int", "log"]
KINDS: tuple[Kind, ...] = ("choice", "float", "int", "log")

_FIXED = {
    "run": "each trial has a folder of its own",
    "split": "all trials are compared on the same validation pairs",
    "split_seed": "all trials are compared on the same validation pairs",
    "split_values": "all trials are compared on the same validation pairs",
    "group": "all trials are compared on the same validation pairs",
    "device": "it decides how fast a trial is, not how good",
    "placement": "it decides how fast a trial is, not how good",
    "checkpoint_every": "it decides how often a trial is saved, not how good it is",
    "keep": "it decides what is kept of a trial, not how good it is",
}
"""Fields of `[train]` that no sweep varies, and why."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values that one field may take."""

    kind: Kind
    values: tuple[object, ...]
    """The choices; or the lowest and the highest value, both included."""


def read_space(space: Mapping[str, Mapping[str, object]], known: Mapping[str, object]) -> dict[str, Range]:
    """Read section `[sweep.space]`.

    Args:
        space: For each field `{kind = values}`, such as `lr = {log = [1e-4, 1e-2]}`.
        known: The fields of `[train]` with a value of each.

    Raises:
        TrainError: A field is not known or must not vary, or a range breaks its rule.
    """
    if not space:
        raise TrainError("sweep.space is empty: name at least one field, such as lr = {log = [1e-4, 1e-2]}.")
    ranges = {}
    for name, given in space.items():
        if name in _FIXED:
            raise TrainError(f"sweep.space.{name}: a sweep does not vary {name}, for {_FIXED[name]}.")
        if name not in known:
            allowed = ", ".join(field for field in known if field not in _FIXED)
            raise TrainError(f"sweep.space.{name}: [train] has no such field; a sweep varies any of {allowed}.")
        ranges[name] = _read_range(name, given)
        for value in ranges[name].values:
            if not _fits(value, known[name]):
                raise TrainError(
                    f"sweep.space.{name}: {value!r} is no value of train.{name}, which is as in {known[name]!r}."
                )
    return ranges


def _fits(value: object, sample: object) -> bool:
    if isinstance(sample, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(sample, tuple):
        return isinstance(value, tuple) and all(type(item) is type(sample[0]) for item in value)
    return type(value) is type(sample)


def _read_range(name: str, given: Mapping[str, object]) -> Range:
    if len(given) != 1 or not set(given) <= set(KINDS):
        raise TrainError(
            f"sweep.space.{name} = {dict(given)}: it has one key, choice, float, int or log, "
            f"as in {name} = {{float = [0.0, 0.5]}}."
        )
    ((kind, values),) = given.items()
    if not isinstance(values, list | tuple) or not values:
        raise TrainError(f"sweep.space.{name}.{kind} = {values!r} is a list with at least one value.")
    if kind == "choice":
        return Range("choice", tuple(tuple(value) if isinstance(value, list) else value for value in values))
    _check_ends(f"sweep.space.{name}.{kind}", kind, list(values))
    numbers = values if kind != "float" else [float(value) for value in values]
    return Range(next(known for known in KINDS if known == kind), tuple(numbers))


def _check_ends(where: str, kind: str, values: list[object]) -> None:
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise TrainError(f"{where} = {values} is two numbers: the lowest and the highest value.")
    if numbers[0] >= numbers[1]:
        raise TrainError(f"{where} = {values}: the first number is below the second.")
    if kind == "int" and not whole:
        raise TrainError(f"{where} = {values}: both are whole numbers; use float for others.")
    if kind == "log" and numbers[0] <= 0:
        raise TrainError(f"{where} = {values}: a logarithmic range begins above 0.")
