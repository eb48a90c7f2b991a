"""By what a run was made, and how to make it again."""

from collections.abc import Mapping
from typing import Any

from pipeline.fields import toml_text
from pipeline.report.blocks import Block, Cell, Code, Facts, Section


def repeat(settings: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Cell], *, command: str) -> Section:
    """Tell versions and digests, the command, and every setting.

    Args:
        settings: The resolved config by section.
        facts: Versions and digests, by name.
        command: What to type once the settings are in `repeat.toml`.
    """
    blocks: list[Block] = [
        Facts(list(facts.items())),
        Code(text=command),
        Code(title="repeat.toml: every setting of this run", text=as_toml(settings)),
    ]
    return Section("Repeat it", blocks)


def as_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a resolved config as a TOML file that gives the same config."""
    parts = []
    for section, values in settings.items():
        lines = [f"{_key(name)} = {_value(value)}" for name, value in values.items() if value is not None]
        parts.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _value(value: object) -> str:
    """Quote every key of a table, as keys may hold anything."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_text(str(key))} = {_value(item)}" for key, item in value.items()) + "}"
    return toml_text(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else toml_text(name)
