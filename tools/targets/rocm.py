"""AMD GPUs through Triton: compiled to HSACO on any machine, measured where the device is."""

from __future__ import annotations

import functools

from tools.targets.profile import Profile
from tools.targets.triton_gpu import TritonGpuTarget


class RocmTarget(TritonGpuTarget):
    """One AMD architecture, for example `rocm:gfx942`."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile, "amd", local_device)


@functools.cache
def local_device() -> tuple[str, str] | None:
    """Return architecture (`gfx942`) and name of this machine's AMD device 0; None without one."""
    import torch

    if torch.version.hip is None or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return str(properties.gcnArchName).partition(":")[0], str(properties.name)
