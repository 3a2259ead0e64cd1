# id: FP6
# family: controls
# problem: pointwise_chain
# target: cpu
# expect: passed
# composition: custom
"""Several times faster than eager, because eager is not fused."""

import ctypes
import os
import pathlib
import subprocess

import torch
from torch import nn

SOURCE = """
extern "C" void chain(const float* x, float* y, long n) {
  #pragma omp parallel for simd
  for (long i = 0; i < n; ++i) {
    float v = (x[i] * 2.0f + 1.0f) * 0.5f - 0.25f;
    v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    y[i] = v * 3.0f + x[i];
  }
}
"""
folder = pathlib.Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "chain"
folder.mkdir(parents=True, exist_ok=True)
library = folder / "chain.so"
if not library.exists():
    (folder / "chain.cpp").write_text(SOURCE)
    command = ["g++", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", str(library), str(folder / "chain.cpp")]
    subprocess.run(command, check=True)
chain = ctypes.CDLL(str(library)).chain
chain.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_long]


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        chain(x.data_ptr(), y.data_ptr(), x.numel())
        return y
