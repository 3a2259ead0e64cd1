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


def test_the_quick_look_for_substrings_changes_no_answer() -> None:
    from pathlib import Path

    from kb.target_words import _COMPILED, families

    names = [
        "sm_90",
        "sm80a",
        "gfx942",
        "gfx90a",
        "H100",
        "GH200",
        "H20",
        "Hopper",
        "A100",
        "A30",
        "B200",
        "GB100",
        "L40S",
        "L4",
        "RTX",
        "4090",
        "RTX4070",
        "Ada",
        "Lovelace",
        "V100",
        "MI300X",
        "MI325",
        "MI355X",
        "CDNA3",
        "CDNA",
        "2",
        "MI250X",
        "MTIA",
        "2i",
        "MTIA-v1",
        "NVIDIA",
        "ptx",
        "cuBLAS",
        "cudaMalloc",
        "cuLaunchKernel",
        "cuMemAlloc",
        "cuCtxCreate",
        "cuModuleLoad",
        "hipMalloc",
        "MI100",
        "RDNA",
        "3",
        "Radeon",
        "rocprofv3",
        "hipBLASLt",
        "AMDGPU",
        "MIOpen",
        "Tensix",
        "TT-NN",
        "ttnn",
        "TT-Metalium",
        "SFPU",
        "Wormhole",
        "Intel",
        "Arc",
        "XPU",
        "DPAS",
        "Ponte",
        "Vecchio",
        "AVX-512",
        "avx2",
        "x86_64",
        "EPYC",
        "AArch64",
    ]
    docs = Path(__file__).resolve().parents[2] / "docs"
    pages = [part for path in docs.rglob("*.md") for part in path.read_text(encoding="utf-8").split("\n\n")]
    pairs = [f"{first} {second}" for first, second in zip(names, names[1:] + names[:1], strict=True)]
    for passage in [*names, *pairs, "runs on the CPU", *pages]:
        assert families(passage) == {name for pattern, name in _COMPILED if pattern.search(passage)}, passage
