"""The evaluator, near or far: a pool on this machine, a service over HTTP, a Ray cluster. Each offers the one `evaluate`."""
