"""Names to targets. A chip joins by a document with a profile; a toolchain joins by one line in `_TOOLCHAINS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tools.errors import UnknownTargetError
from tools.targets.base import Target
from tools.targets.cpu import CpuTarget
from tools.targets.cuda import CudaTarget, local_chip
from tools.targets.profile import Profile, load_profiles
from tools.targets.rocm import RocmTarget
from tools.targets.simulated import SimulatedTarget

_TOOLCHAINS: Mapping[str, Callable[[Profile], Target]] = MappingProxyType(
    {"cpu": CpuTarget, "cuda": CudaTarget, "rocm": RocmTarget, "mtia": SimulatedTarget, "sim": SimulatedTarget}
)


def known_targets() -> tuple[str, ...]:
    """Return every exact target name, sorted. `cuda` is accepted too and means the local device's architecture, else sm_90.

    Raises:
        ProfileError: A chip's document is unusable.
    """
    return tuple(sorted(name for name in load_profiles() if name.partition(":")[0] in _TOOLCHAINS))


def get_target(name: str) -> Target:
    """Return the target of a name such as `cpu`, `cuda`, `cuda:sm_90`, `rocm:gfx950` or `mtia:2i`.

    Raises:
        UnknownTargetError: No document describes it.
        ProfileError: A chip's document is unusable.
    """
    wanted = f"cuda:{local_chip()}" if name == "cuda" else name
    profiles = load_profiles()
    toolchain = wanted.partition(":")[0]
    if wanted not in profiles or toolchain not in _TOOLCHAINS:
        meant = f" (this machine's device is {wanted})" if wanted != name else ""
        raise UnknownTargetError(
            f"unknown target {name!r}{meant}; known: {', '.join(known_targets())}, cuda. "
            f"To add a chip, write a document with `profile: {wanted}` and `limits:` below docs/ (see docs/guide/targets.md)"
        )
    return _TOOLCHAINS[toolchain](profiles[wanted])
