"""Compile kernels for chips that need not be here, and read what they need. Start at `toolchain`."""
