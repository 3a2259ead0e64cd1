"""Static rules about kernel sources. Start at `engine.lint`."""
