"""Targets come from documents: their numbers, their names, what they inherit; a document that cannot serve says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.errors import ProfileError, UnknownTargetError
from tools.targets.base import Target, lineage
from tools.targets.profile import load_profiles, read_profile
from tools.targets.registry import get_target, known_targets
from tools.types import Candidate, Evidence

NAMES = ("cpu", "cuda:sm_100", "cuda:sm_80", "cuda:sm_90", "mtia:2i", "mtia:300", "mtia:v1", "rocm:gfx942", "rocm:gfx950")
CPU = {"simd_bytes": 64, "cache_line_bytes": 64}


def document(folder: Path, target: str, limits: dict[str, object], name: str = "chip.md") -> Path:
    lines = [f"  {key}: {{value: {value}, unit: u, source: s, trust: documented}}" for key, value in limits.items()]
    path = folder / name
    path.write_text("\n".join(["---", f"title: Chip {name}", f'profile: "{target}"', "limits:", *lines, "---", "# Chip"]))
    return path


def test_known_targets_are_those_with_documents() -> None:
    assert set(NAMES) <= set(known_targets())


@pytest.mark.parametrize("name", NAMES)
def test_target_keeps_its_contract(name: str) -> None:
    target: Target = get_target(name)
    info = target.describe()
    assert info.name == name and info.family in ("nvidia", "amd", "mtia", "cpu") and info.summary
    assert isinstance(info.evidence, Evidence)
    assert all(limit.source and limit.unit for limit in target.limits().values())
    assert list(target.lint(Candidate("x = 1\n"))) == []
    report = target.compile(Candidate("x = 1\n", language="cpp"))
    assert (report.target, report.status) == (name, "nothing_to_compile") and report.warnings


def test_bare_cuda_is_the_local_device_or_hopper() -> None:
    assert get_target("cuda").describe().name.startswith("cuda:sm_")


def test_evidence_is_simulated_for_mtia_and_measured_for_the_host() -> None:
    assert get_target("mtia:2i").describe().evidence is Evidence.SIMULATED
    assert get_target("mtia:2i").describe().torch_device is None
    assert get_target("cpu").describe().evidence is Evidence.MEASURED


@pytest.mark.parametrize("name", ["cuda:sm_89", "tpu", "", "cuda:", "rocm:gfx90a"])
def test_unknown_target_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownTargetError, match="known: cpu, cuda:sm_100"):
        get_target(name)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("cuda:sm_90", ("cuda:sm_90", "sm_90", "nvidia", "generic")),
        ("rocm:gfx942", ("rocm:gfx942", "gfx942", "amd", "generic")),
        ("mtia:2i", ("mtia:2i", "2i", "mtia", "generic")),
        ("cuda", ("cuda", "nvidia", "generic")),
        ("cpu", ("cpu", "generic")),
        ("nvidia", ("nvidia", "generic")),
    ],
)
def test_lineage_goes_from_chip_to_generic_and_never_to_another_vendor(name: str, expected: tuple[str, ...]) -> None:
    assert lineage(name) == expected


def test_peak_rates_and_ridge_points_agree_with_the_published_ones() -> None:
    profiles = load_profiles()

    def ridge(target: str, dtype: str = "bfloat16") -> float:
        limits = profiles[target].limits
        return limits[f"flops_per_s_{dtype}"].value / limits["dram_gb_per_s"].value / 1e9

    assert ridge("cuda:sm_90") == pytest.approx(295, abs=1)
    assert ridge("cuda:sm_80") == pytest.approx(153, abs=1)
    assert ridge("rocm:gfx942") == pytest.approx(247, abs=1)
    assert ridge("mtia:2i", "float16") == pytest.approx(864, abs=1)
    assert ridge("mtia:300", "float16") == pytest.approx(92, abs=1)


def test_peak_of_the_mtia_dot_engine_follows_from_its_tiles() -> None:
    for target, tolerance in (("mtia:v1", 0.03), ("mtia:2i", 0.01), ("mtia:300", 0.01)):
        limits = {name: limit.value for name, limit in load_profiles()[target].limits.items()}
        macs = limits["dpe_tiles"] * 32 * limits["dpe_tile_bytes"] / 2
        peak = macs * 2 * limits["clock_ghz"] * 1e9 * limits["processing_elements"]
        assert peak == pytest.approx(limits["flops_per_s_float16"], rel=tolerance)


def test_document_without_profile_is_not_a_target(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: A\n---\n# A\n")
    (tmp_path / "b.md").write_text("# B\n")
    assert load_profiles(tmp_path) == {}


def test_new_chip_appears_as_soon_as_its_document_does(tmp_path: Path) -> None:
    assert load_profiles(tmp_path) == {}
    document(tmp_path, "cpu", CPU)
    assert set(load_profiles(tmp_path)) == {"cpu"}


@pytest.mark.parametrize(
    "limits, message",
    [
        ({"simd_bytes": 64}, "lacks cache_line_bytes"),
        ({**CPU, "l2_bytes": -1}, "'l2_bytes' = -1 u is absurd"),
        ({**CPU, "dram_gb_per_s": 3.35e12}, "absurd; allowed: 1 to 1e"),
        ({**CPU, "flops_per_s_float32": 67}, "absurd"),
        ({**CPU, "l2_bytes": ".nan"}, "absurd"),
        ({**CPU, "l2_bytes": "many"}, "must be a number, got 'many'"),
        ({**CPU, "flops_per_s_float32": "1e12"}, "write 1.0e\\+12"),
        ({**CPU, "cores": "true"}, "must be a number, got True"),
        ({**CPU, "l2_bytes": 4096, "dram_bytes": 1024}, "l2_bytes .* exceeds dram_bytes"),
    ],
)
def test_missing_or_absurd_number_is_a_clear_error(tmp_path: Path, limits: dict[str, object], message: str) -> None:
    path = document(tmp_path, "cpu", limits)
    with pytest.raises(ProfileError, match=message) as caught:
        read_profile(path, tmp_path)
    assert "chip.md" in str(caught.value) and caught.value.document == "chip.md"


def test_limit_needs_unit_source_and_trust(tmp_path: Path) -> None:
    path = tmp_path / "chip.md"
    path.write_text("---\nprofile: cpu\nlimits:\n  simd_bytes: {value: 64}\n---\n")
    with pytest.raises(ProfileError, match="needs exactly value, unit, source and trust"):
        read_profile(path, tmp_path)
    path.write_text("---\nprofile: cpu\nlimits:\n  simd_bytes: {value: 64, unit: bytes, source: s, trust: rumour}\n---\n")
    with pytest.raises(ProfileError, match="known: measured, documented, derived, unverified"):
        read_profile(path, tmp_path)


def test_two_documents_for_one_target_are_refused(tmp_path: Path) -> None:
    document(tmp_path, "cpu", CPU)
    document(tmp_path, "cpu", CPU, "other.md")
    with pytest.raises(ProfileError, match=r"both say `profile: cpu`"):
        load_profiles(tmp_path)


def test_front_matter_that_is_not_yaml_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "chip.md").write_text("---\nprofile: cpu\nlimits: [\n---\n")
    with pytest.raises(ProfileError, match="not YAML"):
        load_profiles(tmp_path)
