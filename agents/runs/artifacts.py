"""Content-addressed text files: candidate sources, prompts, answers. Written once, never changed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from agents.errors import RunStoreError


class Artifacts:
    """Texts under one directory, each named by the SHA-256 of its UTF-8 bytes.

    Args:
        root: Directory; created on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the text with this digest is, or would be."""
        return self.root / digest[:2] / digest[2:]

    def write(self, text: str) -> str:
        """Store the text durably and return its digest (64 hexadecimal digits). Writing the same text again changes nothing.

        Raises:
            RunStoreError: The directory cannot be written.
        """
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
        """Return the text with this digest.

        Raises:
            RunStoreError: It is missing or no longer matches its digest.
        """
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise RunStoreError(f"artifact {digest} is missing under {self.root}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise RunStoreError(f"artifact {digest} under {self.root} was changed or damaged; restore it from a backup")
        return data.decode()
