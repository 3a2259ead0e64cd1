"""The settings of a base (table `meta`), read once in each reading transaction: its state does not change under it."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, RootTransaction, select

from kb.schema import meta

_READ: WeakKeyDictionary[RootTransaction, Mapping[str, str]] = WeakKeyDictionary()


def settings(connection: Connection) -> Mapping[str, str]:
    """Return all settings as the connection sees them."""
    transaction = connection.get_transaction()
    if transaction is None or connection.get_execution_options().get("kb_write"):
        return _read(connection)
    found = _READ.get(transaction)
    if found is None:
        found = _READ[transaction] = _read(connection)
    return found


def _read(connection: Connection) -> Mapping[str, str]:
    return {str(key): str(value) for key, value in connection.execute(select(meta.c.key, meta.c.value))}
