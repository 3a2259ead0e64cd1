"""The report of a comparison: paired differences with intervals, and anytime curves. Every number comes from the records."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.comparison import Search, paired
from tools.types import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 2000
_NEAR = 0.98


def ratio(groups: Mapping[str, Sequence[float]], seed: int = 0) -> Interval:
    """Return the geometric-mean ratio over problems with its 95 % interval, from log ratios by problem.

    Problems weigh equally. The interval is a hierarchical bootstrap: problems are drawn with replacement, and within each its seeds, so that it speaks of
    further problems and not only of further seeds. 1.0 means no difference.
    """
    rng = random.Random(seed)
    values = list(groups.values())
    means = []
    for _ in range(RESAMPLES):
        chosen = [rng.choice(values) for _ in values]
        means.append(statistics.fmean(statistics.fmean(rng.choices(group, k=len(group))) for group in chosen))
    means.sort()
    value = statistics.fmean(statistics.fmean(group) for group in values)
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return Interval(math.exp(value), math.exp(min(low, value)), math.exp(max(high, value)))


def anytime(searches: Sequence[Search], strategy: str) -> list[float]:
    """Return the geometric mean over problems and seeds of the best fitness after 1, 2, … evaluations; below 1.0 counts as 1.0. A search that ended early keeps its best."""
    curves = [search.curve for search in searches if search.strategy == strategy]
    length = max((len(curve) for curve in curves), default=0)
    found = []
    for index in range(length):
        logs = [math.log(max(1.0, curve[min(index, len(curve) - 1)])) if curve else 0.0 for curve in curves]
        found.append(math.exp(statistics.fmean(logs)))
    return found


_SHARED = "Every distinct candidate was measured once in the search and finalists once more; all searches share these measurements, so their noise is common."
_RECORDED = (
    "The candidates were listed and measured on the device beforehand. Every evaluation of a search is drawn from the record: one of the candidate's measurements, its "
    "timing pairs redrawn with replacement by the search's seed, finalists with another draw. All strategies search the same finite set; with one seed they see the same numbers."
)


def _records(searches: Sequence[Search]) -> list[str]:
    """Say what was measured on which device, for searches on a record; nothing for others."""
    by_problem = {search.problem_id: search for search in searches if "recorded" in search.environment}
    if not by_problem:
        return []
    lines = ["", "What was measured, and how near the searches came to its best candidate (median over repeats):", ""]
    strategies = sorted({search.strategy for search in searches})
    lines += [
        "| problem | candidates | measurements | best fitness | found by " + " | ".join(strategies) + " |",
        "|---" * (4 + len(strategies)) + "|",
    ]
    for problem, one in sorted(by_problem.items()):
        about = one.environment
        cells = []
        for name in strategies:
            mine = [search for search in searches if (search.problem_id, search.strategy) == (problem, name)]
            near = sum(search.fitness >= _NEAR * about["recorded_best"] for search in mine)
            cells.append(f"{near} of {len(mine)}")
        lines.append(
            f"| {problem} | {about['recorded_candidates']} candidates | {about['recorded_measurements']} | {about['recorded_best']:.3f} | "
            + " | ".join(cells)
            + " |"
        )
    lines += ["", f"Found: within {1 - _NEAR:.0%} of the best. Measured with:", ""]
    places = {", ".join(f"{key} {value}" for key, value in sorted(one.environment["recorded_on"].items())) for one in by_problem.values()}
    files = {f"{one.environment['recorded']} (sha256 {one.environment['recorded_sha256']}…)" for one in by_problem.values()}
    return [*lines, *[f"- {text}" for text in sorted(places)], *[f"- record {text}" for text in sorted(files)]]


def render(searches: Sequence[Search], reference: str, command: str = "") -> str:
    """Return the report as Markdown."""
    strategies = sorted({search.strategy for search in searches})
    problems = sorted({search.problem_id for search in searches})
    seeds = len({search.seed for search in searches})
    first = searches[0]
    lines = [
        "# Search strategies at equal budget",
        "",
        f"{len(strategies)} strategies, {len(problems)} problems, {seeds} seeds, {first.budget} evaluations each, on {first.target}. "
        f"{_RECORDED if 'recorded' in first.environment else _SHARED} "
        "Fitness is the speedup over the stronger of eager and compiled; what is slower, or did not pass, counts as 1.0.",
        "",
        f"| strategy | geometric mean | ratio to {reference} (95 % interval) | better / equal / worse pairs | evaluations | s a search |",
        "|---|---|---|---|---|---|",
    ]
    for name in strategies:
        mine = [search for search in searches if search.strategy == name]
        groups = paired(searches, name, reference)
        pairs = [value for group in groups.values() for value in group]
        mean = math.exp(statistics.fmean(math.log(max(1.0, search.fitness)) for search in mine))
        interval = ratio(groups)
        difference = "1 (reference)" if name == reference else f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
        counts = f"{sum(value > 0 for value in pairs)} / {sum(value == 0 for value in pairs)} / {sum(value < 0 for value in pairs)}"
        used = statistics.fmean(search.num_evaluations for search in mine)
        lines.append(
            f"| {name} | {mean:.3f} | {difference} | {counts} | {used:.1f} | {statistics.fmean(search.seconds for search in mine):.1f} |"
        )
    lines += [
        "",
        "Geometric-mean fitness over seeds, by problem:",
        "",
        "| problem | " + " | ".join(strategies) + " |",
        "|---" * (len(strategies) + 1) + "|",
    ]
    for problem in problems:
        cells = []
        for name in strategies:
            values = [max(1.0, search.fitness) for search in searches if (search.problem_id, search.strategy) == (problem, name)]
            cells.append(f"{statistics.geometric_mean(values):.3f}" if values else "")
        lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    lines += _records(searches)
    environments = sorted(
        {
            ", ".join(f"{key} {value}" for key, value in sorted(search.environment.items()) if not key.startswith("recorded"))
            for search in searches
        }
    )
    lines += ["", "![best so far](anytime.svg)", "", *[f"- {text}" for text in environments], *(["", f"    {command}"] if command else [])]
    return "\n".join(lines) + "\n"


def figure(searches: Sequence[Search]) -> Figure:
    """Draw best so far against evaluations: all problems together, and each on its own.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    problems = sorted({search.problem_id for search in searches})
    columns = min(3, len(problems) + 1)
    rows = math.ceil((len(problems) + 1) / columns)
    drawn = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    axes = drawn.subplots(rows, columns, squeeze=False)
    for axis, problem in zip(axes.flat, ["", *problems], strict=False):
        chosen = [search for search in searches if problem in ("", search.problem_id)]
        for name in sorted({search.strategy for search in searches}):
            curve = anytime(chosen, name)
            axis.step(range(1, len(curve) + 1), curve, where="post", label=name)
        axis.set(title=problem or "all problems", xlabel="evaluations", ylabel="best fitness")
    axes.flat[0].legend(fontsize=7)
    for axis in list(axes.flat)[len(problems) + 1 :]:
        axis.set_visible(False)
    return drawn


def write(searches: Sequence[Search], folder: Path, reference: str, command: str = "") -> list[Path]:
    """Write `report.md` and, where matplotlib is installed, `anytime.svg`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.md"
    report.write_text(render(searches, reference, command), encoding="utf-8")
    try:
        drawn = figure(searches)
    except ImportError:
        return [report]
    drawn.savefig(folder / "anytime.svg")
    return [report, folder / "anytime.svg"]
