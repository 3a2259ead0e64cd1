"""Give up every capability of the calling process, for good: a candidate that runs as root is then root in name alone.

Without this a root candidate could set the system's clock, read other processes' environments (CAP_PERFMON is enough for that since Linux 6.13), lock a GPU's
clocks or take real-time priority. It keeps its user id, so files and processes of the same user need the other layers.
"""

from __future__ import annotations

import ctypes
import struct

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 24, 28, 47, 4
_NOROOT_LOCKED = 0x3  # SECBIT_NOROOT and its lock, linux/securebits.h: user id 0 gains nothing at exec
_VERSION_3 = 0x20080522  # linux/capability.h
_HIGHEST = 63


def drop() -> None:
    """Empty the bounding, ambient, inheritable, permitted and effective sets; does nothing to a process that has none.

    Raises:
        OSError: The kernel refuses, which it never does for fewer capabilities.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(_HIGHEST + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to those who hold no CAP_SETPCAP, who gain nothing by it either
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.prctl(_PR_SET_SECUREBITS, _NOROOT_LOCKED, 0, 0, 0)
    header, sets = struct.pack("<Ii", _VERSION_3, 0), bytes(24)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def held() -> int:
    """Return the effective capabilities of this process as a bit mask."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = struct.pack("<Ii", _VERSION_3, 0), ctypes.create_string_buffer(24)
    if libc.capget(header, sets) != 0:
        return 0
    low, _, _, high, _, _ = struct.unpack("<6I", sets.raw)
    return int(low) | int(high) << 32
