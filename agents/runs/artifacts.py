"""Content-addressed text files: candidate sources, prompts, answers. Written once, never changed. In a directory, or at any URL that fsspec knows."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

from agents.errors import RunStoreError


class Artifacts(Protocol):
    """Texts named by the SHA-256 of their UTF-8 bytes. Open one with `open_artifacts`."""

    def location(self, digest: str) -> str:
        """Return the path or address where the text with this digest is, or would be."""

    def write(self, text: str) -> str:
        """Store the text durably and return its digest (64 hexadecimal digits). Writing the same text again changes nothing.

        Raises:
            RunStoreError: The place cannot be written.
        """

    def read(self, digest: str) -> str:
        """Return the text with this digest.

        Raises:
            RunStoreError: It is missing or no longer matches its digest.
        """


def open_artifacts(place: Path | str) -> Artifacts:
    """Return the artifacts in a directory (a path) or at a URL, for example `s3://bucket/kevolve`, `file:///data/kevolve` or `memory://x`.

    Raises:
        RunStoreError: The URL's protocol is unknown, or its package is not installed.
    """
    if isinstance(place, str) and "://" in place:
        return RemoteArtifacts(place)
    return LocalArtifacts(Path(place))


class LocalArtifacts:
    """Artifacts under one directory, synced to disk before `write` returns.

    Args:
        root: Directory; created on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the text with this digest is, or would be."""
        return self.root / digest[:2] / digest[2:]

    def location(self, digest: str) -> str:
        """See `Artifacts.location`."""
        return str(self.path(digest))

    def write(self, text: str) -> str:
        """See `Artifacts.write`."""
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        place = self.path(digest)
        if place.exists():
            return digest
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(place)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise RunStoreError(
                f"cannot write an artifact under {self.root}: {error.strerror}; free some space or choose another --home"
            ) from error
        return digest

    def read(self, digest: str) -> str:
        """See `Artifacts.read`."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise RunStoreError(f"artifact {digest} is missing under {self.root}: {error.strerror}") from error
        return _checked(data, digest, str(self.root))


class RemoteArtifacts:
    """Artifacts at a URL, through fsspec. What is durable there is the storage's promise; an object appears whole or not at all on object stores.

    Args:
        url: For example `s3://bucket/prefix`. Credentials come from the storage's own environment, never from here.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # fsspec publishes no types
        except ImportError as error:
            raise RunStoreError(f"artifacts at {url} need fsspec: pip install fsspec") from error
        try:
            found: tuple[Any, str] = url_to_fs(url)  # Any: fsspec publishes no types
        except (ValueError, ImportError) as error:
            raise RunStoreError(f"cannot use {url!r} for artifacts: {error}") from error
        self._files, self._root = found
        self._url = url.rstrip("/")

    def location(self, digest: str) -> str:
        """See `Artifacts.location`."""
        return f"{self._url}/{digest[:2]}/{digest[2:]}"

    def write(self, text: str) -> str:
        """See `Artifacts.write`."""
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        place = self._place(digest)
        try:
            if not self._files.exists(place):
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.pipe_file(place, data)
        except OSError as error:
            raise RunStoreError(f"cannot write an artifact to {self._url}: {error}") from error
        return digest

    def read(self, digest: str) -> str:
        """See `Artifacts.read`."""
        try:
            data = self._files.cat_file(self._place(digest))
        except OSError as error:
            raise RunStoreError(f"artifact {digest} is missing at {self._url}: {error}") from error
        return _checked(data, digest, self._url)

    def _place(self, digest: str) -> str:
        return f"{self._root.rstrip('/')}/{digest[:2]}/{digest[2:]}"


def _checked(data: bytes, digest: str, place: str) -> str:
    if hashlib.sha256(data).hexdigest() != digest:
        raise RunStoreError(f"artifact {digest} under {place} was changed or damaged; restore it from a backup")
    return data.decode()
