"""Vectors in a Chroma server."""

from __future__ import annotations


def test_a_real_server_answers(chroma_url: str) -> None:
    from kb.vectors import ChromaStore

    assert ChromaStore(chroma_url, "base").collections() == ()
