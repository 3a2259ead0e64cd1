"""The rules, one module per theme. Importing a module registers its rules; `load` imports them all."""

from __future__ import annotations

import importlib

MODULES = ("arithmetic", "host", "memory", "mtia", "shapes")


def load() -> None:
    """Register every rule. Cheap after the first call."""
    for name in MODULES:
        importlib.import_module(f"tools.lint.rules.{name}")
