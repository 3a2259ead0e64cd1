"""Which parts of a prompt deserve their place? An ablation on recorded sessions, without asking anybody again.

For each recorded prompt whose answer is known, the prompt's parts are put into half, a quarter and an eighth of its length in several orders, by the very rule
that composes prompts (`agents.coders.prompt`). What an order is worth is how much of the answer's own code it still supports: the share of the answer's pieces
(runs of tokens under their own names) that stand in the material that was kept, of those that stand in the whole material. And a leave-one-out table says how much of that support only one kind of part gives.

A piece that recurs need not have been read there; the measure compares orders, it does not explain a writer.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.coders.prompt import Part, allot, shorten
from agents.coders.repair import code_in

SHARES = (0.5, 0.25, 0.125)
_RUN = 3
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[^\s\w]")
_PART = re.compile(r"^## (.+?)\n(?:<(data-\w+)>\n(.*?)\n</\2>|(.*?))(?=\n+## |\n+Cut or left out|\Z)", re.DOTALL | re.MULTILINE)
_SHARE_OF = {
    "Last attempt: verdict": 0.2,
    "Last attempt: parent.py": 0.5,
    "Diagnosis": 0.1,
    "A frame that works here": 0.5,
    "Earlier attempts": 0.1,
}
"""Shares that `agents.coders.prompt` gives the parts of these titles."""


@dataclass(frozen=True)
class Session:
    """One recorded prompt with the code that answered it."""

    name: str
    parts: tuple[Part, ...]
    """In the order of the prompt, without the problem, which is never cut."""
    problem: str
    answer: str


def pieces(text: str) -> frozenset[tuple[str, ...]]:
    """Return the runs of tokens of a text."""
    tokens = _TOKEN.findall(text)
    return frozenset(tuple(tokens[at : at + _RUN]) for at in range(len(tokens) - _RUN + 1))


def kind_of(title: str) -> str:
    """Return a part's kind: its title without what is particular."""
    return re.split(r":| (?:mtia|cuda|cpu|rocm|for) ?", title)[0].strip() if not title.startswith("Last attempt") else title


def parts_of(prompt: str) -> list[Part]:
    """Return the titled parts of a recorded prompt, with the shares that they had."""
    found = []
    for match in _PART.finditer(prompt):
        title, text = match[1], match[3] if match[3] is not None else match[4]
        share = 0.12 if title.startswith("Knowledge") else _SHARE_OF.get(title, 0.1 if title.startswith("Target") else 1.0)
        found.append(Part(title, text, share))
    return found


def sessions_of(folder: Path) -> Iterator[Session]:
    """Yield the recorded sessions of a folder of transcripts whose answers hold code."""
    for path in sorted(folder.glob("*.jsonl")):
        if path.name == "rows.jsonl":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            entry: Mapping[str, Any] = json.loads(line)  # Any: JSON
            answer = code_in(str(entry["answer"]["data"]["content"]))
            parts = parts_of(str(entry["messages"][1]["content"]))
            if answer and parts and parts[0].title.startswith("Problem"):
                yield Session(f"{path.stem}#{number + 1}", tuple(parts[1:]), parts[0].text, answer)


def support(session: Session, parts: Sequence[Part]) -> int:
    """Return how many pieces of the answer stand in these parts and not in the problem, which is always shown."""
    told: set[tuple[str, ...]] = set()
    for part in parts:
        told |= pieces(part.text)
    return len((pieces(session.answer) - pieces(session.problem)) & told)


def kept(parts: Sequence[Part], room: int) -> list[Part]:
    """Return the parts as they are cut to fit into so many bytes."""
    sizes = allot(parts, room)
    whole = [len(part.text.encode()) for part in parts]
    return [
        part if size >= length else Part(part.title, shorten(part.text, size, "start"), part.share)
        for part, size, length in zip(parts, sizes, whole, strict=True)
        if size
    ]


def orders(session: Session, rng: random.Random) -> dict[str, list[Part]]:
    """Return the orders that are compared."""
    shuffled = list(session.parts)
    rng.shuffle(shuffled)
    return {
        "ours": list(session.parts),
        "reversed": list(reversed(session.parts)),
        "shuffled": shuffled,
        "shortest first": sorted(session.parts, key=lambda part: len(part.text)),
        "no shares": [Part(part.title, part.text) for part in session.parts],
    }


def study(sessions: Sequence[Session], seed: int = 0) -> dict[str, Any]:  # Any: JSON
    """Return, per length, the mean share of the support that each order keeps, and what leaving out each kind of part costs."""
    rng = random.Random(seed)
    shares: dict[str, dict[str, list[float]]] = {str(share): defaultdict(list) for share in SHARES}
    lost: dict[str, list[float]] = defaultdict(list)
    for session in sessions:
        whole = support(session, session.parts)
        if not whole:
            continue
        total = sum(len(part.text.encode()) for part in session.parts)
        for share in SHARES:
            for name, parts in orders(session, rng).items():
                shares[str(share)][name].append(support(session, kept(parts, int(share * total))) / whole)
        for kind in sorted({kind_of(part.title) for part in session.parts}):
            without = [part for part in session.parts if kind_of(part.title) != kind]
            lost[kind].append(1 - support(session, without) / whole)
    return {
        "sessions": len(sessions),
        "kept": {share: {name: round(sum(values) / len(values), 3) for name, values in found.items()} for share, found in shares.items()},
        "only_from": {
            kind: {"sessions": len(values), "share": round(sum(values) / len(values), 3)}
            for kind, values in sorted(lost.items(), key=lambda item: -sum(item[1]) / len(item[1]))
        },
    }


def main() -> None:
    """Entry point of `python -m evaluation.prompt_ablation FOLDER…`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of transcripts")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = study([session for folder in given.folders for session in sessions_of(folder)])
    text = json.dumps(found, indent=1) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
