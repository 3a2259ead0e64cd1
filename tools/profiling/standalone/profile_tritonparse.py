"""Trace compilations and launches of Triton kernels with tritonparse: python profile_tritonparse.py [candidate|reference]. Writes tritonparse-WHICH.ndjson.

Needs the package tritonparse (pip install tritonparse). Open the file in its web page, or give it to `kevolve profile`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_ALWAYS_COMPILE"] = "1"  # what comes from the cache is not traced

import tritonparse.structured_logging  # type: ignore[import-untyped]  # ships no types
from workload import HERE, SETTINGS, build, synchronize, turn  # type: ignore[import-not-found]  # stands beside this file where it is run


def main(which: str) -> Path:
    """Trace some calls and return the trace's path."""
    folder = HERE / f"tritonparse-{which}"
    tritonparse.structured_logging.init(str(folder), enable_trace_launch=True)
    call = build(which)
    for _ in range(SETTINGS["calls"]):
        call()
    synchronize()
    turn()
    path: Path = HERE / f"tritonparse-{which}.ndjson"
    with path.open("wb") as out:
        for part in sorted(folder.glob("*.ndjson")):
            out.write(part.read_bytes())
    print(f"{SETTINGS['calls']} calls; trace: {path}")
    return path


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "candidate")
