"""Training data from recorded runs, as JSON lines in the conversational forms that TRL and `datasets` load.

- `sft`: the way from a first draft to a node that passed, one conversation: `messages`.
- `dpo`: two children of the same parents, one clearly better: `prompt`, `chosen`, `rejected`.
- `grpo`: all children of the same parents, each with its reward and its advantage in the group: `prompt`, `completion`, `reward`, `advantage`, `group_id`.

Rewards are fitnesses of evaluations and nothing else; nodes that were not measured are left out. Rows are unique, and keys are scrubbed.
Forms: https://huggingface.co/docs/trl/dataset_formats (conversational SFT, preference; GRPO takes `prompt`, further columns are handed to reward functions).
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.chat_models.keys import scrub
from agents.coders.base import CoderTask
from agents.coders.prompt import compose, language_of_target
from agents.errors import OptionError
from agents.prompts import render
from agents.runs.records import NodeRecord, RunRecord
from agents.runs.store import RunStore
from agents.types import Limits
from tools.targets.mtia_model import TIME_MODEL
from tools.targets.registry import is_simulated
from tools.types import Status

Format = Literal["sft", "dpo", "grpo"]
FORMATS: tuple[Format, ...] = ("sft", "dpo", "grpo")
UNSTATED = "not stated: check the licences of the problem and of the cited documents before you publish"
_UNMEASURED = (Status.NOT_MEASURED, Status.HARNESS_ERROR)

Row = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class TrajectoryOptions:
    """What is exported."""

    form: Format = "sft"
    margin: float = 0.05
    """Least difference of fitness between the two of a pair; and intervals that do not overlap, where both passed."""
    least_fitness: float = 0.0
    """Paths end at nodes above this fitness only."""
    licence: str = UNSTATED
    prompt_tokens: int = 24_000

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise OptionError(f"unknown format {self.form!r}; known: {', '.join(FORMATS)}")
        if not self.margin >= 0 or not self.least_fitness >= 0:
            raise OptionError(f"margin and least fitness must be 0 or more, got {self.margin!r} and {self.least_fitness!r}")


def rows_of(store: RunStore, run_ids: Sequence[str], options: TrajectoryOptions) -> Iterator[Row]:
    """Return the rows of runs, each once, in the order of the runs.

    Raises:
        UnknownNameError: There is no such run.
    """
    seen: set[str] = set()
    for run_id in run_ids:
        record = store.run(run_id)
        nodes = [node for node in store.nodes(record.run_id) if node.evaluation.status not in _UNMEASURED]
        for row in _RunExport(record, nodes, options).rows():
            clean: Row = _scrubbed(row)
            said = {key: clean[key] for key in ("messages", "prompt", "completion", "chosen", "rejected") if key in clean}
            digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
            if digest not in seen:
                seen.add(digest)
                yield clean


def _scrubbed(value: Any) -> Any:  # Any: JSON
    """Return a row without keys, text by text: in JSON's spelling a key with a quotation mark looks different, and what is cut out may be more than one text."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(str(key)): _scrubbed(item) for key, item in value.items()}
    return [_scrubbed(item) for item in value] if isinstance(value, (list, tuple)) else value


