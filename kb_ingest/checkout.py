"""Which repository and commit a file belongs to, read from the files below `.git`: no program is run, so no hook, filter or alias of the checkout is either.

A file counts as the commit's only if its bytes are those that the index names for it; a changed or untracked file gets no commit. What was staged and not committed
counts as committed.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path

MAX_INDEX_BYTES = 200_000_000
_SHA = re.compile(r"^[0-9a-f]{40}$")
_REMOTE = re.compile(r'^\s*\[remote "([^"]+)"\]\s*$')
_URL = re.compile(r"^\s*url\s*=\s*(\S+)\s*$")
_PLACE = re.compile(r"^(?:[a-z+]+://(?:[^@/]*@)?([^/]+)/|(?:[^@/]*@)?([^/:]+):(?!//))(.+?)(?:\.git)?/*$")


@dataclass(frozen=True)
class Origin:
    """Where a file stands in a repository."""

    repository: str
    """Host and path of the remote without credentials, for example `github.com/owner/name`; the folder's name if there is no remote."""
    commit: str
    path: str
    """Path in the repository."""

    def to_json(self) -> dict[str, str]:
        """Return it as the front matter keeps it."""
        return {"repository": self.repository, "commit": self.commit, "path": self.path}


def origin_of(path: Path, data: bytes) -> Origin | None:
    """Return the origin of a file with these bytes, or None: it is in no checkout, or not as it was committed.

    Args:
        path: Absolute path of the file.
        data: Its bytes.
    """
    checkout = _checkout_of(path.parent)
    if checkout is None:
        return None
    root, state = checkout
    relative = path.relative_to(root).as_posix()
    digest = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).digest()
    if state.blobs.get(relative) != digest:
        return None
    return Origin(state.repository, state.commit, relative)


def forget() -> None:
    """Drop what was read of checkouts, so that later changes are seen."""
    _state.cache_clear()
    _checkout_of.cache_clear()


@dataclass(frozen=True)
class _State:
    repository: str
    commit: str
    blobs: dict[str, bytes]


@functools.lru_cache(maxsize=4096)
def _checkout_of(folder: Path) -> tuple[Path, _State] | None:
    for candidate in (folder, *folder.parents):
        git = candidate / ".git"
        try:
            if git.is_dir() or git.is_file():
                state = _state(candidate)
                return (candidate, state) if state is not None else None
        except OSError:
            return None
    return None


@functools.lru_cache(maxsize=64)
def _state(root: Path) -> _State | None:
    """Return commit and index of a checkout, or None if they cannot be read."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree or submodule names its folder
            named = git.read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()
            git = (root / named).resolve()
        common = git
        if (git / "commondir").is_file():
            common = (git / (git / "commondir").read_text(encoding="utf-8").strip()).resolve()
        commit = _commit(git, common)
        if commit is None or (git / "index").stat().st_size > MAX_INDEX_BYTES:
            return None
        blobs = read_index((git / "index").read_bytes())
        return _State(_repository(common, root), commit, blobs)
    except (OSError, ValueError, struct.error, IndexError):
        return None


def _commit(git: Path, common: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
    if _SHA.match(head):
        return head
    name = head.removeprefix("ref:").strip()
    if not name.startswith("refs/") or ".." in name:
        return None
    for folder in (git, common):
        if (folder / name).is_file():
            found = (folder / name).read_text(encoding="utf-8", errors="replace").strip()
            return found if _SHA.match(found) else None
    packed = common / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8", errors="replace").splitlines():
            sha, _, found = line.partition(" ")
            if found == name and _SHA.match(sha):
                return sha
    return None


def _repository(common: Path, root: Path) -> str:
    remotes: dict[str, str] = {}
    current = ""
    if (common / "config").is_file():
        for line in (common / "config").read_text(encoding="utf-8", errors="replace").splitlines():
            section = _REMOTE.match(line)
            if section or line.lstrip().startswith("["):
                current = section.group(1) if section else ""
            elif current and (url := _URL.match(line)):
                remotes.setdefault(current, url.group(1))
    address = remotes.get("origin") or next(iter(remotes.values()), "")
    match = _PLACE.match(address)
    return f"{match.group(1) or match.group(2)}/{match.group(3)}" if match else root.name


def read_index(data: bytes) -> dict[str, bytes]:
    """Return path → SHA-1 of the blob of a Git index of version 2, 3 or 4 (https://git-scm.com/docs/index-format).

    Raises:
        ValueError: It is none.
    """
    signature, version, count = struct.unpack_from(">4sII", data)
    if signature != b"DIRC" or version not in (2, 3, 4):
        raise ValueError("no Git index of version 2, 3 or 4")
    blobs: dict[str, bytes] = {}
    offset, previous = 12, b""
    for _ in range(count):
        sha = data[offset + 40 : offset + 60]
        (flags,) = struct.unpack_from(">H", data, offset + 60)
        begin = offset + 62 + (2 if version >= 3 and flags & 0x4000 else 0)
        if version == 4:
            strip, begin = _variable_length(data, begin)
            end = data.index(b"\0", begin)
            name = previous[: len(previous) - strip] + data[begin:end]
            offset = end + 1
        else:
            end = data.index(b"\0", begin)
            name = data[begin:end]
            offset += (end - offset) // 8 * 8 + 8
        previous = name
        if not flags & 0x3000:  # stage 0: not in a conflict
            blobs[name.decode("utf-8", "replace")] = sha
    return blobs


def _variable_length(data: bytes, offset: int) -> tuple[int, int]:
    byte = data[offset]
    offset += 1
    value = byte & 0x7F
    while byte & 0x80:
        byte = data[offset]
        offset += 1
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, offset
