"""The file that says which model plays which role: YAML, a role to its options. Keys have no place in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.config import ModelOptions
from agents.errors import OptionError

ROLES = ("coder", "planner", "diagnosis", "deep_search", "reflection")
"""Roles that a model may play. One that has none works by rules, except the llm coder, which needs one."""


def read_models(path: Path, coder: ModelOptions) -> tuple[ModelOptions, dict[str, ModelOptions]]:
    """Return the coder's options, those of the command line under those of the file, and the options of the other roles.

    Raises:
        OptionError: The file cannot be read, or names a role or an option that does not exist; the message lists those that do.
    """
    import yaml

    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}  # Any: YAML, checked below
    except OSError as error:
        raise OptionError(f"--models {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"--models {path} is not valid YAML: {error}") from error
    if not isinstance(data, Mapping) or not set(data) <= set(ROLES):
        raise OptionError(
            f"--models {path} must hold roles ({', '.join(ROLES)}), each with options; got {data if not isinstance(data, Mapping) else sorted(map(str, data))}"
        )
    found = {role: _options(path, role, options, coder if role == "coder" else ModelOptions()) for role, options in data.items()}
    for role, options in found.items():
        if role != "coder" and not options.name:
            raise OptionError(f"--models {path}: {role} has no `name`, for example `name: anthropic:claude-haiku-4-5`")
    return found.pop("coder", coder), found


def _options(path: Path, role: str, given: object, base: ModelOptions) -> ModelOptions:
    known = {field.name: field.type for field in dataclasses.fields(ModelOptions)}
    values = {"name": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise OptionError(
            f"--models {path}: {role} takes {', '.join(known)}; got {sorted(map(str, values)) if isinstance(values, Mapping) else given}"
        )
    checked: dict[str, Any] = {}
    for name, value in values.items():
        kind = known[name]
        if kind == "bool | None":
            what, fits = "true or false", isinstance(value, bool)
        elif kind == "str":
            what, fits = "a text", isinstance(value, str)
        else:
            what, fits = "a number", isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
        if not fits:
            raise OptionError(f"--models {path}: {role}.{name} must be {what}, got {value!r}")
        checked[str(name)] = value
    return dataclasses.replace(base, **checked)
