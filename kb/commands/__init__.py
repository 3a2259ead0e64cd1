"""The commands of `kb`, one module a group; each has a `group` that `kb/cli.py` adds."""
