"""Constructor arguments that are objects (configurations): taken apart into data for another process, and put together there from its own classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

_MARK = "object of class"


def to_data(tree: Any, module: Any) -> Any:  # Any: an argument tree; the problem's module
    """Return the tree with each object of a class that the module defines at its top level (or `SimpleNamespace`) as a dict of its attributes."""
    if isinstance(tree, (list, tuple)):
        items = [to_data(item, module) for item in tree]
        return tuple(items) if isinstance(tree, tuple) else items
    if isinstance(tree, dict):
        return {key: to_data(item, module) for key, item in tree.items()}
    kind = type(tree)
    if kind is SimpleNamespace or (getattr(module, kind.__name__, None) is kind and hasattr(tree, "__dict__")):
        return {_MARK: kind.__name__, "attributes": {name: to_data(value, module) for name, value in vars(tree).items()}}
    return tree


def from_data(tree: Any, module: Any) -> Any:  # Any: an argument tree; the candidate's module
    """Put the objects of `to_data` together from the classes of this module.

    Raises:
        AttributeError: The module has no class of that name.
    """
    if isinstance(tree, (list, tuple)):
        items = [from_data(item, module) for item in tree]
        return tuple(items) if isinstance(tree, tuple) else items
    if not isinstance(tree, dict):
        return tree
    if _MARK not in tree:
        return {key: from_data(item, module) for key, item in tree.items()}
    values = from_data(tree["attributes"], module)
    if tree[_MARK] == "SimpleNamespace":
        return SimpleNamespace(**values)
    kind = getattr(module, tree[_MARK], None)
    if kind is None:
        raise AttributeError(f"the problem's constructor takes a {tree[_MARK]}; the candidate has to define the class {tree[_MARK]} too")
    made = kind.__new__(kind)
    made.__dict__.update(values)
    return made
