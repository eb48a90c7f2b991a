"""The fields of a config class: their types in words, their documentation, and values turned into them."""

import ast
import inspect
import itertools
import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from embed.config import Model

_SCALARS: Mapping[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MODEL_RULE = "a hub id (owner/name) or an existing folder"


class FieldDoc(NamedTuple):
    """One line of the documentation of a config class."""

    name: str
    type: str
    default: str
    doc: str


class MismatchError(ValueError):
    """A value is not of the type of its field; the text says what is expected."""


def field_docs(config_class: type) -> list[FieldDoc]:
    """Document every field of a config class, from its type, its default and the string literal under it."""
    hints = get_type_hints(config_class)
    docs = _literals_under_fields(config_class)
    return [
        FieldDoc(f.name, describe(hints[f.name]), _default_text(f), docs.get(f.name, "")) for f in fields(config_class)
    ]


def describe(kind: object) -> str:
    """Put a type in words, such as `a whole number or "auto"`."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is Path:
        return "a path"
    if kind is Model:
        return _MODEL_RULE
    if kind is object:
        return "a value"
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _either([json.dumps(value) for value in args])
    if origin in (Union, UnionType):
        return _either([describe(member) for member in args])
    if origin is tuple:
        return f"a list of {_plural(args[0])}"
    return f"a table of {_plural(args[1])}"


def convert(value: object, kind: object, folder: Path) -> object:
    """Turn a TOML or JSON value into a field's type.

    Args:
        value: What the file or the command line holds.
        kind: The annotation of the field.
        folder: What relative paths are relative to.

    Raises:
        MismatchError: The value is of another type; the text is what was expected.
    """
    if kind is Model:
        return _to_model(value, folder)
    if kind is Path:
        return _to_path(value, folder)
    if kind is object:
        return value
    if kind in _SCALARS:
        return _to_scalar(value, kind)
    try:
        return _to_compound(value, kind, folder)
    except MismatchError:
        # Of a list in a table, say what the whole is, not what the innermost part is.
        raise MismatchError(describe(kind)) from None


def toml_text(value: object) -> str:
    """Write a plain value, list or path as TOML does, for messages and documentation."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_text(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _to_compound(value: object, kind: object, folder: Path) -> object:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal and any(value == word and type(value) is type(word) for word in args):
        return value
    if origin in (Union, UnionType):
        return _to_first_fitting(value, kind, folder)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(item, args[0], folder) for item in value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {str(key): convert(item, args[1], folder) for key, item in value.items()}
    raise MismatchError


def _to_scalar(value: object, kind: object) -> object:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        # False for nan, infinity and integers that no float holds.
        if abs(value) <= sys.float_info.max:
            return float(value)
    elif type(value) is kind:
        return value
    raise MismatchError(describe(kind))


def _to_path(value: object, folder: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise MismatchError("a path")
    return (folder / os.path.expanduser(value)).resolve()


def _to_model(value: object, folder: Path) -> Model:
    if not isinstance(value, str) or not value or "\0" in value:
        raise MismatchError(_MODEL_RULE)
    path = _to_path(value, folder)
    if path.is_dir():
        return Model(str(path))
    if value.startswith((".", "/", "~")) or value.count("/") > 1:
        raise MismatchError(f"{_MODEL_RULE}, but there is no folder {path}")
    if not _HUB_ID.fullmatch(value):
        raise MismatchError(_MODEL_RULE)
    return Model(value)


def _to_first_fitting(value: object, kind: object, folder: Path) -> object:
    for member in get_args(kind):
        try:
            return convert(value, member, folder)
        except MismatchError:
            continue
    raise MismatchError


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _plural(kind: object) -> str:
    if get_origin(kind) is tuple:
        return f"lists of {_plural(get_args(kind)[0])}"
    if get_origin(kind) is Mapping:
        return f"tables of {_plural(get_args(kind)[1])}"
    plurals: Mapping[object, str] = {int: "whole numbers", float: "numbers", str: "texts", object: "values"}
    return plurals[kind]


def _default_text(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return toml_text(field.default)
    return toml_text(field.default_factory()) if field.default_factory is not MISSING else "required"


def _literals_under_fields(config_class: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for statement, follower in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match follower:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[statement.target.id] = inspect.cleandoc(text)
    return docs
