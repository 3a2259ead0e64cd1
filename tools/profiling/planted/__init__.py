"""Kernels with one known fault each, to see whether the rules name it: without running (what the binary shows), and on a device."""
