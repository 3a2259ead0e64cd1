"""Readers: the bytes of one source file to a document. `base` has the protocol, `registry` the formats."""
