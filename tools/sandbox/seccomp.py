"""A seccomp filter, written as raw BPF: refuses tracing, other processes' memory, mounting, kernel modules and internet sockets.

`memfd_create` and `ioctl` stay open: CUDA does not initialise without them. Knows x86-64 and AArch64; elsewhere it says that it is off.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
_AF_INET, _AF_INET6 = 2, 10

_ARCHITECTURES = {
    # audit id, number of `socket`, numbers of: ptrace, process_vm_readv, process_vm_writev, mount, umount2, init_module, finit_module, delete_module,
    # kexec_load, bpf, perf_event_open, keyctl, add_key, request_key, setns, reboot, swapon, pivot_root, chroot, unshare
    "x86_64": (0xC000003E, 41, (101, 310, 311, 165, 166, 175, 313, 176, 246, 321, 298, 250, 248, 249, 308, 169, 167, 155, 161, 272)),
    "aarch64": (0xC00000B7, 198, (117, 270, 271, 40, 39, 105, 273, 106, 104, 280, 241, 219, 217, 218, 268, 142, 224, 41, 51, 97)),
}


def is_supported() -> bool:
    """True if the filter knows this processor architecture."""
    return platform.machine() in _ARCHITECTURES


def program() -> bytes:
    """Return the BPF program for this machine."""
    audit, socket_number, refused = _ARCHITECTURES[platform.machine()]
    body: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    for number in refused:
        body += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    body += [
        (_JUMP_EQUAL, 1, 0, socket_number), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        (_JUMP_EQUAL, 0, 1, _AF_INET), (_RETURN, 0, 0, _REFUSE), (_JUMP_EQUAL, 0, 1, _AF_INET6), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in body)


def restrict() -> bool:
    """Install the filter on the calling thread and its future children, for good.

    Returns:
        False if it does not know this architecture or the kernel has no seccomp.
    """
    if not is_supported():
        return False
    code = program()
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    header = Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) == 0)
