"""Rules about launches, autotuning and the Python around the kernels."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.lint.module import Kernel, Module
from tools.lint.rule import Context, Violation, rule

_DOCUMENT = "guide/lint-rules.md"
_MAX_WARPS = 32


@rule(
    "L32",
    "num_warps is a power of two up to 32; clusters need sm_90",
    severity="error",
    targets=("nvidia", "amd"),
    why="A block is split over warps by halving, and has at most 1,024 threads; thread block clusters exist from sm_90 on.",
    fix="use num_warps of 1, 2, 4, 8, 16 or 32, and num_ctas=1 where the target has no clusters",
    document=f"{_DOCUMENT}#l32",
)
def launch_options(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on literal launch options that the target refuses, at launches and in `triton.Config`."""
    warp = int(context.limit("warp_size") or 32)
    most = int((context.limit("max_threads_per_block") or 1024) // warp)
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        is_launch = any(launch.call is node for launch in module.launches)
        if not is_launch and not module.dotted(node.func).endswith("triton.Config"):
            continue
        options = {keyword.arg: keyword.value.value for keyword in node.keywords if isinstance(keyword.value, ast.Constant)}
        warps, clusters = options.get("num_warps"), options.get("num_ctas")
        if isinstance(warps, int) and (warps < 1 or warps & (warps - 1)):
            yield Violation(node.lineno, f"num_warps must be a power of 2, got {warps}")
        elif isinstance(warps, int) and warps > most:
            yield Violation(
                node.lineno, f"num_warps={warps} is {warps * warp} threads; {context.target} has at most {most * warp} per block"
            )
        if isinstance(clusters, int) and clusters > 1 and context.limit("max_blocks_per_cluster") is None:
            yield Violation(node.lineno, f"num_ctas={clusters} needs thread block clusters, which {context.target} does not have")


@rule(
    "L33",
    "Integers that change at every launch are not specialised",
    severity="performance",
    why="Triton compiles again when an integer argument becomes 1 or a multiple of 16, and for every value of a constexpr: a counter recompiles in the middle of a loop.",
    fix="list the argument in `@triton.jit(do_not_specialize=[...])`, or pass it in a tensor",
    document=f"{_DOCUMENT}#l33",
)
def changing_integers(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where a launch inside a loop passes the loop's variable."""
    for node in module.host_nodes():
        if not (isinstance(node, ast.For) and isinstance(node.target, ast.Name)):
            continue
        for launch in module.launches:
            inside = any(item is launch.call for item in ast.walk(node))
            kernel = module.kernels[launch.kernel]
            if not inside or _lists(kernel, "do_not_specialize"):
                continue
            passed = [*launch.call.args, *(keyword.value for keyword in launch.call.keywords)]
            if any(isinstance(item, ast.Name) and item.id == node.target.id for item in passed):
                yield Violation(
                    launch.call.lineno,
                    f"{launch.kernel} is launched with the loop variable {node.target.id}: it is compiled again for some values",
                )


def _lists(kernel: Kernel, name: str) -> bool:
    return any(keyword.arg == name for decorator in kernel.decorators if isinstance(decorator, ast.Call) for keyword in decorator.keywords)


@rule(
    "L34",
    "No device prints or asserts in a timed kernel",
    severity="warning",
    why="They cost registers and time, print from every program, and asserts act only with TRITON_DEBUG=1.",
    fix="remove them before evaluating; use `tl.static_print` and `tl.static_assert` for constants",
    document=f"{_DOCUMENT}#l34",
)
def device_prints(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.device_print` and `tl.device_assert`."""
    for call in context.calls("device_print", "device_assert"):
        yield Violation(call.line, f"`tl.{call.name}` in a kernel that is timed")


@rule(
    "L35",
    "Autotuned kernels that update memory in place restore it",
    severity="error",
    why="Autotuning launches the kernel many times on the same tensors: what it adds to or overwrites is wrong afterwards.",
    fix='pass `reset_to_zero=["out_ptr"]` or `restore_value=["x_ptr"]` to `triton.autotune`',
    document=f"{_DOCUMENT}#l35",
)
def autotune_in_place(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on autotuned kernels with atomics, or that store to an argument they load from, without reset or restore."""
    for trace in context.traces:
        decorator = _autotune(module, trace.kernel)
        if decorator is None or any(
            keyword.arg in ("reset_to_zero", "restore_value", "pre_hook", "post_hook") for keyword in decorator.keywords
        ):
            continue
        if len(_configs(decorator)) == 1:
            continue
        loaded = {name for call in trace.named("load") for name in _bases(call.arguments)}
        stored = {name for call in trace.named("store") for name in _bases(call.arguments)}
        updated = {name for call in trace.calls if call.name.startswith("atomic_") for name in _bases(call.arguments)}
        for name in sorted(updated | (loaded & stored)):
            yield Violation(trace.kernel.node.lineno, f"{trace.kernel.name} is autotuned and updates {name} in place")


def _autotune(module: Module, kernel: Kernel) -> ast.Call | None:
    calls = (decorator for decorator in kernel.decorators if isinstance(decorator, ast.Call))
    return next((call for call in calls if module.dotted(call.func).split(".")[-1] == "autotune"), None)


def _configs(decorator: ast.Call) -> list[ast.expr]:
    node = next(
        (keyword.value for keyword in decorator.keywords if keyword.arg == "configs"), decorator.args[0] if decorator.args else None
    )
    return list(node.elts) if isinstance(node, ast.List | ast.Tuple) else []


def _bases(arguments: object) -> set[str]:
    pointer = arguments.get("pointer") if isinstance(arguments, dict) else None
    if pointer is None:
        return set()
    named = {trait.removeprefix("base:") for trait in pointer.traits if trait.startswith("base:")}
    if not named and pointer.has("argument"):
        named = {trait.removeprefix("param:") for trait in pointer.traits if trait.startswith("param:")}
    return named


@rule(
    "L36",
    "The autotune key names the sizes that matter",
    severity="performance",
    why="A choice is kept per value of the key; with an empty key the first shape's choice serves all shapes.",
    fix='list the size arguments: `key=["n_rows", "n_cols"]`',
    document=f"{_DOCUMENT}#l36",
)
def autotune_key(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on an empty key of a kernel with runtime arguments."""
    for trace in context.traces:
        decorator = _autotune(module, trace.kernel)
        if decorator is None or len(_configs(decorator)) == 1:
            continue
        key = next(
            (keyword.value for keyword in decorator.keywords if keyword.arg == "key"),
            decorator.args[1] if len(decorator.args) > 1 else None,
        )
        if isinstance(key, ast.List | ast.Tuple) and not key.elts and len(trace.kernel.parameters) > len(trace.kernel.constexprs):
            yield Violation(decorator.lineno, f"the autotune key of {trace.kernel.name} is empty")


@rule(
    "L37",
    "`tl.range(num_stages=…)` and the kernel's num_stages are different things",
    severity="performance",
    targets=("nvidia",),
    why="The loop's own value wins for that loop; by default only loads that feed a dot are pipelined.",
    fix="set one of the two, and use the loop's for loops without dots",
    document=f"{_DOCUMENT}#l37",
)
def loop_stages(module: Module, context: Context) -> Iterator[Violation]:
    """Fire where a loop and a launch of the same kernel give different numbers."""
    for trace in context.traces:
        launched = {
            keyword.value.value
            for launch in module.launches
            if launch.kernel == trace.kernel.name
            for keyword in launch.call.keywords
            if keyword.arg == "num_stages" and isinstance(keyword.value, ast.Constant)
        }
        for call in trace.named("range"):
            stages = call.arguments.get("num_stages")
            if stages is not None and stages.integer is not None and launched and launched != {stages.integer}:
                yield Violation(call.line, f"the loop has num_stages={stages.integer}, the launch {sorted(map(str, launched))}")


@rule(
    "L38",
    "Warp specialisation needs descriptor loads and no `flatten`",
    severity="performance",
    targets=("nvidia",),
    why="Automatic warp specialisation splits loads from arithmetic; it works on tensor descriptor loads and is switched off by `flatten=True`.",
    fix="load through descriptors and drop `flatten=True`",
    document=f"{_DOCUMENT}#l38",
)
def warp_specialisation(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on `tl.range(warp_specialize=True)` that cannot take effect."""
    for trace in context.traces:
        for call in trace.named("range"):
            specialised, flatten = call.arguments.get("warp_specialize"), call.arguments.get("flatten")
            if specialised is None or specialised.const is not True:
                continue
            if flatten is not None and flatten.const is True:
                yield Violation(call.line, "`flatten=True` switches warp specialisation off")
            elif not trace.named("make_tensor_descriptor", ".load", "load_tensor_descriptor"):
                yield Violation(call.line, "warp specialisation without descriptor loads has nothing to split off")


@rule(
    "L43",
    "Grid axes y and z end at 65,535",
    severity="error",
    targets=("nvidia",),
    why="Only the first grid axis may be larger.",
    fix="put the large dimension on axis 0",
    document=f"{_DOCUMENT}#l43",
)
def grid_extent(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on literal grids whose second or third axis is too large."""
    most = int(context.limit("max_grid_y") or 65535)
    for launch in module.launches:
        if not isinstance(launch.grid, ast.Tuple):
            continue
        for axis, item in enumerate(launch.grid.elts):
            if axis and isinstance(item, ast.Constant) and isinstance(item.value, int) and item.value > most:
                yield Violation(launch.call.lineno, f"grid axis {'xyz'[axis % 3]} is {item.value}, at most {most} on {context.target}")


_PATCHED = (
    "torch.cuda.synchronize",
    "torch.cuda.Event",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.time",
    "time.monotonic",
    "triton.testing.do_bench",
    "torch.allclose",
)


@rule(
    "L44",
    "The candidate's own kernels do the work, in the open",
    severity="warning",
    why="Code made at run time, copies to the host and silent fallbacks hide what is measured; replacing a clock or a comparator is a cheat.",
    fix="write the code out, keep tensors on the device, dispatch by shape and dtype instead of catching exceptions",
    document=f"{_DOCUMENT}#l44",
)
def host_tricks(module: Module, context: Context) -> Iterator[Violation]:
    """Fire on replaced clocks (error), and on eval/exec, marshal, `.cpu()`, and a bare fallback around a launch (warnings)."""
    for node in module.host_nodes():
        yield from _patches(module, node)
        if isinstance(node, ast.Call):
            name = module.dotted(node.func)
            if name in ("eval", "exec", "compile", "marshal.loads", "pickle.loads"):
                yield Violation(node.lineno, f"`{name}` makes code or objects that cannot be read here")
            elif isinstance(node.func, ast.Attribute) and node.func.attr == "cpu" and not node.args and "cpu" not in context.lineage:
                yield Violation(node.lineno, "`.cpu()` copies a tensor to the host")
        if isinstance(node, ast.Try) and any(
            launch.call is item for launch in module.launches for body in node.body for item in ast.walk(body)
        ):
            yield Violation(node.lineno, "a launch inside `try` hides a failing kernel behind a fallback")


def _patches(module: Module, node: ast.AST) -> Iterator[Violation]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    for target in targets:
        name = module.dotted(target) if isinstance(target, ast.Attribute) else ""
        if name.startswith(_PATCHED):
            fix = "remove the assignment: clocks and comparators belong to the evaluator"
            yield Violation(node.lineno if isinstance(node, ast.stmt) else 0, f"the candidate replaces {name}", severity="error", fix=fix)
