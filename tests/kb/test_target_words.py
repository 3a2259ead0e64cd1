from __future__ import annotations

import pytest

from kb.target_words import named_target


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("shared memory per block on H100", "cuda:sm_90"),
        ("registers of sm_100a", "cuda:sm_100"),
        ("LDS size of gfx942", "rocm:gfx942"),
        ("occupancy on MI300X", "rocm:gfx942"),
        ("what does ROCm do here", "amd"),
        ("NVIDIA H100 tensor cores", "cuda:sm_90"),
        ("H100 against A100", "nvidia"),
        ("H100 against MI300X", None),
        ("MTIA 2i circular buffers", "mtia:2i"),
        ("MTIA circular buffers", "mtia"),
        ("how fast is this on the CPU", "cpu"),
        ("CPU overhead of launches", None),
        ("a layer norm", None),
    ],
)
def test_target_is_read_from_the_words_if_there_is_exactly_one(query: str, target: str | None) -> None:
    assert named_target(query) == target
