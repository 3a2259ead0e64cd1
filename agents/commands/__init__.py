"""One module a group of `kevolve` commands."""
