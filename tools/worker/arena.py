"""Memory shared between processes: an anonymous file that is sealed in size, so a peer cannot shrink it under a reader."""

from __future__ import annotations

import fcntl
import mmap
import os

ALIGNMENT = 256
"""Every tensor begins at a multiple of this, in bytes."""

_F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; not named by Python's fcntl module


class Arena:
    """A block of shared memory owned by this process. `fd` may be sent to peers."""

    def __init__(self, size: int, *, readonly_for_peers: bool) -> None:
        """Reserve `size` bytes; pages cost memory only once touched.

        Args:
            size: Bytes.
            readonly_for_peers: Refuse every writable mapping but the one made here.
        """
        self.size = max(size, mmap.PAGESIZE)
        self.fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.size)
        self.memory = mmap.mmap(self.fd, self.size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | (_F_SEAL_FUTURE_WRITE if readonly_for_peers else 0))
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        """Give the memory back once no tensor views it any more."""
        os.close(self.fd)
        try:
            self.memory.close()
        except BufferError:  # a tensor still views it; the mapping goes with that view
            return


def align(offset: int) -> int:
    """Return the first allowed position at or after `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def map_received(fd: int, *, writable: bool) -> mmap.mmap:
    """Map a received arena; private copy-on-write unless `writable`."""
    return mmap.mmap(fd, os.fstat(fd).st_size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY)
