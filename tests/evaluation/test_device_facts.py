"""Figures of a device: planted samples give the intervals, agreement and document that they must; the kernels compile for the chip without it."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from evaluation.device_facts import assembly
from evaluation.device_facts.__main__ import main
from evaluation.device_facts.agreement import agreement
from evaluation.device_facts.document import document, name_in_index
from evaluation.device_facts.groups import Advice, Arm, Group, Setting
from evaluation.device_facts.measure import Session, measure
from evaluation.device_facts.records import GroupRecord, Samples, append, read
from evaluation.device_facts.summary import Figure, failures, figures
from evaluation.errors import RecordError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"device": "planted chip", "driver": "1.2", "torch": "2.11.0", "triton": "3.6.0"}


def planted(arms: Mapping[str, tuple[str, float]], *, group: str = "stream", passes: int = 4, seed: int = 0) -> list[GroupRecord]:
    """Records whose samples lie within 1 % of the given values."""
    chance = random.Random(seed)
    return [
        GroupRecord(
            group,
            number,
            "s1",
            "2026-11-23T01:00:00+00:00",
            seed,
            ENVIRONMENT,
            {
                name: Samples(
                    unit, tuple(value * chance.uniform(0.99, 1.01) for _ in range(9)) if value else (), "" if value else "refused"
                )
                for name, (unit, value) in arms.items()
            },
        )
        for number in range(passes)
    ]


def stream(advised: float) -> dict[str, Figure]:
    return figures(planted({"plain": ("us", 100.0), "advised": ("us", 100.0 / advised)}), {"stream": "plain"})


GROUPS = {"stream": Group("stream", "A stream", "One GiB.", lambda _: (), "plain", (Advice("do as advised", "advised"),))}


def test_times_and_rates_both_compare_so_that_above_one_is_faster() -> None:
    by_time = stream(2.0)["stream/advised [x]"]
    by_rate = figures(planted({"plain": ("GB/s", 10.0), "advised": ("GB/s", 20.0)}), {"stream": "plain"})["stream/advised [x]"]
    for figure in (by_time, by_rate):
        assert figure.interval.low <= 2.0 * 1.02 and figure.interval.high >= 2.0 * 0.98 and 1.9 < figure.value < 2.1


def test_the_stated_interval_holds_the_measured_one_and_the_allowance_of_its_unit() -> None:
    figure = stream(2.0)["stream/plain [us]"]
    assert figure.stated.low <= min(figure.interval.low, figure.value / 1.05)
    assert figure.stated.high >= max(figure.interval.high, figure.value * 1.05)


def test_a_spread_between_passes_widens_the_stated_interval() -> None:
    steady = planted({"plain": ("us", 100.0)})
    moved = [
        dataclasses.replace(r, arms={"plain": Samples("us", tuple(v * (1 + 0.2 * (r.number % 2)) for v in r.arms["plain"].values))})
        for r in steady
    ]
    one, two = (figures(records, {})["stream/plain [us]"] for records in (steady, moved))
    assert two.stated.high / two.stated.low > 1.5 * one.stated.high / one.stated.low


@pytest.mark.parametrize(("shift", "share"), [(1.0, 1.0), (1.5, 0.0)])
def test_agreement_is_the_share_of_values_within_the_stated_intervals(shift: float, share: float) -> None:
    arms = {f"arm {i}": ("us", 10.0 + i) for i in range(10)}
    first = figures(planted(arms), {})
    second = figures(planted({name: (unit, value * shift) for name, (unit, value) in arms.items()}, seed=1), {})
    found = agreement(first, second)
    assert found.share == share and found.is_reached == (share >= 0.9)


def test_a_day_that_measured_half_of_the_figures_does_not_reach_the_goal() -> None:
    first = figures(planted({f"arm {i}": ("us", 10.0 + i) for i in range(10)}), {})
    found = agreement(first, {name: first[name] for name in list(first)[:5]})
    assert found.share == 1.0 and len(found.only_first) == 5 and not found.is_reached


@pytest.mark.parametrize(("gain", "words"), [(1.5, "| held |"), (1.0, "did not hold: no effect"), (0.6, "did not hold: slower")])
def test_the_document_says_which_advice_held(gain: float, words: str) -> None:
    records = planted({"plain": ("us", 100.0), "advised": ("us", 100.0 / gain)})
    text = document(records, figures(records, {"stream": "plain"}), GROUPS, source="records.jsonl", target="cuda:sm_90", chip="H100")
    row = next(line for line in text.splitlines() if line.startswith("| do as advised"))
    assert words in row and "planted chip, 2026-11-23" in text and "driver 1.2" in text


def test_the_document_passes_the_lint_of_documents(tmp_path: Path) -> None:
    from kb_ingest.lint.run import lint

    records = planted({"plain": ("us", 100.0), "advised": ("us", 50.0), "other": ("us", 0.0)})
    index = tmp_path / "index.md"
    head = "---\ntitle: Chips\nkind: hardware\ntargets: [nvidia]\ntrust: measured\nsources: [records]\n---\n\n# Chips\n\n"
    index.write_text(f"{head}| question | read |\n|---|---|\n| memory | [memory](memory.md) |\n", encoding="utf-8")
    for name in ("memory", "roofline", "tensor_cores", "memory_bound"):
        (tmp_path / f"{name}.md").write_text(
            head.replace("Chips", name) + "Words.\n\n[index](index.md) [memory](memory.md)\n", encoding="utf-8"
        )
        name_in_index(index, f"{name}.md", name)
    (tmp_path / "records.jsonl").write_text("", encoding="utf-8")
    text = document(records, figures(records, {"stream": "plain"}), GROUPS, source="records.jsonl", target="cuda:sm_90", chip="H100")
    (tmp_path / "measured.md").write_text(text, encoding="utf-8")
    assert name_in_index(index, "measured.md", "H100") and not name_in_index(index, "measured.md", "H100")
    findings = [finding for finding in lint(tmp_path).findings if "measured.md" in str(finding)]
    assert findings == []
    assert "| stream/other | refused |" in text


def test_records_survive_a_cut_line_and_refuse_two_devices(tmp_path: Path) -> None:
    path, records = tmp_path / "facts.jsonl", planted({"plain": ("us", 1.0)}, passes=2)
    append(path, records[0])
    path.write_bytes(path.read_bytes() + b'{"group": "str')
    append(path, records[1])
    assert [record.number for record in read(path)] == [0, 1]
    append(path, dataclasses.replace(records[0], environment={"device": "another"}))
    with pytest.raises(RecordError, match="mixes devices"):
        read(path)


def test_arms_that_fail_or_are_wrong_are_recorded_with_the_reason_and_the_others_measured(tmp_path: Path) -> None:
    def refuse() -> object:
        raise RuntimeError("no such instruction")

    class Planted:
        def seconds(self, run: Callable[[], object], repeats: int) -> float:
            run()
            return 1e-3 * repeats

    arms = [
        Arm("good", "GB/s", lambda: None, 2e6),
        Arm("refused", "GB/s", refuse),
        Arm("wrong", "GB/s", lambda: None, error=lambda: 0.5, tolerance=0.1),
        Arm("own", "cycles", lambda: None, sample=lambda: 7.0),
    ]
    out = tmp_path / "facts.jsonl"
    session = Session("s", "2026-11-23T01:00:00+00:00", 3, ENVIRONMENT)
    measure([Group("g", "G", "", lambda _: arms)], Setting("cpu", small=True), session, out, 60.0, clock=Planted(), passes=2, rounds=3)
    records = read(out)
    found = figures(records, {})
    assert len(records) == 2 and found["g/good [GB/s]"].value == pytest.approx(2.0) and found["g/own [cycles]"].value == 7.0
    assert "no such instruction" in failures(records)["g/refused"] and "0.5" in failures(records)["g/wrong"]


def test_the_commands_compare_and_document_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    for path, value in ((first, 100.0), (second, 160.0)):
        for record in planted({"copy, torch": ("GB/s", value), "read": ("GB/s", 100.0)}, group="hbm"):
            append(path, record)
    assert main(["compare", str(first), str(first)]) == 0 and main(["compare", str(first), str(second)]) == 1
    assert "hbm/copy, torch [GB/s]" in capsys.readouterr().out
    assert main(["document", str(first), "--out", str(tmp_path / "measured.md")]) == 0
    assert "Device memory bandwidth" in (tmp_path / "measured.md").read_text(encoding="utf-8") or "device memory bandwidth" in (
        tmp_path / "measured.md"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["chase", "shared_chase", "shared_stream", *assembly.MMA_SYNC])
def test_assembly_is_accepted_by_the_assembler_for_the_chip(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from evaluation.device_facts import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    if text.endswith("chase"):
        code = assembly.chase("cg") if text == "chase" else assembly.shared_chase()
        signature = {
            "first": "*i64" if text == "chase" else "*i32",
            "cycles": "*i64",
            "nanoseconds": "*i64",
            "last": "*i64",
            "turns": "i32",
            "ASM": "constexpr",
        }
        source = ASTSource(kernels.chase, signature, {"ASM": code})
        wanted = "ld.global.cg" if text == "chase" else "ld.volatile.shared"
    else:
        code = assembly.shared_stream() if text == "shared_stream" else assembly.mma_stream(assembly.MMA_SYNC[text])
        signature = {"values": "*i32", "target": "*i32", "turns": "i32", "ASM": "constexpr", "SCALE": "constexpr", "THREADS": "constexpr"}
        source = ASTSource(kernels.loop, signature, {"ASM": code, "SCALE": 16 if text == "shared_stream" else 0, "THREADS": 128})
        wanted = "ld.volatile.shared.v4" if text == "shared_stream" else "mma.sync"
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1 if text.endswith("chase") else 4})
    assert compiled.asm["ptx"].count(wanted) >= assembly.UNROLL


@pytest.mark.parametrize(("hint", "is_wide"), [(1, False), (4, True)])
def test_width_of_the_copy_follows_what_the_compiler_knows_of_the_mask(
    hint: int, is_wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from evaluation.device_facts import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    signature = {"source": "*fp32", "target": "*fp32", "units": "i32", **dict.fromkeys(("BLOCK", "HINT", "LOAD", "STORE"), "constexpr")}
    attrs = {(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]]}
    source = ASTSource(kernels.copy, signature, {"BLOCK": 1024, "HINT": hint, "LOAD": "", "STORE": ""}, attrs=attrs)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert (".v4." in compiled.asm["ptx"]) == is_wide


@pytest.mark.slow
def test_every_kernel_that_the_interpreter_can_run_is_right_at_small_sizes() -> None:
    script = """
import json
from evaluation.device_facts.groups import Setting
from evaluation.device_facts.measure import _failure
from evaluation.device_facts.registry import GROUPS
setting = Setting("cpu", small=True, multiprocessors=2)
print(json.dumps({f"{name}/{arm.name}": _failure(arm) for name, group in GROUPS.items() for arm in group.build(setting)}))
"""
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=600, check=True)
    failed = {name: error for name, error in json.loads(done.stdout).items() if error}
    unable = ("inline_asm not supported", "Got bf16x")
    assert [f"{name}: {error}" for name, error in failed.items() if not any(words in error for words in unable)] == []
    assert len(json.loads(done.stdout)) - len(failed) > 80
