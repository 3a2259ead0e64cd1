# id: FP2
# family: controls
# problem: relu
# target: cuda
# expect: passed
"""A captured graph that recomputes on live data, keyed by address."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.graphs = {}

    def forward(self, x):
        key = (x.data_ptr(), x.shape)
        if key not in self.graphs:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                torch.relu(x) * 1.5
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = torch.relu(x) * 1.5
            self.graphs[key] = (graph, out, x)
        graph, out, _ = self.graphs[key]
        graph.replay()
        return out
