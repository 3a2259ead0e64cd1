"""Keys come from the environment or the system's keyring, and leave no trace: `scrub` takes them out of everything that is written down."""

from __future__ import annotations

import os
import re

from agents.errors import ModelError

KEY_VARIABLE = "KEVOLVE_API_KEY"
KEYRING_SERVICE = "kevolve"
_NAMED = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$", re.IGNORECASE)
_LEAST_CHARACTERS = 8
_SHAPES = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}"
    r"|(?<=Bearer )[A-Za-z0-9._~+/=-]{12,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
"""Forms in which common providers write their keys."""
MASK = "[secret removed]"


def find_key(name: str = KEY_VARIABLE, *others: str) -> str | None:
    """Return a key: the first of these environment variables that is set, else the keyring's entry `name` of the service `kevolve`, else None.

    Raises:
        ModelError: The keyring is locked or broken.
    """
    for variable in (name, *others):
        if value := os.environ.get(variable, "").strip():
            return value
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]  # optional
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(KEYRING_SERVICE, name)
    except Exception as error:  # each keyring backend raises errors of its own
        raise ModelError(f"the keyring cannot be read ({type(error).__name__}); set the environment variable {name} instead") from error
    return found


def scrub(text: str) -> str:
    """Return a text without keys: the values of environment variables named as secrets, and whatever looks like a provider's key."""
    for name, value in os.environ.items():
        if _NAMED.search(name) and len(value.strip()) >= _LEAST_CHARACTERS:
            text = text.replace(value.strip(), MASK)
    return _SHAPES.sub(MASK, text)
