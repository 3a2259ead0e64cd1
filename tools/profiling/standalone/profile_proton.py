"""Profile with Proton, Triton's profiler: python profile_proton.py [candidate|reference] [--torch-cupti].

Writes proton-WHICH.hatchet (read it with proton-viewer -m time/us,count). --torch-cupti: use the tracing library that came with PyTorch, should the driver not work with Triton's.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from workload import HERE, SETTINGS, build, synchronize, turn, turn_is_over, warm  # type: ignore[import-not-found]  # stands beside this file where it is run


def use_torch_cupti() -> None:
    """Point Triton to a folder with links to the library, under the names that it looks for."""
    found = sorted(Path(sysconfig.get_paths()["purelib"], "nvidia").glob("**/libcupti.so*"))
    if not found:
        raise FileNotFoundError("PyTorch brought no libcupti")
    folder = HERE / "cupti"
    folder.mkdir(exist_ok=True)
    for name in ("libcupti.so", found[-1].name):
        if not (folder / name).exists():
            (folder / name).symlink_to(found[-1])
    os.environ["TRITON_CUPTI_LIB_PATH"] = str(folder)


def main(which: str) -> Path:
    """Record some calls and return the tree's path."""
    import triton.profiler as proton

    call = build(which)
    warm(call)
    turn()
    warm(call)
    proton.start(str(HERE / f"proton-{which}"), hook="triton", context="shadow", data="tree")
    for _ in range(SETTINGS["calls"]):
        with proton.scope(which):
            call()
    synchronize()
    turn_is_over()
    proton.finalize()
    path: Path = HERE / f"proton-{which}.hatchet"
    print(f"{SETTINGS['calls']} calls; tree: {path}")
    return path


if __name__ == "__main__":
    if "--torch-cupti" in sys.argv:
        use_torch_cupti()
    main(next((word for word in sys.argv[1:] if not word.startswith("-")), "candidate"))
