"""Profile with Proton, Triton's profiler: python profile_proton.py [candidate|reference]. Writes proton-WHICH.hatchet (read it with proton-viewer -m time/us,count)."""

from __future__ import annotations

import sys
from pathlib import Path

import triton.profiler as proton
from workload import HERE, SETTINGS, build, synchronize, turn, warm  # type: ignore[import-not-found]  # stands beside this file where it is run


def main(which: str) -> Path:
    """Record some calls and return the tree's path."""
    call = build(which)
    warm(call)
    turn()
    warm(call)
    proton.start(str(HERE / f"proton-{which}"), hook="triton", context="shadow", data="tree")
    for _ in range(SETTINGS["calls"]):
        with proton.scope(which):
            call()
    synchronize()
    proton.finalize()
    path: Path = HERE / f"proton-{which}.hatchet"
    print(f"{SETTINGS['calls']} calls; tree: {path}")
    return path


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "candidate")
