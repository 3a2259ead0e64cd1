"""What `kevolve doctor` says of the layers between candidates and this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import doctor
from tools.sandbox import layers
from tools.sandbox.layers import NAMES, LayerStatus


def sandbox_findings() -> dict[str, doctor.Finding]:
    return {item.name.removeprefix("sandbox "): item for item in doctor._sandbox()}


def test_every_layer_that_can_be_off_is_named_and_was_tried() -> None:
    found = sandbox_findings()
    assert set(NAMES) < set(found) and not any(item.is_needed for item in found.values())
    assert all(found[item.name].is_fine == item.is_on for item in layers.tried())


def test_a_layer_that_this_kernel_lacks_is_off_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.landlock, "abi_version", lambda: 0)
    found = sandbox_findings()["landlock"]
    assert not found.is_fine and found.detail.startswith("off: not in this kernel")


def test_a_layer_that_forbids_nothing_is_off_whatever_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        layers, "_CHILD", "import json; print(json.dumps(dict.fromkeys(('rlimits', 'landlock', 'privileges', 'seccomp'), False)))"
    )
    assert not any(item.is_on for item in layers.tried() if item.name in NAMES)


def test_layers_that_cannot_be_tried_are_off_with_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_CHILD", "raise SystemExit('no such thing')")
    item = next(item for item in layers.tried() if item.name == "rlimits")
    assert not item.is_on and "no such thing" in item.detail


def test_the_doctor_looks_at_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "tried", lambda: [LayerStatus("seccomp", False, "not available on abacus")])
    (found,) = (item for item in doctor.examine(tmp_path / "home") if item.name.startswith("sandbox"))
    assert (found.is_fine, found.is_needed, found.detail) == (False, False, "off: not available on abacus")
