"""The thesaurus of kernel engineering: finds the concepts that a question describes, by name or in everyday words.

`concepts.yaml` holds, for each concept, what documents call it and how somebody says it who does not know the name. A question is compared with these
descriptions by meaning, whole and phrase by phrase (a reverse dictionary), so that a question which shares no word with any document still leads to the
documents' own terms.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from kb.deep.decompose import content_words, phrases

if TYPE_CHECKING:
    from kb.embedders.base import Embedder, Vectors

log = logging.getLogger(__name__)

LEAST_SIMILARITY = 0.42
"""Cosine similarity to a description below which a concept is not meant."""
NAMED = 1.0
"""Weight of a concept that the question calls by one of its names."""


@dataclass(frozen=True)
class Concept:
    """One thing with all its names."""

    terms: tuple[str, ...]
    """What documents call it, commonest first."""
    lay: tuple[str, ...]
    """Descriptions in everyday words."""


@dataclass(frozen=True)
class Meant:
    """A concept that a question speaks of."""

    concept: Concept
    score: float
    """Cosine similarity to the nearest description, or 1.0 if the question uses a name of it."""
    phrase: str
    """The words of the question that mean it."""
    is_named: bool


@cache
def load_concepts() -> tuple[Concept, ...]:
    """Return the thesaurus."""
    import yaml

    rows = yaml.safe_load(resources.files("kb.deep").joinpath("concepts.yaml").read_text(encoding="utf-8"))
    return tuple(Concept(tuple(str(term) for term in row["terms"]), tuple(str(text) for text in row["lay"])) for row in rows)


class Thesaurus:
    """Concepts with the vectors of their descriptions.

    Args:
        embedder: What descriptions and questions are embedded with.
        folder: Where the vectors are kept between processes; None: nowhere.
        concepts: In place of the packaged ones.
    """

    def __init__(self, embedder: Embedder, folder: Path | None = None, concepts: Sequence[Concept] | None = None) -> None:
        self._embedder = embedder
        self._folder = folder
        self.concepts = tuple(concepts) if concepts is not None else load_concepts()
        self._texts = [text for concept in self.concepts for text in (*concept.lay, ", ".join(concept.terms[:5]))]
        self._owners = [index for index, concept in enumerate(self.concepts) for _ in range(len(concept.lay) + 1)]
        self._matrix: Vectors | None = None

    def meant(self, question: str, limit: int) -> list[Meant]:
        """Return the concepts that a question means, surest first: named ones, then described ones."""
        import numpy as np

        found: dict[int, Meant] = {}
        for index, concept in enumerate(self.concepts):
            name = next((term for term in concept.terms if _pattern(term).search(question)), None)
            if name is not None:
                found[index] = Meant(concept, NAMED, name, True)
        if self._texts and content_words(question):
            windows = phrases(question)
            similarity = self._embedder.embed_documents(windows) @ self._vectors().T
            for column in np.argsort(-similarity.max(axis=0), kind="stable"):
                row = int(similarity[:, column].argmax())
                score, index = float(similarity[row, column]), self._owners[int(column)]
                if score < LEAST_SIMILARITY or len(found) >= 4 * limit:
                    break
                if index not in found:
                    found[index] = Meant(self.concepts[index], score, windows[row], False)
        named = [meant for meant in found.values() if meant.is_named][:limit]
        described = sorted((meant for meant in found.values() if not meant.is_named), key=lambda meant: -meant.score)[:limit]
        return [*named, *described]

    def _vectors(self) -> Vectors:
        import numpy as np

        if self._matrix is None:
            path = self._path()
            if path is not None and path.is_file():
                try:
                    stored = np.load(path, allow_pickle=False)
                    if stored.shape[0] == len(self._texts):
                        self._matrix = stored.astype(np.float32)
                        return self._matrix
                except (OSError, ValueError) as err:
                    log.warning("descriptions of concepts are embedded again: %s", err)
            self._matrix = self._embedder.embed_documents(self._texts)
            if path is not None:
                _store(path, self._matrix)
        return self._matrix

    def _path(self) -> Path | None:
        if self._folder is None:
            return None
        identity = self._embedder.identity
        key = hashlib.sha256("\0".join([identity.name, identity.weight_hash, identity.prefix, *self._texts]).encode()).hexdigest()[:16]
        return self._folder / f"concepts-{key}.npy"


def _store(path: Path, matrix: Vectors) -> None:
    """Keep vectors for the next process; a folder that cannot be written costs only the time to embed again."""
    import os

    import numpy as np

    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.save(stream, matrix)
        temporary.replace(path)
    except OSError as err:
        log.warning("descriptions of concepts are not kept: %s", err)


@cache
def _pattern(term: str) -> re.Pattern[str]:
    """Return what finds a name in a question: whole words, plural or not; short names only in the same case."""
    if len(term) <= 3:
        return re.compile(rf"(?<!\w){re.escape(term)}(?!\w)")
    pattern = r"[\s-]+".join(re.escape(word) for word in term.split())
    return re.compile(rf"(?<!\w){pattern}(?:s|es)?(?!\w)", re.IGNORECASE)
