from __future__ import annotations

import pytest

from kb.targets import family, normalise, visible


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("cuda:sm_90", ("cuda:sm_90", "nvidia", "generic")),
        ("rocm:gfx950", ("rocm:gfx950", "amd", "generic")),
        ("mtia:2i", ("mtia:2i", "mtia", "generic")),
        ("cpu", ("cpu", "generic")),
        ("nvidia", ("nvidia", "generic")),
        ("cuda", ("nvidia", "generic")),
        ("CUDA:SM_90", ("cuda:sm_90", "nvidia", "generic")),
        ("newchip:v1", ("newchip:v1", "newchip", "generic")),
    ],
)
def test_target_sees_itself_its_family_and_generic_documents(target: str, expected: tuple[str, ...]) -> None:
    assert visible(target) == expected


@pytest.mark.parametrize("text", ["", "cuda:", "sm 90", "../x", "a:b:c"])
def test_what_is_no_target_is_refused_with_the_forms_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="cuda:sm_90"):
        normalise(text)


def test_family_of_an_exact_target() -> None:
    assert family("rocm:gfx942") == "amd"
