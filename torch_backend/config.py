"""Frozen dataclasses to and from TOML. Unknown keys and wrong types are refused: no typo goes unnoticed."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

ConfigT = TypeVar("ConfigT")


def load_toml_config(path: Path, config_type: type[ConfigT]) -> ConfigT:
    """Read a TOML file into a dataclass.

    Raises:
        ValueError: not TOML, an unknown key, a missing key or a value of the wrong type.
        OSError: the file cannot be read.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    return config_from_dict(config_type, values, where=str(path))


def config_from_dict(config_type: type[ConfigT], values: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Build a (nested) dataclass from plain values.

    Args:
        config_type: a dataclass whose fields are bool, int, float, str, Path, Literal, optional, tuple[X, ...] or
            another dataclass.
        values: what `config_to_dict` or a TOML file gives.
        where: named in errors.

    Raises:
        ValueError: an unknown key, a missing key or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: expected a table for {config_type.__name__}, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown keys {unknown}; known are {sorted(fields)}")
    hints = typing.get_type_hints(config_type)
    arguments = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise ValueError(f"{where}: missing keys {missing}")
    return config_type(**arguments)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON-able and TOML-able values of a dataclass; fields that are None are left out.

    Raises:
        ValueError: `config` is no dataclass instance.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"expected a dataclass instance, got {config!r}")
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return config_to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _convert(expected: Any, value: Any, where: str) -> Any:
    """`value` as the type `expected`, or a ValueError that names both."""
    origin = get_origin(expected)
    if origin is Literal:
        if value not in get_args(expected):
            raise ValueError(f"{where}: expected one of {get_args(expected)}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(expected):
            return None
        inner = [option for option in get_args(expected) if option is not type(None)]
        return _convert(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(get_args(expected)[0], item, where) for item in value)
    if dataclasses.is_dataclass(expected):
        return config_from_dict(typing.cast(type, expected), value, where)
    return _convert_scalar(expected, value, where)


def _convert_scalar(expected: Any, value: Any, where: str) -> Any:
    # bool is a subclass of int, but "steps = true" is a mistake.
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if expected is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if expected is Path and isinstance(value, str | Path):
        return Path(value)
    if expected in (bool, str) and isinstance(value, expected):
        return value
    raise ValueError(f"{where}: expected {getattr(expected, '__name__', expected)}, got {value!r}")
