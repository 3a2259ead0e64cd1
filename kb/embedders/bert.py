"""A BERT encoder in NumPy for the packaged weights: answers a query within milliseconds of a cold start, without importing torch.

Only inference, only the architecture of the packaged model (absolute positions, GELU, post-norm). Source of the architecture: Devlin et al. 2019,
section 3, and the model's own `config.json`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def read_safetensors(path: Path) -> dict[str, Floats]:
    """Return the float32 tensors of a safetensors file as read-only views of the mapped file.

    Format: 8 bytes little-endian header length, a JSON header with `dtype`, `shape` and `data_offsets` per tensor, then the data
    (https://huggingface.co/docs/safetensors, read November 2026).
    """
    import numpy as np

    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            tensors[name] = data[begin:end].view(np.float32).reshape(entry["shape"])
    return tensors


def erf(value: Floats) -> Floats:
    """Return the error function in float32; absolute error below 5e-7.

    Formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions (1964): |error| <= 1.5e-7 in exact arithmetic.
    """
    import numpy as np

    magnitude = np.abs(value)
    t = 1.0 / (1.0 + np.float32(0.3275911) * magnitude)
    series = np.float32(1.061405429) * t - np.float32(1.453152027)
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        series *= t
        series += np.float32(coefficient)
    series *= t
    series *= np.exp(-magnitude * magnitude)
    result: Floats = np.copysign(np.float32(1.0) - series, value)
    return result


class BertEncoder:
    """Token ids to mean-pooled unit vectors.

    Args:
        folder: A model folder with `config.json` and `model.safetensors`.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._eps = float(config["layer_norm_eps"])
        self._weights = read_safetensors(folder / "model.safetensors")

    def encode(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Return unit vectors, (batch, hidden), float32.

        Args:
            ids: (batch, tokens) token ids.
            mask: (batch, tokens), 1 for real tokens.
        """
        import numpy as np

        w = self._weights
        hidden = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        hidden = self._norm(hidden + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        bias = np.where(mask[:, None, None, :] == 1, np.float32(0.0), np.float32(-1e9))
        for layer in range(self._layers):
            hidden = self._layer(hidden, bias, f"encoder.layer.{layer}.")
        weight = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
        vectors: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def _layer(self, hidden: Floats, bias: Floats, name: str) -> Floats:
        import numpy as np

        batch, length, width = hidden.shape
        size = width // self._heads

        def split(part: str) -> Floats:
            return self._linear(hidden, f"{name}attention.self.{part}").reshape(batch, length, self._heads, size).transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").transpose(0, 1, 3, 2)
        scores *= np.float32(size**-0.5)
        scores += bias
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Floats = np.asarray(scores @ split("value"), dtype=np.float32).transpose(0, 2, 1, 3).reshape(batch, length, width)
        hidden = self._norm(hidden + self._linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
        inner = self._linear(hidden, f"{name}intermediate.dense")
        inner = (np.float32(0.5) * inner * (np.float32(1.0) + erf(inner * np.float32(0.5**0.5)))).astype(np.float32, copy=False)
        return self._norm(hidden + self._linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")

    def _linear(self, value: Floats, name: str) -> Floats:
        result: Floats = value @ self._weights[f"{name}.weight"].T
        result += self._weights[f"{name}.bias"]
        return result

    def _norm(self, value: Floats, name: str) -> Floats:
        import numpy as np

        centred = value - value.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._eps))
        result: Floats = centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result
