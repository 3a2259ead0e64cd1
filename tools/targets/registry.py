"""Names to targets. A chip joins by a document with a profile; a toolchain joins by one line in `_TOOLCHAINS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tools.errors import UnknownTargetError
from tools.targets.base import Target
from tools.targets.cpu import CpuTarget
from tools.targets.cuda import CudaTarget, local_chip
from tools.targets.profile import Profile, survey_profiles
from tools.targets.rocm import RocmTarget
from tools.targets.simulated import SimulatedTarget

_TOOLCHAINS: Mapping[str, Callable[[Profile], Target]] = MappingProxyType(
    {"cpu": CpuTarget, "cuda": CudaTarget, "rocm": RocmTarget, "mtia": SimulatedTarget, "sim": SimulatedTarget}
)


def known_targets() -> tuple[str, ...]:
    """Return every exact target name whose document can be used, sorted. `cuda` is accepted too and means the local device's architecture, else sm_90."""
    return tuple(sorted(name for name in survey_profiles()[0] if name.partition(":")[0] in _TOOLCHAINS))


def is_simulated(name: str) -> bool:
    """True if a target of this name is known from documents alone, so that everything said about it is simulated."""
    return _TOOLCHAINS.get(name.partition(":")[0]) is SimulatedTarget


def unusable_documents() -> tuple[str, ...]:
    """Return what is wrong with each document that says to describe a target and cannot be used."""
    return tuple(str(fault) for fault in survey_profiles()[1])


def get_target(name: str) -> Target:
    """Return the target of a name such as `cpu`, `cuda`, `cuda:sm_90`, `rocm:gfx950` or `mtia:2i`.

    Raises:
        UnknownTargetError: No document describes it, or the one that does cannot be used; the message says what is wrong with it.
        ProfileError: Several documents describe it.
    """
    wanted = f"cuda:{local_chip()}" if name == "cuda" else name
    profiles, faults = survey_profiles()
    toolchain = wanted.partition(":")[0]
    if wanted not in profiles or toolchain not in _TOOLCHAINS:
        meant = f" (this machine's device is {wanted})" if wanted != name else ""
        raise UnknownTargetError(
            f"unknown target {name!r}{meant}; known: {', '.join(known_targets())}, cuda. "
            f"To add a chip, write a document with `profile: {wanted}` and `limits:` below docs/ (see docs/guide/targets.md)"
            + "".join(f". Cannot be used: {fault}" for fault in faults)
        )
    for fault in faults:
        if f"`profile: {wanted}`" in str(fault):
            raise fault
    return _TOOLCHAINS[toolchain](profiles[wanted])
