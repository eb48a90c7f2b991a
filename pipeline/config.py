"""One TOML file, and what the command line overrides in it, as the configs of both stages.

Every value keeps where it came from, so that relative paths mean what their writer meant, and errors name the
place.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from embed.config import TABLES, EmbedConfig, Model
from embed.pairs import PairsConfig
from pipeline.cluster import ClusterConfig
from pipeline.errors import ConfigError
from pipeline.fields import MismatchError, convert, toml_text
from pipeline.override import parse_override
from train.config import TrainConfig
from train.sweep.config import SweepConfig

SECTIONS: Mapping[str, type] = {
    "pairs": PairsConfig,
    "embed": EmbedConfig,
    "train": TrainConfig,
    "sweep": SweepConfig,
    "cluster": ClusterConfig,
}

_WORDS = {
    ("embed", "antibody"): TABLES,
    ("embed", "antigen"): TABLES,
    ("embed", "single_chain"): ("same", "error", *TABLES),
}
"""What a model's field may say instead of naming one."""

CALL = "the call"
"""Where values come from that a Python program gives, for errors."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What both stages are told; every path is absolute."""

    pairs: PairsConfig
    embed: EmbedConfig
    train: TrainConfig | None = None
    """None where the file has no section [train], which only `train` and `sweep` need."""
    sweep: SweepConfig | None = None
    """None where the file has no section [sweep]."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Its folder is beside the config file unless the file says where."""


class _Given(NamedTuple):
    value: object
    folder: Path
    """What a relative path is relative to."""
    where: str
    """File or option that gave the value, for errors."""


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and override values in it.

    Args:
        path: The file; paths in it are relative to its folder.
        overrides: `section.key=value` each, value in TOML or a bare word; paths in it are
            relative to the working directory.

    Raises:
        ConfigError: The file cannot be read, or a section, key or value in it or in an override is not known.
        EmbedError: A value breaks a rule of the embed stage.
        TrainError: A value breaks a rule of the train stage.
    """
    given = _from_tables(_read_toml(path), path.absolute().parent, str(path))
    for override in overrides:
        section, key, value = parse_override(override)
        _check_section(section, "--set")
        given.setdefault(section, {})[key] = _Given(value, Path.cwd(), "--set")
    return _build(given, str(path))


def load_with(path: Path | None, sections: Mapping[str, Mapping[str, object]]) -> Config:
    """Read a TOML file, if there is one, and put what a caller gives over it or in its place.

    Args:
        path: The file, as for `load`; None: the sections are all there is.
        sections: Values by section and key, in Python's types; paths are relative to the working directory.

    Raises:
        ConfigError, EmbedError, TrainError: As by `load`.
    """
    where = CALL if path is None else str(path)
    given = {} if path is None else _from_tables(_read_toml(path), path.absolute().parent, where)
    for section, table in _from_tables(sections, Path.cwd(), CALL).items():
        given.setdefault(section, {}).update(table)
    return _build(given, where)


def from_resolved(tables: Mapping[str, object], path: Path) -> Config:
    """Build the config that `resolved` wrote down; `path` is the file it was read from, for errors.

    Raises:
        ConfigError: A section, key or value is not known to this version, or a local encoder is gone.
    """
    return _build(_from_tables(tables, path.absolute().parent, str(path)), str(path))


def resolved(config: Config) -> dict[str, dict[str, object]]:
    """Write every value of a config down, defaults included, in JSON's types."""
    sections = {name: getattr(config, name) for name in SECTIONS}
    return {
        name: {field.name: _plain(getattr(section, field.name)) for field in fields(section)}
        for name, section in sections.items()
        if section is not None
    }


def train_section(config: Config, path: Path) -> TrainConfig:
    """Get the section [train] of a config.

    Raises:
        ConfigError: The file has none.
    """
    if config.train is None:
        raise ConfigError(_missing_section("train", str(path)))
    return config.train


def sweep_section(config: Config, path: Path) -> SweepConfig:
    """Get the section [sweep] of a config.

    Raises:
        ConfigError: The file has none.
    """
    if config.sweep is None:
        raise ConfigError(_missing_section("sweep", str(path)))
    return config.sweep


def model_named(text: str) -> Model:
    """Read a model as the command line gives it: a hub id, or a folder relative to the working directory.

    Raises:
        ConfigError: It is neither.
    """
    try:
        return Model(str(convert(text, Model, Path.cwd())))
    except MismatchError as expected:
        raise ConfigError(f"{text}: expected {expected}.") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no config file {path}; `bindcache demo DIR` writes a first one.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{path} is not TOML: {error}. Text stands in quotes: path = "pairs.csv".') from None


def _from_tables(tables: Mapping[str, object], folder: Path, where: str) -> dict[str, dict[str, _Given]]:
    given: dict[str, dict[str, _Given]] = {}
    for section, table in tables.items():
        _check_section(section, where)
        if not isinstance(table, Mapping):
            raise ConfigError(f"{section} in {where} is a section; write [{section}] above its keys.")
        plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in table.items()}
        given[section] = {key: _Given(value, folder, where) for key, value in plain.items()}
    return given


def _build(given: Mapping[str, Mapping[str, _Given]], where: str) -> Config:
    for section in ("pairs", "embed"):
        if section not in given:
            raise ConfigError(_missing_section(section, where))
    train = _build_section("train", TrainConfig, given["train"], where) if "train" in given else None
    sweep = _build_section("sweep", SweepConfig, given["sweep"], where) if "sweep" in given else None
    beside = {"folder": _Given("jobs", Path(where).absolute().parent, where)}
    return Config(
        pairs=_build_section("pairs", PairsConfig, given["pairs"], where),
        embed=_build_section("embed", EmbedConfig, given["embed"], where),
        train=train,
        sweep=sweep,
        cluster=_build_section("cluster", ClusterConfig, beside | dict(given.get("cluster", {})), where),
    )


def _build_section(section: str, config_class: type[_T], given: Mapping[str, _Given], where: str) -> _T:
    hints = get_type_hints(config_class)
    known = [field.name for field in fields(config_class)]  # type: ignore[arg-type]
    for key, one in given.items():
        if key not in known:
            nearest = _nearest(key, known)
            raise ConfigError(
                f"{section}.{key} in {one.where}: there is no such key.{nearest} [{section}] knows {', '.join(known)}."
            )
    for name in _required(config_class):
        if name not in given:
            raise ConfigError(f"{section}.{name} is missing in {where}; write {name} = ... under [{section}].")
    return config_class(**{key: _value(section, key, one, hints[key]) for key, one in given.items()})


def _value(section: str, key: str, given: _Given, kind: object) -> object:
    if given.value in _WORDS.get((section, key), ()):
        return given.value
    try:
        return convert(given.value, kind, given.folder)
    except MismatchError as expected:
        words = "".join(f'"{word}", ' for word in _WORDS.get((section, key), ()))
        value = toml_text(given.value)
        raise ConfigError(f"{section}.{key} = {value} in {given.where}: expected {words}{expected}.") from None


def _check_section(section: str, where: str) -> None:
    if section not in SECTIONS:
        known = ", ".join(f"[{name}]" for name in SECTIONS)
        raise ConfigError(
            f"[{section}] in {where}: there is no such section.{_nearest(section, SECTIONS)} The sections are {known}."
        )


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _missing_section(section: str, where: str) -> str:
    return f"{where} has no section [{section}]; add it, with at least {', '.join(_required(SECTIONS[section]))}."


def _required(config_class: type) -> list[str]:
    return [f.name for f in fields(config_class) if f.default is MISSING and f.default_factory is MISSING]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
