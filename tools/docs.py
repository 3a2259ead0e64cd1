"""Where the knowledge sources (`docs/`) and examples of this installation are.

Looked for in `KEVOLVE_DOCS`, beside the packages (a checkout), then in the installed package data. `KEVOLVE_PROFILES` adds directories with documents of further chips.
"""

from __future__ import annotations

import os
from pathlib import Path

from tools.errors import MachineError

_PACKAGE = Path(__file__).resolve().parent


def docs_root() -> Path:
    """Return the directory that holds `nvidia/`, `kernels/` and the other knowledge sources.

    Raises:
        MachineError: None of the known places has it.
    """
    return _find("KEVOLVE_DOCS", _PACKAGE.parent / "docs", _PACKAGE / "_docs")


def profile_roots() -> tuple[Path, ...]:
    """Return the directories of KEVOLVE_PROFILES (separated as in PATH): documents of chips that this installation's `docs/` do not describe.

    Raises:
        MachineError: One of them is no directory.
    """
    places = tuple(Path(place) for place in os.environ.get("KEVOLVE_PROFILES", "").split(os.pathsep) if place)
    for place in places:
        if not place.is_dir():
            raise MachineError(f"no such directory: {place}; mend KEVOLVE_PROFILES")
    return places


def examples_root() -> Path:
    """Return the directory with the example problems.

    Raises:
        MachineError: None of the known places has it.
    """
    return _find("KEVOLVE_EXAMPLES", _PACKAGE.parent / "examples", _PACKAGE / "_examples")


def _find(variable: str, *places: Path) -> Path:
    chosen = os.environ.get(variable)
    candidates = [Path(chosen)] if chosen else list(places)
    for place in candidates:
        if place.is_dir():
            return place
    tried = ", ".join(str(place) for place in candidates)
    raise MachineError(f"no such directory: {tried}; set {variable} to the right one or reinstall the package")
