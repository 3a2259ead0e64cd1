"""Errors of `kb`: mistakes of the caller or of the set-up. "Nothing found" is a value (`QueryResult.abstained`), never an exception.

```
KnowledgeError
├── UnknownNameError     an embedder, retriever, kind or id that does not exist; the message lists what does
├── StoreError           the store cannot be opened, read or written (newer schema, no space, read-only, locked)
├── EmbedderMismatch     the index was built with another embedding model
└── DocumentError        a document that cannot be read; carries the path
```
"""

from __future__ import annotations


class KnowledgeError(Exception):
    """Root of the errors that `kb` raises on purpose."""


class UnknownNameError(KnowledgeError):
    """A name or id does not exist; the message lists the known ones."""


class StoreError(KnowledgeError):
    """The store cannot be opened, read or written; the message says why and what to do."""


class EmbedderMismatch(KnowledgeError):
    """The vectors in the store came from another embedding model; re-ingest or choose that model."""


class DocumentError(KnowledgeError):
    """A document cannot be read.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str]]:
        return (DocumentError, (self.path, self.reason))
