"""Read a problem from a KernelBench-format file, a KernelBench checkout or the examples.

Only the text is read here, statically: nothing of the problem is executed in this process. What shows up only by running it (a generator
that raises, outputs that are not tensors) is reported by the evaluator, which runs it in a process of its own.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from tools.docs import examples_root
from tools.errors import MachineError, ProblemError
from tools.types import Problem

_REQUIRED = {"Model": ast.ClassDef, "get_inputs": ast.FunctionDef, "get_init_inputs": ast.FunctionDef}
_KERNELBENCH = re.compile(r"kernelbench:(?:level)?(\d+)/(\d+)")


def load_problem(spec: str, *, kernelbench_root: Path | None = None) -> Problem:
    """Return the problem that `spec` names.

    Args:
        spec: A path to a Python file, `kernelbench:LEVEL/NUMBER`, or `examples/NAME`.
        kernelbench_root: A KernelBench checkout; default: the environment variable KEVOLVE_KERNELBENCH.

    Raises:
        ProblemError: There is no such problem, or its source cannot be used; the message says what to do.
    """
    match = _KERNELBENCH.fullmatch(spec)
    if match:
        path = _kernelbench_path(int(match[1]), int(match[2]), kernelbench_root)
        return problem_from_source(_read(path), problem_id=f"kernelbench:{match[1]}/{match[2]}", path=str(path), name=path.stem)
    if spec.startswith("kernelbench:"):
        raise ProblemError(f"{spec!r} is not of the form kernelbench:LEVEL/NUMBER, for example kernelbench:1/40")
    path = Path(spec).expanduser()
    if not path.exists() and spec.startswith("examples/"):
        path = _example_path(spec)
    if not path.exists():
        raise ProblemError(f"no such problem: {spec!r}; give a path to a Python file, kernelbench:LEVEL/NUMBER or examples/NAME")
    if path.is_dir():
        raise ProblemError(f"{spec!r} is a directory; give one Python file that defines Model, get_inputs and get_init_inputs")
    is_example = path.resolve().parent.name == "examples"
    return problem_from_source(
        _read(path), problem_id=f"examples/{path.stem}" if is_example else path.stem, path=str(path.resolve()), name=path.stem
    )


def problem_from_source(source: str, *, problem_id: str, path: str = "", name: str = "") -> Problem:
    """Return the problem that a source text defines.

    Raises:
        ProblemError: It is not valid Python or lacks a required name.
    """
    where = path or problem_id
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as err:
        line = f" line {err.lineno}" if isinstance(err, SyntaxError) and err.lineno else ""
        raise ProblemError(f"{where}:{line} is not valid Python: {err.msg if isinstance(err, SyntaxError) else err}") from err
    defined = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    missing = [name for name, kind in _REQUIRED.items() if not isinstance(defined.get(name), kind)]
    if missing:
        otherwise = "".join(
            f"; {name} in line {line} has to be a {'class' if name == 'Model' else 'def'} statement of this file"
            for name, line in _names_bound(tree).items()
            if name in missing
        )
        raise ProblemError(
            f"{where} does not define {', '.join(missing)} at the top level{otherwise}; "
            "a problem is a file with class Model(nn.Module), get_inputs() and get_init_inputs() (KernelBench's format)"
        )
    return Problem(
        problem_id=problem_id, name=name or problem_id, source=source, path=path, weights_constant=_weights_constant(tree, where)
    )


def _names_bound(tree: ast.Module) -> dict[str, int]:
    """Return the names that assignments and imports bind, with their lines."""
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.lineno for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name: node.lineno for alias in node.names}
    return found


def _weights_constant(tree: ast.Module, where: str) -> bool:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "WEIGHTS_CONSTANT" for target in targets):
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            if not (isinstance(value, ast.Constant) and isinstance(value.value, bool)):
                raise ProblemError(f"{where} line {node.lineno}: WEIGHTS_CONSTANT must be True or False")
            return value.value
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ProblemError(f"{path} cannot be read: {err}") from err


def _example_path(spec: str) -> Path:
    try:
        root = examples_root()
    except MachineError as err:
        raise ProblemError(f"no such problem: {spec!r}; {err}") from err
    name = spec.removeprefix("examples/").removesuffix(".py")
    path = root / f"{name}.py"
    if "/" in name or not path.is_file():
        known = ", ".join(sorted(item.stem for item in root.glob("*.py") if not item.stem.startswith("_"))) or "none"
        raise ProblemError(f"no such example: {name!r}; known: {known}")
    return path


def suite_problems(suite: str, levels: tuple[int, ...] = (), *, kernelbench_root: Path | None = None) -> list[Problem]:
    """Return every problem of a suite in order.

    Args:
        suite: `examples` or `kernelbench`.
        levels: Levels of KernelBench; empty: 1, 2 and 3.
        kernelbench_root: As for `load_problem`.

    Raises:
        ProblemError: No such suite or level.
    """
    if suite == "examples":
        return [load_problem(f"examples/{path.stem}") for path in sorted(examples_root().glob("*.py"))]
    if suite != "kernelbench":
        raise ProblemError(f"unknown suite {suite!r}; known: examples, kernelbench")
    found = []
    for level in levels or (1, 2, 3):
        folder = _kernelbench_path(level, 1, kernelbench_root).parent
        numbers = sorted(int(path.name.split("_")[0]) for path in folder.glob("[0-9]*_*.py"))
        found += [load_problem(f"kernelbench:{level}/{number}", kernelbench_root=kernelbench_root) for number in numbers]
    return found


def _kernelbench_path(level: int, number: int, root: Path | None) -> Path:
    chosen = root or (Path(os.environ["KEVOLVE_KERNELBENCH"]) if os.environ.get("KEVOLVE_KERNELBENCH") else None)
    if chosen is None:
        raise ProblemError("kernelbench: problems need a checkout; clone KernelBench and set KEVOLVE_KERNELBENCH to its directory")
    folder = chosen / "KernelBench" / f"level{level}"
    if not folder.is_dir():
        raise ProblemError(f"no level {level} in the KernelBench checkout {chosen} (looked for {folder})")
    found = sorted(folder.glob(f"{number}_*.py"))
    if not found:
        raise ProblemError(f"no problem {number} in {folder}; numbers there go from 1 to {len(list(folder.glob('*.py')))}")
    return found[0]
