"""Studies of the profilers: eight kernels by every tool, regions of two kernels, the convolution of one shape by its routes."""
