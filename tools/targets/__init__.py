"""Targets: chips with their toolchains. Start at `registry.get_target`."""
