"""Where the knowledge base lives and what the environment says about it; the one place that reads environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path


def default_home() -> Path:
    """Return `KEVOLVE_HOME`, else the user's data directory for this program."""
    chosen = os.environ.get("KEVOLVE_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("kevolve")


def vectors_address() -> str | None:
    """Return the address of a Chroma server from `KEVOLVE_CHROMA_URL`, or None for the embedded one."""
    return os.environ.get("KEVOLVE_CHROMA_URL") or None


def default_embedder() -> str:
    """Return the embedder for new bases: `KEVOLVE_EMBEDDER`, else `minilm`."""
    return os.environ.get("KEVOLVE_EMBEDDER") or "minilm"


def tokenizer_path() -> Path | None:
    """Return `KEVOLVE_TOKENIZER`, a `tokenizer.json` for hosts that carry only the int8 weights, or None."""
    chosen = os.environ.get("KEVOLVE_TOKENIZER")
    return Path(chosen) if chosen else None


def server_token() -> str | None:
    """Return the token of `kb serve` from `KEVOLVE_KB_TOKEN`, or None."""
    return os.environ.get("KEVOLVE_KB_TOKEN") or None


def catalogue_address() -> str | None:
    """Return `KEVOLVE_CATALOGUE_URL`, the address of a PostgreSQL database for the default home, or None for SQLite in it."""
    return os.environ.get("KEVOLVE_CATALOGUE_URL") or None


def catalogue_place(home: Path) -> str:
    """Return where the catalogue of a home is: for the default home `KEVOLVE_CATALOGUE_URL`, if set; else the path of the SQLite file."""
    address = catalogue_address() if home == default_home().expanduser().absolute() else None
    return address or str(home / "kb" / "catalogue.sqlite")


def without_password(place: str) -> str:
    """Return the place of a catalogue as it may be shown and logged."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1@", place)


def embeddings_address() -> str | None:
    """Return `KEVOLVE_EMBEDDINGS_URL`, the base URL of an OpenAI-compatible embeddings endpoint, or None."""
    return os.environ.get("KEVOLVE_EMBEDDINGS_URL") or None


def embeddings_key() -> str | None:
    """Return the key of that endpoint from `KEVOLVE_EMBEDDINGS_KEY`, else `OPENAI_API_KEY`, or None."""
    return os.environ.get("KEVOLVE_EMBEDDINGS_KEY") or os.environ.get("OPENAI_API_KEY") or None
