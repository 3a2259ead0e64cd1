"""Read a chip's numbers from the front matter of its document, so that the knowledge base and the toolchain never disagree.

A document with `profile: <target>` and `limits:` in its front matter *is* the profile of that target. Nothing here holds a hardware number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tools.docs import docs_root, profile_roots
from tools.errors import ProfileError
from tools.targets.base import Limit

TRUSTS = ("measured", "documented", "derived", "unverified")

_GPU = (
    "warp_size",
    "multiprocessors",
    "max_threads_per_block",
    "max_registers_per_thread",
    "max_warps_per_multiprocessor",
    "shared_memory_per_block_bytes",
    "shared_memory_per_multiprocessor_bytes",
    "l2_bytes",
    "dram_bytes",
    "dram_gb_per_s",
    "flops_per_s_float32",
    "flops_per_s_float16",
    "flops_per_s_bfloat16",
)
_TILES = (
    "processing_elements",
    "clock_ghz",
    "local_memory_bytes",
    "local_memory_bytes_per_cycle",
    "sram_bytes",
    "sram_gb_per_s",
    "dram_bytes",
    "dram_gb_per_s",
    "dram_efficiency_fraction",
    "dma_alignment_bytes",
    "dma_issue_cycles",
    "dma_latency_ns",
    "dpe_tiles",
    "dpe_tile_bytes",
    "dpe_efficiency_fraction",
    "simd_ops_per_cycle",
    "vector_bytes",
    "vector_cores",
    "libm_vector_ops",
    "issue_cycles",
    "gather_ns",
    "launch_us",
    "flops_per_s_float16",
)
"""What the model of `tools.targets.mtia_model` reads, of any chip made of cores with a memory of their own."""
REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cuda": (*_GPU, "registers_per_multiprocessor", "max_blocks_per_multiprocessor", "max_grid_y"),
        "rocm": (*_GPU, "simds_per_multiprocessor"),
        "cpu": ("simd_bytes", "cache_line_bytes"),
        "mtia": (*_TILES, "max_circular_buffers"),
        "sim": _TILES,
    }
)
"""Names of limits that every profile of a toolchain states."""

_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "_gb_per_s": (1.0, 1e6),
        "_bytes": (1.0, 1e15),
        "_fraction": (0.0, 1.0),
        "_ghz": (0.05, 10.0),
        "_per_thread": (1.0, 4096.0),
        "_size": (1.0, 1024.0),
        "_us": (0.0, 1e6),
        "_ns": (0.0, 1e9),
    }
)
"""Suffix of a limit's name to the values that can be true of any chip; anything else is a typing error (a wrong unit, most often)."""
_FLOPS_RANGE = (1e9, 1e19)


@dataclass(frozen=True)
class Profile:
    """The machine-readable part of a chip's document."""

    target: str
    """For example `cuda:sm_90`."""
    title: str
    document: str
    """Path relative to `docs/`."""
    limits: Mapping[str, Limit]
    rules: tuple[str, ...] = ()
    """Rules of the linter that hold for the chip, besides those of its family."""


def load_profiles(root: Path | None = None) -> Mapping[str, Profile]:
    """Return every profile below `root` (default: this installation's `docs/` and the directories of KEVOLVE_PROFILES), keyed by target. Cached until a document changes.

    Raises:
        ProfileError: A document is malformed, misses a required number, states an absurd one, or two documents claim one target.
        MachineError: There is no `docs/`.
    """
    usable, faults = survey_profiles(root)
    if faults:
        raise faults[0]
    return usable


def survey_profiles(root: Path | None = None) -> tuple[Mapping[str, Profile], tuple[ProfileError, ...]]:
    """Return the profiles that can be used, and what is wrong with the others; of documents that claim one target the first counts.

    Raises:
        MachineError: There is no `docs/`.
    """
    bases = (docs_root(), *profile_roots()) if root is None else (root,)
    return _load(tuple((base, tuple(sorted((str(path), path.stat().st_mtime_ns) for path in base.rglob("*.md")))) for base in bases))


