"""Make one report from the records of `kb eval --json`, of single queries and of deep searches.

kb eval SUITE --json > evaluation/results/retrieval/SUITE.json
kb eval SUITE --through ask --home HOME --json > evaluation/results/retrieval/SUITE-ask.json
python -m evaluation.retrieval_failures SUITE --home HOME --out evaluation/results/retrieval/failures.jsonl
python -m evaluation.retrieval_report evaluation/results/retrieval
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError

ASKED = ("section@5", "section@10", "section@20", "document@10", "unanswered", "calls", "model_calls")
TITLE = "# Retrieval, measured\n\nMade by `python -m evaluation.retrieval_report` from the records beside it.\n"


def report(records: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON of `kb.measure.SuiteReport` or `kb.deep.measure.AskReport`
    """Return the report as Markdown, suites in the given order."""
    return "\n".join([TITLE, *(_suite(record) for record in records)])


def failures(rows: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON of `evaluation.retrieval_failures.Failure`
    """Return the failures as a table, the held-out ones first."""
    lines = [
        "## retrieval: every failure, with its reason\n",
        "Made by `python -m evaluation.retrieval_failures` (`failures.jsonl`): questions whose answer is not within the first five hits, refused though answered, or answered though nothing does.\n",
        "| question | split | failure | reason |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["split"] != "held_out"):
        cells = (f"`{row['id']}` {row['text']}", row["split"], row["failure"], "; ".join(filter(None, (row["reason"], row["note"]))))
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _suite(record: Mapping[str, Any]) -> str:  # Any: JSON
    return _asked(record) if record.get("through") == "ask" else _queried(record)


def _asked(record: Mapping[str, Any]) -> str:  # Any: JSON of `kb.deep.measure.AskReport`
    how = "advised by a language model" if record["is_advised"] else "by rules"
    everything = record["types"]["all"]
    lines = [
        f"## {record['suite']} ({record['split']}) through `kb ask`, {how}\n",
        f"{record['num_documents']} documents, {record['num_chunks']} chunks, {everything['questions']} questions, embedder {record['embedder']}. "
        "Calls: queries put to the base, and to the model, in one question's mean.\n",
        f"| type | questions | {' | '.join(ASKED)} |",
        "|---|" + "---|" * (len(ASKED) + 1),
    ]
    for kind, rates in record["types"].items():
        numbers = " | ".join(f"{rates[name]:.3f}" if name in rates else "" for name in ASKED)
        lines.append(f"| {kind} | {rates['questions']} | {numbers} |")
    if record.get("note"):
        lines.append(f"\n{record['note']}")
    return "\n".join([*lines, ""])


def _queried(record: Mapping[str, Any]) -> str:  # Any: JSON
    default = record["modes"]["hybrid"]
    names = list(default["metrics"])
    weights = ", ".join(f"{name} {value:g}" for name, value in record["weights"].items())
    lines = [
        f"## {record['suite']} ({record['split']})\n",
        f"{record['num_documents']} documents, {record['num_chunks']} chunks, {record['num_queries']} questions, embedder {record['embedder']}; {weights}.\n",
        f"| way of searching | {' | '.join(names)} | default minus it, 95 % interval | p |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for mode, values in record["modes"].items():
        other = values["comparison"]
        against = f"{other['difference']:+.4f} ({other['low']:+.4f} to {other['high']:+.4f}) | {other['p_value']:.4f}" if other else " | "
        lines.append(f"| {mode} | {_numbers(values['metrics'], names)} | {against} |")
    if len(default["by_kind"]) > 1:
        lines += [f"\n| type (default) | questions | {' | '.join(names)} |", "|---|" + "---|" * (len(names) + 1)]
        for kind, values in default["by_kind"].items():
            lines.append(f"| {kind} | {values['questions']:.0f} | {_numbers(values, names)} |")
    found = default["abstention"]
    lines.append(
        f"\nAbstained on {found['caught']} of {found['num_unanswerable']} unanswerable and {found['false']} of {found['num_answerable']} answerable questions; "
        f"a document of another target among the first three hits: {default['wrong_target_top3']} of {record['num_targeted']} questions that have one.\n"
    )
    return "\n".join(lines)


def _numbers(values: Mapping[str, float], names: Sequence[str]) -> str:
    return " | ".join(f"{values[name]:.4f}" for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: write `README.md` into the folder of the records."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.retrieval_report", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise EvaluationError(f"no records in {str(folder)!r}; write some with `kb eval SUITE --json`")
    text = report([json.loads(path.read_text(encoding="utf-8")) for path in paths])
    listed = folder / "failures.jsonl"
    if listed.is_file():
        text += "\n" + failures([json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines() if line])
    (folder / "README.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
