"""What models cost and how much they take: a dated table with sources, which the user's own lies over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agents.errors import OptionError

PRICES_VARIABLE = "KEVOLVE_PRICES"
DEFAULT_CONTEXT_TOKENS = 32_768
"""Assumed of a model that no table names."""
DEFAULT_OUTPUT_TOKENS = 8_192
_FIELDS = {"input", "output", "context_tokens", "max_output_tokens", "source", "date"}
_NEEDED = {"input", "output", "source", "date"}


@dataclass(frozen=True)
class Price:
    """One model's entry."""

    input: float
    """USD per million tokens sent."""
    output: float
    """USD per million tokens received."""
    source: str
    date: str
    """When the source was read, YYYY-MM-DD."""
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS

    def dollars(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of a request in USD."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class PriceTable:
    """Prices by model name.

    Args:
        entries: By name; the longest that a model's name begins with counts.
        free: Providers that charge nothing.
    """

    def __init__(self, entries: Mapping[str, Price], free: frozenset[str]) -> None:
        self._entries = dict(entries)
        self._free = free

    @staticmethod
    def load(home: Path | None = None) -> PriceTable:
        """Return the packaged table with the user's own over it: `KEVOLVE_PRICES`, else `prices.yaml` in the home.

        Raises:
            OptionError: A file cannot be read or says something that is no price.
        """
        entries, free = _read(Path(__file__).with_name("prices.yaml"))
        named = os.environ.get(PRICES_VARIABLE, "").strip()
        own = Path(named).expanduser() if named else home / "prices.yaml" if home else None
        if own is not None and (named or own.exists()):
            more, more_free = _read(own)
            entries, free = {**entries, **more}, free | more_free
        return PriceTable(entries, free)

    def find(self, name: str) -> Price | None:
        """Return the entry of `provider:model` or `model`; None if no table names it."""
        provider, _, model = name.partition(":")
        if provider in self._free:
            return Price(0.0, 0.0, "charges nothing per token", "")
        wanted = (model or provider).rpartition("/")[2]
        fitting = [key for key in self._entries if wanted.startswith(key)]
        return self._entries[max(fitting, key=len)] if fitting else None


@cache
def _read(path: Path) -> tuple[dict[str, Price], frozenset[str]]:
    import yaml

    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))  # Any: YAML, checked below
    except OSError as error:
        raise OptionError(f"the price table {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise OptionError(f"the price table {path} is not valid YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("prices", {}), dict) or set(data) - {"prices", "free"}:
        raise OptionError(f"the price table {path} must hold `prices:` (model to entry) and may hold `free:` (list of providers)")
    entries = {}
    for name, item in data.get("prices", {}).items():
        if not isinstance(item, dict) or not _NEEDED <= set(item) <= _FIELDS:
            raise OptionError(f"{path}: {name} needs {', '.join(sorted(_NEEDED))} and may have context_tokens, max_output_tokens")
        values = {**item, "date": str(item["date"]), "source": str(item["source"])}
        numbers = [values[key] for key in ("input", "output", "context_tokens", "max_output_tokens") if key in values]
        if any(isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < 1e9 for number in numbers):
            raise OptionError(f"{path}: {name} has a number that is none: {item}")
        entries[str(name)] = Price(**values)
    return entries, frozenset(str(name) for name in data.get("free", []))
