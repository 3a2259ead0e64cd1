"""Landlock through raw system calls: what a process may read and write, no TCP, no signals to processes outside.

The rule for reading is "everything but": a GPU's user-space driver reads from many places, so the hidden trees are named and all their siblings are allowed.
Needs Linux 5.13 for files, 6.7 for TCP, 6.12 for signals; older kernels get what they have.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture (asm-generic/unistd.h)
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
# Access rights, include/uapi/linux/landlock.h.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_ALL = sum(1 << bit for bit in range(4, 13))  # remove and make directories, devices, files, sockets, fifos, links
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKET, _SCOPE_SIGNAL = 1, 2
SIGNALS_SINCE = 6
"""Version from which on signals to processes outside, and abstract sockets of theirs, are refused."""
_KEPT_DEVICES = ("shm", "mqueue", "mem", "kmem", "port", "kmsg")
"""Below /dev: memory that outlives a process, the machine's own memory, the kernel's log."""


def abi_version() -> int:
    """Return the kernel's Landlock version; 0 if it has none or it is switched off."""
    found = _syscall(_CREATE_RULESET, None, 0, 1)
    return max(found, 0)


def restrict(*, hidden: Sequence[Path], readable: Sequence[Path], writable: Sequence[Path]) -> bool:
    """Confine the calling thread and its future children, for good.

    Args:
        hidden: Trees that may not be read, except for what the other two lists name below them.
        readable: Trees that may be read and executed from, even below hidden ones.
        writable: Trees that may be written to, too.

    Returns:
        False if the kernel has no Landlock; nothing is restricted then.

    Raises:
        OSError: The kernel refuses the rules.
    """
    version = abi_version()
    if version == 0:
        return False
    handled = _READ | _WRITE_FILE | _MAKE_ALL | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled |= _IOCTL_DEV if version >= 5 else 0
    fields = struct.pack(
        "<QQQ",
        handled,
        _BIND_TCP | _CONNECT_TCP if version >= 4 else 0,
        _SCOPE_SIGNAL | _SCOPE_ABSTRACT_SOCKET if version >= SIGNALS_SINCE else 0,
    )
    size = 24 if version >= SIGNALS_SINCE else 16 if version >= 4 else 8
    ruleset = _checked(_syscall(_CREATE_RULESET, ctypes.create_string_buffer(fields[:size], size), size, 0))
    kept = set(_kept_devices())
    try:
        for path in allowed_siblings([*hidden, *kept]):
            _allow(ruleset, path, _READ & handled)
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in writable:
            _allow(ruleset, path, handled)
        # Devices are opened for writing, and threads name themselves below /proc/self.
        for path in (*(path for path in Path("/dev").iterdir() if path not in kept), Path("/proc/self").resolve()):
            _allow(ruleset, path, (_READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV) & handled)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS failed")
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0, 0))
    finally:
        os.close(ruleset)
    return True


def allowed_siblings(hidden: Sequence[Path]) -> Iterator[Path]:
    """Yield paths that cover the whole file system except the hidden trees and the directories above them."""
    trees = {path.resolve() for path in hidden}
    above = {parent for path in trees for parent in path.parents}

    def walk(directory: Path) -> Iterator[Path]:
        try:
            entries = sorted(directory.iterdir())
        except OSError:
            return
        for entry in entries:
            if entry in trees or (entry.is_symlink() and entry.resolve() in trees | above):
                continue
            if entry in above and not entry.is_symlink():
                yield from walk(entry)
            else:
                yield entry

    yield from walk(Path("/"))


def _kept_devices() -> Iterator[Path]:
    """Yield what below /dev no candidate may touch: `_KEPT_DEVICES` and disks."""
    for path in Path("/dev").iterdir():
        if path.name in _KEPT_DEVICES or path.is_block_device():
            yield path


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist needs no rule
    try:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112 - the descriptor, not the path, decides
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, fd), 12)
        try:
            _checked(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
        except OSError as error:
            if error.errno != errno.EBADFD:  # /dev/stdin and its like may be pipes, which lie in no file system and need no rule
                raise
    finally:
        os.close(fd)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    converted = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return int(libc.syscall(ctypes.c_long(number), *converted))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
