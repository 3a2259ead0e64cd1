"""NVIDIA GPUs through Triton: compiled on any machine, measured where the device is."""

from __future__ import annotations

import functools

from tools.targets.profile import Profile
from tools.targets.triton_gpu import TritonGpuTarget

DEFAULT_CHIP = "sm_90"
"""What `cuda` means where there is no NVIDIA device."""


class CudaTarget(TritonGpuTarget):
    """One NVIDIA architecture, for example `cuda:sm_90`."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile, "nvidia", local_device)


@functools.cache
def local_device() -> tuple[str, str] | None:
    """Return architecture (`sm_90`) and name of this machine's NVIDIA device 0; None without one. Does not initialise CUDA if torch is built without it."""
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}", str(torch.cuda.get_device_name(0))


def local_chip() -> str:
    """Return the architecture that the name `cuda` stands for on this machine."""
    device = local_device()
    return device[0] if device else DEFAULT_CHIP
