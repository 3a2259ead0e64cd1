"""Tunables of a kernel: defaults, what is allowed for given arguments and target, and the order in which to try."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from agents.coders.library.documents import Kernel
from agents.coders.library.regions import Plan, Region, scope_of
from tools.errors import ExpressionError
from tools.expressions import Expression

Setting = dict[str, Any]  # Any: numbers or words from YAML
MAX_PRODUCT = 20_000


def region_scope(region: Region, plan: Plan, limits: Mapping[str, float]) -> dict[str, Any]:  # Any: expression values
    """Return the names that a region's tunable defaults and constraints may use."""
    return scope_of(region.arguments, plan.view.graph, region.output, limits)


def default_tunables(region: Region, plan: Plan, limits: Mapping[str, float]) -> Setting:
    """Return the document's defaults for the region's arguments, moved to the nearest allowed setting where they break a constraint."""
    return defaults(region.kernel, region_scope(region, plan, limits))


def defaults(kernel: Kernel, scope: Mapping[str, Any]) -> Setting:  # Any: expression values
    """Return a kernel's default setting in a scope."""
    setting: Setting = {}
    for tunable in kernel.tunables:
        value = tunable.default
        if isinstance(value, Expression):
            try:
                value = value.evaluate({**scope, **setting})
            except ExpressionError:
                value = tunable.values[0]
        setting[tunable.name] = value if value in tunable.values or not isinstance(value, int | float) else _nearest(value, tunable.values)
    if is_allowed(kernel, setting, scope):
        return setting
    return min(allowed(kernel, scope), key=lambda other: _distance(kernel, setting, other), default=setting)


def with_value(
    kernel: Kernel, setting: Mapping[str, Any], scope: Mapping[str, Any], name: str, value: Any
) -> Setting | None:  # Any: as above
    """Return the allowed setting nearest to one with one tunable set to a value; None if there is none."""
    wanted = {**setting, name: value}
    if is_allowed(kernel, wanted, scope):
        return wanted
    fitting = (other for other in allowed(kernel, scope) if other[name] == value)
    return min(fitting, key=lambda other: _distance(kernel, wanted, other), default=None)


def is_allowed(kernel: Kernel, setting: Mapping[str, Any], scope: Mapping[str, Any]) -> bool:  # Any: expression values
    """Say whether a setting meets the document's constraints; one that cannot be evaluated (a limit that the target does not state) is left out."""
    for constraint in kernel.constraints:
        try:
            if not constraint.evaluate({**scope, **setting}):
                return False
        except ExpressionError:
            continue
    return True


def allowed(kernel: Kernel, scope: Mapping[str, Any]) -> Iterator[Setting]:  # Any: expression values
    """Yield the settings that meet the constraints, at most `MAX_PRODUCT` looked at."""
    names = [tunable.name for tunable in kernel.tunables]
    for values in itertools.islice(itertools.product(*(tunable.values for tunable in kernel.tunables)), MAX_PRODUCT):
        setting = dict(zip(names, values, strict=True))
        if is_allowed(kernel, setting, scope):
            yield setting


def neighbours(
    kernel: Kernel, setting: Mapping[str, Any], scope: Mapping[str, Any], rng: random.Random
) -> list[Setting]:  # Any: expression values
    """Return allowed settings near one, nearest first: one tunable moved a step, then two; ties in seeded order."""
    found = [other for other in allowed(kernel, scope) if 0 < _distance(kernel, setting, other) <= 3]
    rng.shuffle(found)
    return sorted(found, key=lambda other: _distance(kernel, setting, other))


def _distance(kernel: Kernel, a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    total = 0
    for tunable in kernel.tunables:
        left, right = a.get(tunable.name), b.get(tunable.name)
        if left == right:
            continue
        values = list(tunable.values)
        total += abs(values.index(left) - values.index(right)) if left in values and right in values else 1
    return total


def _nearest(value: float, values: tuple[Any, ...]) -> Any:  # Any: a tunable's value
    numbers = [item for item in values if isinstance(item, int | float)]
    return min(numbers, key=lambda item: abs(math.log2(max(item, 1e-9)) - math.log2(max(value, 1e-9)))) if numbers else values[0]
