"""Embedders: texts to unit vectors. `base` has the protocol, `registry` the names."""
