from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.sandbox.memory import memory_allowance_bytes

_GIB = 1 << 30


def facts(root: Path, available_gib: int, limit: str, used: int) -> tuple[Path, Path]:
    (root / "meminfo").write_text(f"MemTotal: 999 kB\nMemAvailable:   {available_gib << 20} kB\n")
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{used}\n")
    return root, root


def test_a_tenth_of_what_is_left_stays_with_the_others(tmp_path: Path) -> None:
    assert memory_allowance_bytes(*facts(tmp_path, 10, "max", 5)) == 9 * _GIB


def test_a_containers_limit_counts_where_it_is_the_smaller(tmp_path: Path) -> None:
    assert memory_allowance_bytes(*facts(tmp_path, 100, str(12 * _GIB), 2 * _GIB)) == 9 * _GIB


def test_no_figure_means_no_limit(tmp_path: Path) -> None:
    assert memory_allowance_bytes(tmp_path / "none", tmp_path / "none") is None


def test_an_allocation_beyond_the_limit_is_an_exception_and_no_killed_process() -> None:
    program = (
        "import torch\nfrom tools.sandbox.memory import limit_allocations\nlimit_allocations(1 << 30)\n"
        "try:\n    torch.zeros(1 << 30)\nexcept RuntimeError as error:\n    print(error)\nprint(float(torch.ones(1 << 20).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "can't allocate memory" in done.stdout and "1048576.0" in done.stdout
