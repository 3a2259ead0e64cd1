"""A seccomp filter, written as raw BPF: refuses tracing, other processes' memory, priorities and limits, clocks, mounting, namespaces, kernel modules and internet sockets.

`memfd_create` and `ioctl` stay open: CUDA does not initialise without them. Knows x86-64 and AArch64; elsewhere it says that it is off.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x06,
)  # linux/bpf_common.h: LD|W|ABS, JMP|{JEQ,JGE,JSET}|K, RET|K
_ALLOW, _REFUSE, _MISSING = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
_AF_INET, _AF_INET6, _AF_ALG, _AF_VSOCK = 2, 10, 38, 40
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h)
_X32 = 0x40000000  # numbers from here on are x86-64's second set of system calls
_Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Numbers:
    """System call numbers of one architecture (asm/unistd.h)."""

    audit: int
    socket: int
    clone: int
    clone3: int
    own_only: tuple[int, ...]
    """Their first argument names a process; only 0, the caller itself, is allowed: sched_setaffinity, prlimit64, move_pages, migrate_pages."""
    signals: tuple[int, ...]
    """kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo: first argument is a process, and it must be the caller where Landlock does not see to that."""
    tkill: int
    refused: tuple[int, ...]


_ALIKE = (424, 425, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 448)
"""The same everywhere: pidfd_send_signal, io_uring_setup (its operations pass no filter), open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_open,
pidfd_getfd, process_madvise, mount_setattr, process_mrelease."""
_ARCHITECTURES = {
    # refused, line by line: ptrace, process_vm_readv, process_vm_writev, kcmp, perf_event_open, userfaultfd | mount, umount2, pivot_root, chroot, unshare, setns |
    # init_module, finit_module, delete_module, kexec_load, kexec_file_load, bpf, reboot, swapon, swapoff, acct, syslog, quotactl, vhangup | keyctl, add_key,
    # request_key | settimeofday, clock_settime, adjtimex, clock_adjtime, sethostname, setdomainname | setpriority, sched_setparam, sched_setscheduler,
    # sched_setattr, ioprio_set | name_to_handle_at, open_by_handle_at, fanotify_init | shmget, semget, msgget, mq_open (they outlive a process) | connect (Landlock
    # lets sockets with a path through) | x86: iopl, ioperm
    "x86_64": _Numbers(
        0xC000003E, 41, 56, 435, (203, 302, 279, 256), (62, 234, 129, 297), 200,
        (101, 310, 311, 312, 298, 323, 165, 166, 155, 161, 272, 308, 175, 313, 176, 246, 320, 321, 169, 167, 168, 163, 103, 179, 153, 250, 248, 249, 164, 227, 159, 305,
         170, 171, 141, 142, 144, 314, 251, 303, 304, 300, 29, 64, 68, 240, 42, 172, 173, *_ALIKE),
    ),
    "aarch64": _Numbers(
        0xC00000B7, 198, 220, 435, (122, 261, 239, 238), (129, 131, 138, 240), 130,
        (117, 270, 271, 272, 241, 282, 40, 39, 41, 51, 97, 268, 105, 273, 106, 104, 294, 280, 142, 224, 225, 89, 116, 60, 58, 219, 217, 218, 170, 112, 171, 266, 161, 162,
         140, 118, 119, 274, 30, 264, 265, 262, 194, 190, 186, 180, 203, *_ALIKE),
    ),
}  # fmt: skip


def is_supported() -> bool:
    """True if the filter knows this processor architecture."""
    return platform.machine() in _ARCHITECTURES


def program(own_signals_of: int | None = None) -> bytes:
    """Return the BPF program for this machine.

    Args:
        own_signals_of: A process that may signal itself alone; None: signals are not looked at.
    """
    numbers = _ARCHITECTURES[platform.machine()]
    body: list[_Instruction] = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, numbers.audit),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
        (_JUMP_EQUAL, 0, 1, numbers.clone3),  # its flags lie in memory, which a filter cannot read; the C library then takes clone
        (_RETURN, 0, 0, _MISSING),
    ]
    for number in numbers.refused:
        body += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number in numbers.own_only:
        body += _only_if(number, [0])
    if own_signals_of is not None:
        body += [(_JUMP_EQUAL, 0, 1, numbers.tkill), (_RETURN, 0, 0, _REFUSE)]
        for number in numbers.signals:
            body += _only_if(number, [0, own_signals_of, -own_signals_of & 0xFFFFFFFF])
    body += _unless_bits(numbers.clone, _NEW_NAMESPACES)
    body += _unless(numbers.socket, [_AF_INET, _AF_INET6, _AF_ALG, _AF_VSOCK])
    body.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in body)


def _only_if(number: int, values: Sequence[int]) -> list[_Instruction]:
    """Allow one system call if its first argument is one of the values, else refuse; others go on with their number loaded."""
    tests: list[_Instruction] = []
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [(_JUMP_EQUAL, 0, len(tests) + 2, number), (_LOAD, 0, 0, _AT_FIRST_ARGUMENT), *tests, (_RETURN, 0, 0, _REFUSE)]


def _unless(number: int, values: Sequence[int]) -> list[_Instruction]:
    """Refuse one system call if its first argument is one of the values, else allow."""
    tests: list[_Instruction] = []
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _REFUSE)]
    return [(_JUMP_EQUAL, 0, len(tests) + 2, number), (_LOAD, 0, 0, _AT_FIRST_ARGUMENT), *tests, (_RETURN, 0, 0, _ALLOW)]


def _unless_bits(number: int, bits: int) -> list[_Instruction]:
    """Refuse one system call if its first argument has any of the bits, else allow."""
    return [
        (_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _AT_FIRST_ARGUMENT), (_JUMP_ANY_BIT, 0, 1, bits), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip


def restrict(*, signals_by_landlock: bool) -> bool:
    """Install the filter on the calling thread and its future children, for good.

    Args:
        signals_by_landlock: Landlock already keeps signals inside; otherwise this process may signal itself alone.

    Returns:
        False if it does not know this architecture or the kernel has no seccomp.
    """
    if not is_supported():
        return False
    code = program(None if signals_by_landlock else os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    header = Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) == 0)
