"""Statistics of interleaved timing."""
