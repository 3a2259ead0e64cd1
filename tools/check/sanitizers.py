"""Run a C++ candidate once more with AddressSanitizer and UndefinedBehaviorSanitizer: reads and writes outside buffers, use after free, signed overflow.

The compiler's flags are changed inside the candidate's own process, so a candidate that wants to can get around it: this finds mistakes, it is no defence. What it does
not see: accesses inside a buffer that are wrong, data races (a sanitizer of its own), memory that is read before it is written, code that is not built by
`torch.utils.cpp_extension`. Alignment is not checked: x86 reads unaligned vectors.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize=alignment,vptr",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O1",
    "-g",
)
"""Added behind the candidate's own, so `-O1` wins: a build takes about as long as without."""
CHEAP_BYTES = 256 << 20
"""Inputs and outputs of one call up to which the run is cheap: instrumented code takes two to four times as long."""
_REPORT = re.compile(r"ERROR: AddressSanitizer: (?P<address>[\w-]+)[^\n]*|(?P<place>\S+:\d+:\d+): runtime error: (?P<undefined>[^\n]*)")
_FRAME = re.compile(r"#\d+ 0x[0-9a-f]+ in (?P<function>[^\n]*?) (?P<file>/\S+\.(?:cpp|cc|cxx|h|hpp)):(?P<line>\d+)")
_REACH = re.compile(r"0x[0-9a-f]+ is located (?P<where>[^\n]*?(?:region|frame)[^\n\[]*)")


@functools.cache
def libraries() -> tuple[str, ...]:
    """Return the run-time libraries that must be loaded first, empty where the compiler has none."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        try:
            done = subprocess.run(
                [os.environ.get("CXX", "g++"), f"-print-file-name={name}"], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ()
        path = Path(done.stdout.strip())
        if not path.is_absolute() or not path.exists():
            return ()
        found.append(str(path))
    return tuple(found)


def environment() -> dict[str, str]:
    """Return the variables of the warm process that instrumented candidates are forked from."""
    options = "detect_leaks=0:allocator_may_return_null=1:handle_segv=1:abort_on_error=0:color=never:detect_odr_violation=0"
    return {"LD_PRELOAD": " ".join(libraries()), "ASAN_OPTIONS": options, "UBSAN_OPTIONS": "print_stacktrace=1:color=never"}


def builds_cpp(source: str) -> bool:
    """Tell whether a candidate builds C++ with torch's extension builder."""
    return "cpp_extension" in source


def instrument() -> None:
    """Have `torch.utils.cpp_extension` add the sanitizers' flags from now on, in this process."""
    from torch.utils import cpp_extension

    os.environ.pop("LD_PRELOAD", None)  # the compiler itself needs no sanitizer
    for name in ("load", "load_inline"):
        setattr(cpp_extension, name, _with_flags(getattr(cpp_extension, name)))


def _with_flags(build: Callable[..., Any]) -> Callable[..., Any]:  # Any: torch's own arguments
    signature = inspect.signature(build)

    @functools.wraps(build)
    def instrumented(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.arguments["extra_cflags"] = [*(bound.arguments.get("extra_cflags") or []), *FLAGS]
        bound.arguments["extra_ldflags"] = [*(bound.arguments.get("extra_ldflags") or []), "-fsanitize=address,undefined"]
        return build(*bound.args, **bound.kwargs)

    return instrumented


def finding(log: str) -> str:
    """Return what a sanitizer reported in the output of a process, in one sentence with the place in the source; empty if nothing."""
    match = _REPORT.search(log)
    if match is None:
        return ""
    if match["undefined"]:
        place = match["place"].rpartition("/")[2]
        return f"UndefinedBehaviorSanitizer: {match['undefined'].strip()} at {place}"
    after = log[match.start() :]
    frame, reach = _FRAME.search(after), _REACH.search(after)
    place = f" in {frame['function'].split('(')[0]} at {Path(frame['file']).name}:{frame['line']}" if frame else ""
    size = re.search(r"\b(?P<access>READ|WRITE) of size (?P<size>\d+)", after)
    what = f", {size['access'].lower()} of {size['size']} bytes" if size else ""
    return f"AddressSanitizer: {match['address']}{what}{place}" + (f"; the address is {reach['where'].strip()}" if reach else "")