class _RunExport:
    """The rows of one run."""

    def __init__(self, record: RunRecord, nodes: Sequence[NodeRecord], options: TrajectoryOptions) -> None:
        self._record, self._nodes, self._options = record, nodes, options
        self._by_id = {node.node_id: node for node in nodes}

    def rows(self) -> Iterator[Row]:
        return {"sft": self._paths, "dpo": self._pairs, "grpo": self._groups}[self._options.form]()

    def _paths(self) -> Iterator[Row]:
        """Yield one conversation for each leaf that passed: its line of first parents."""
        inner = {parent for node in self._nodes if node.fitness > 0 for parent in node.parents}
        for node in self._nodes:
            if node.fitness <= self._options.least_fitness or node.node_id in inner:
                continue
            line = self._line(node)
            messages = [self._system(), {"role": "user", "content": self._prompt(line[0].parents)}]
            for step, member in enumerate(line):
                if step:
                    messages.append({"role": "user", "content": self._prompt(member.parents)})
                messages.append(_answer(member))
            yield {"messages": messages, **self._about(line), "rewards": [member.fitness for member in line], "reward": node.fitness}

    def _pairs(self) -> Iterator[Row]:
        for parents, children in self._families():
            ranked = sorted(children, key=lambda node: (-node.fitness, node.step))
            for index, better in enumerate(ranked):
                for worse in ranked[index + 1 :]:
                    if better.source_hash != worse.source_hash and self._is_clear(better, worse):
                        yield {
                            "prompt": [self._system(), {"role": "user", "content": self._prompt(parents)}],
                            "chosen": [_answer(better)],
                            "rejected": [_answer(worse)],
                            "score_chosen": better.fitness,
                            "score_rejected": worse.fitness,
                            **self._about([better, worse]),
                        }

    def _groups(self) -> Iterator[Row]:
        for parents, children in self._families():
            unique = list({node.source_hash: node for node in reversed(children)}.values())[::-1]
            if len(unique) < 2:
                continue
            rewards = [node.fitness for node in unique]
            mean, spread = statistics.fmean(rewards), statistics.pstdev(rewards)
            group_id = hashlib.sha256(json.dumps([self._record.run_id, *parents]).encode()).hexdigest()[:16]
            for node in unique:
                yield {
                    "prompt": [self._system(), {"role": "user", "content": self._prompt(parents)}],
                    "completion": [_answer(node)],
                    "reward": node.fitness,
                    "advantage": (node.fitness - mean) / spread if spread else 0.0,
                    "group_id": group_id,
                    **self._about([node]),
                }

    def _families(self) -> list[tuple[tuple[str, ...], list[NodeRecord]]]:
        found: dict[tuple[str, ...], list[NodeRecord]] = {}
        for node in self._nodes:
            found.setdefault(node.parents, []).append(node)
        return list(found.items())

    def _is_clear(self, better: NodeRecord, worse: NodeRecord) -> bool:
        if better.fitness <= 0 or better.fitness - worse.fitness < self._options.margin:
            return False
        if worse.fitness <= 0:
            return True
        low = min(interval.low for interval in better.evaluation.speedup.values())
        high = min(interval.high for interval in worse.evaluation.speedup.values())
        return low > high

    def _line(self, node: NodeRecord) -> list[NodeRecord]:
        line = [node]
        while line[0].parents and line[0].parents[0] in self._by_id:
            line.insert(0, self._by_id[line[0].parents[0]])
        return line

    def _system(self) -> dict[str, str]:
        language = (
            "C++ (OpenMP and vector code, compiled when the file is loaded)"
            if language_of_target(self._record.target) == "cpp"
            else "Triton"
        )
        return {
            "role": "system",
            "content": render(
                "coder_system.md",
                language=language,
                tools=[],
                rules=render("rules.md"),
                simulated=TIME_MODEL if is_simulated(self._record.target) else "",
            ),
        }

    def _prompt(self, parents: Sequence[str]) -> str:
        """Return what is asked of a child of these parents: made anew from the record, the same for every coder that wrote in the run."""
        attempts = tuple(self._by_id[parent].to_attempt() for parent in parents if parent in self._by_id)
        task = CoderTask(
            problem=self._record.problem,
            target=self._record.target,
            parents=attempts,
            limits=Limits(prompt_tokens=self._options.prompt_tokens),
        )
        return compose(task).text

    def _about(self, nodes: Sequence[NodeRecord]) -> Row:
        return {
            "run_id": self._record.run_id,
            "problem_id": self._record.problem.problem_id,
            "target": self._record.target,
            "coder": self._record.coder,
            "evidence": nodes[0].evaluation.evidence.value,
            "node_ids": [node.node_id for node in nodes],
            "statuses": [node.evaluation.status.value for node in nodes],
            "chunk_ids": sorted({chunk_id for node in nodes for chunk_id in node.chunk_ids}),
            "licence": self._options.licence,
        }


def _answer(node: NodeRecord) -> dict[str, str]:
    said = f"{node.notes.strip()}\n\n" if node.notes.strip() else ""
    return {"role": "assistant", "content": f"{said}```python\n{node.candidate.source.rstrip()}\n```"}
