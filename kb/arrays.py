"""Arrays kept in files between processes: written at once, mapped when read, thrown away when they do not fit. A cache: losing it costs time only."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FORMAT = 1


def save_arrays(folder: Path, stamp: str, arrays: Mapping[str, NDArray[Any]]) -> None:  # Any: dtypes
    """Write arrays under a stamp in place of what the folder holds; a failure is logged, not raised."""
    import numpy as np

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        shapes = {name: [str(array.dtype), *array.shape] for name, array in arrays.items()}
        (temporary / "about.json").write_text(json.dumps({"format": FORMAT, "stamp": stamp, "arrays": shapes}), encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        temporary.rename(folder)
    except OSError as err:
        log.info("index files not kept in %s: %s", folder, err)
    finally:
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def load_arrays(folder: Path, stamp: str) -> dict[str, NDArray[Any]] | None:  # Any: dtypes
    """Return the arrays, mapped read-only, if they were kept under this stamp; else None."""
    import numpy as np

    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if (about["format"], about["stamp"]) != (FORMAT, stamp):
            return None
        found = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in about["arrays"]}
        shapes = {name: [str(array.dtype), *array.shape] for name, array in found.items()}
        return found if shapes == about["arrays"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def places_of(numbers: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the wanted numbers stand among `numbers`, those that are there; both ascend."""
    import numpy as np

    if not len(numbers):
        return np.zeros(0, dtype=np.int64)
    found: NDArray[np.int64] = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    kept: NDArray[np.int64] = found[numbers[found] == wanted]
    return kept