@functools.lru_cache(maxsize=8)
def _load(stamps: tuple[tuple[Path, tuple[tuple[str, int], ...]], ...]) -> tuple[Mapping[str, Profile], tuple[ProfileError, ...]]:
    profiles: dict[str, Profile] = {}
    faults = []
    for base, name in ((base, name) for base, stamp in stamps for name, _ in stamp):
        try:
            profile = read_profile(Path(name), base)
        except ProfileError as error:
            faults.append(error)
            continue
        if profile is None:
            continue
        if profile.target in profiles:
            other = profiles[profile.target].document
            told = f"{profile.document} and {other} both say `profile: {profile.target}`; keep one"
            faults.append(ProfileError(told, document=profile.document))
            continue
        profiles[profile.target] = profile
    return MappingProxyType(profiles), tuple(faults)


def read_profile(path: Path, base: Path) -> Profile | None:
    """Return the profile in a document's front matter; None if it has no `profile:`.

    Raises:
        ProfileError: It has one that cannot be used.
    """
    front = _front_matter(path)
    if front is None or "profile" not in front:
        return None
    document = path.relative_to(base).as_posix()
    target, stated = front["profile"], front.get("limits")
    if not isinstance(target, str) or not isinstance(stated, Mapping):
        raise ProfileError(
            f"{document}: `profile:` needs a target name and `limits:` a mapping of name to value, unit, source, trust", document
        )
    limits = {name: _limit(document, str(name), entry) for name, entry in stated.items()}
    _check_whole(document, target, limits)
    rules = front.get("rules", [])
    if not isinstance(rules, list) or not all(isinstance(item, str) for item in rules):
        raise ProfileError(f"{document}: `rules:` must be a list of rule names such as M01, got {rules!r}", document)
    return Profile(target, str(front.get("title", target)), document, MappingProxyType(limits), tuple(rules))


def _front_matter(path: Path) -> Mapping[str, Any] | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.readline().rstrip() != "---":
                return None
            lines = []
            for line in file:
                if line.rstrip() == "---":
                    break
                lines.append(line)
    except OSError as err:
        raise ProfileError(f"{path} cannot be read: {err.strerror}", str(path)) from err
    if not any(line.startswith("profile:") for line in lines):
        return None
    try:
        front = yaml.safe_load("".join(lines))
    except yaml.YAMLError as err:
        raise ProfileError(f"{path}: front matter is not YAML: {err}", str(path)) from err
    return front if isinstance(front, Mapping) else None


def _limit(document: str, name: str, entry: object) -> Limit:
    if not isinstance(entry, Mapping) or set(entry) != {"value", "unit", "source", "trust"}:
        raise ProfileError(f"{document}: limit {name!r} needs exactly value, unit, source and trust, got {entry!r}", document)
    value, trust = entry["value"], entry["trust"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "; YAML reads 1e12 as text: write 1.0e+12" if isinstance(value, str) else ""
        raise ProfileError(f"{document}: limit {name!r} must be a number, got {value!r}{hint}", document)
    if trust not in TRUSTS:
        raise ProfileError(f"{document}: limit {name!r} has trust {trust!r}; known: {', '.join(TRUSTS)}", document)
    low, high = _range(name)
    if not (math.isfinite(value) and value > 0 and low <= value <= high):
        raise ProfileError(f"{document}: limit {name!r} = {value!r} {entry['unit']} is absurd; allowed: {low:g} to {high:g}", document)
    return Limit(value=float(value), unit=str(entry["unit"]), source=str(entry["source"]), trust=str(trust))


def _range(name: str) -> tuple[float, float]:
    if name.startswith("flops_per_s_"):
        return _FLOPS_RANGE
    return next((span for suffix, span in _RANGES.items() if name.endswith(suffix)), (0.0, math.inf))


def _check_whole(document: str, target: str, limits: Mapping[str, Limit]) -> None:
    missing = [name for name in REQUIRED.get(target.partition(":")[0], ()) if name not in limits]
    if missing:
        raise ProfileError(f"{document}: the profile of {target} lacks {', '.join(missing)}; add them to `limits:`", document)
    pairs = (
        ("shared_memory_per_block_bytes", "shared_memory_per_multiprocessor_bytes"),
        ("local_memory_bytes", "sram_bytes"),
        ("l2_bytes", "dram_bytes"),
    )
    for small, large in pairs:
        if small in limits and large in limits and limits[small].value > limits[large].value:
            raise ProfileError(f"{document}: {small} ({limits[small].value:g}) exceeds {large} ({limits[large].value:g})", document)
