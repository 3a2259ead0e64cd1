"""What a confined process can still do to others: one child, confined like a candidate, tries everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox import seccomp
from tools.sandbox.landlock import abi_version
from tools.sandbox.layers import NAMES

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import ctypes, json, os, resource, socket, sys, time
sys.path.insert(0, {root!r})
from tools.sandbox.apply import confine
from tools.sandbox import privileges
options = dict.fromkeys(("file_bytes", "address_space_bytes", "processes", "open_files"))
confine({{**options, "layers": {layers!r}, "hidden": [{hidden!r}], "readable": [sys.prefix, sys.base_prefix, {root!r}], "writable": [{own!r}]}})
libc, parent, found = ctypes.CDLL(None, use_errno=True), os.getppid(), {{}}

def attempt(name, function):
    try:
        value = function()
        found[name] = not (isinstance(value, int) and value < 0)
    except OSError:
        found[name] = False

attempt("capabilities", lambda: -(privileges.held() == 0))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)))
attempt("affinity", lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt("limits", lambda: resource.prlimit(parent, resource.RLIMIT_CORE))
attempt("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
attempt("user namespace", lambda: libc.unshare(0x10000000))
attempt("clone into a namespace", lambda: libc.syscall(ctypes.c_long({clone}), ctypes.c_long(0x10000000 | 17), 0, 0, 0, 0))
attempt("io_uring", lambda: libc.syscall(ctypes.c_long(425), 8, 0))
attempt("shared segment", lambda: libc.shmget(0x6B657632, 4096, 0o1600))
attempt("message queue", lambda: libc.mq_open(b"/kevolve-test", os.O_CREAT | os.O_RDWR, 0o600, None))
attempt("internet", lambda: socket.socket(socket.AF_INET).close())
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect({socket!r}))
attempt("signal", lambda: os.kill(parent, 0))
attempt("environment", lambda: open(f"/proc/{{parent}}/environ", "rb").close())
attempt("kernel settings", lambda: open("/proc/sys/kernel/hostname", "r+").close())
attempt("shared memory", lambda: open("/dev/shm/kevolve-test", "xb").close())
attempt("hidden", lambda: open({hidden!r} + "/secret").close())
attempt("own affinity", lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)))
attempt("own limits", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
attempt("own files", lambda: open({own!r} + "/file", "w").close())
attempt("own name", lambda: open("/proc/self/comm", "w").write("name"))
attempt("null device", lambda: open("/dev/null", "w").write("x"))
attempt("own signal", lambda: os.kill(os.getpid(), 0))
attempt("socket pair", lambda: [item.close() for item in socket.socketpair()])
attempt("child", lambda: os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ), 0))
print(json.dumps(found))
"""
OWN = {"own affinity", "own limits", "own files", "own name", "null device", "own signal", "socket pair", "child"}


def tried(tmp_path: Path, layers: list[str]) -> dict[str, bool]:
    for name in ("hidden", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "hidden" / "secret").write_text("x")
    clone = seccomp._ARCHITECTURES[__import__("platform").machine()].clone
    code = CHILD.format(
        root=str(ROOT),
        layers=layers,
        hidden=str(tmp_path / "hidden"),
        own=str(tmp_path / "own"),
        clone=clone,
        socket=str(tmp_path / "none"),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(
    not seccomp.is_supported() or abi_version() < 6, reason="needs a seccomp filter for this processor and Landlock 6 (Linux 6.12)"
)
def test_a_confined_process_reaches_nothing_but_its_own(tmp_path: Path) -> None:
    assert {name for name, works in tried(tmp_path, list(NAMES)).items() if works} == OWN


@pytest.mark.skipif(not seccomp.is_supported(), reason="needs a seccomp filter for this processor")
def test_without_landlock_signals_stay_inside_by_the_filter(tmp_path: Path) -> None:
    found = tried(tmp_path, ["privileges", "seccomp"])
    assert not found["signal"] and not found["capabilities"] and found["own signal"] and found["child"]
