"""One session, the inner loop: diagnose → deep search → write → lint → evaluate, again with feedback until it passes or its share is used up.

Every step may be repeated after a kill: what was written or measured is in the run store and is taken from there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import logging
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agents.advisers import interleaved, joined
from agents.coders.base import CoderTask, Draft
from agents.coders.prompt import other_candidates, target_facts
from agents.context import History, RunContext
from agents.diagnosis import diagnose
from agents.instruments import RunInstruments
from agents.memory import remember
from agents.profiles import known_profile, profile_latest
from agents.reading import opened
from agents.runs.hashing import derived_id, derived_seed
from agents.runs.records import AttemptRecord, Outcome, Repair
from agents.runs.store import new_attempt
from agents.state import SessionState
from agents.subject import standing_questions
from agents.threads import in_thread
from agents.types import REPEATS, Attempt, Diagnosis, Memory
from tools.types import UNMEASURABLE, Candidate, Status

logger = logging.getLogger(__name__)

_MAX_REPAIR_LINES = 24
"""Most changed lines that are shown of how an earlier failure was mended."""
_MAX_SITUATIONS = 32
"""What so many attempts know is kept in memory: more than run at the same time."""
_MAX_OTHERS = 12
"""Latest candidates of the run that a diagnosis model is shown."""
_MAX_BRIEFS = 64
"""Briefs that are kept in memory."""


def node_id_of(run_id: str, session_id: str, attempt: int) -> str:
    """Return the id that the node of this attempt has, or will have."""
    return derived_id(run_id, session_id, attempt)[:12]


def build_session_graph() -> Any:  # Any: langgraph's compiled graph has four type parameters of its own
    """Return the compiled graph of one session; its state is a `SessionState`, its context a `RunContext`."""
    graph = StateGraph(SessionState, context_schema=RunContext)
    graph.add_node("diagnose", diagnose_step)
    graph.add_node("search_knowledge", search_knowledge_step)
    graph.add_node("write", write_step)
    graph.add_node("lint", lint_step)
    graph.add_node("evaluate", evaluate_step)
    graph.add_edge(START, "diagnose")
    graph.add_edge("diagnose", "search_knowledge")
    graph.add_edge("search_knowledge", "write")
    graph.add_conditional_edges("write", lambda state: END if state["outcome"] else "lint", [END, "lint"])
    graph.add_edge("lint", "evaluate")
    graph.add_conditional_edges("evaluate", lambda state: END if state["outcome"] else "diagnose", [END, "diagnose"])
    # Not checkpointed: what a session has done is in the run store, so that a resumed one finds it there.
    return graph.compile()


async def diagnose_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Move on to the next attempt and say what stands in the way."""
    attempt = state["attempt"] + 1
    await profile_latest(runtime.context, _parents(state, runtime.context, attempt))
    runtime.context.tell(
        "diagnosed",
        session=state["session_id"],
        attempt=attempt,
        bottleneck=_situation(state, runtime.context, attempt).diagnosis.bottleneck,
    )
    return {"attempt": attempt}


async def search_knowledge_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Ask the knowledge base what the diagnosis raises, and keep the cited brief for the writer."""
    if not _is_seed(state):
        context, attempt = runtime.context, state["attempt"]
        if len(context.attempts(state["session_id"])) < attempt:
            await _take_advice(state, context, attempt)
            await _ask(context, _situation(state, context, attempt).diagnosis, state)
    return {}


async def _take_advice(state: SessionState, context: RunContext, attempt: int) -> None:
    """Let the diagnosis model speak, once for each attempt of the run: what it said is in the store, and a resumed run takes it from there."""
    if context.advisers is None or not context.advisers.has("diagnosis"):
        return
    situation, session_id = _situation(state, context, attempt), state["session_id"]
    known = [
        event.data
        for event in context.store.events(context.run_id, "advised")
        if (event.data["session"], event.data["attempt"]) == (session_id, attempt)
    ]
    if known:
        said: Any = known[0]["diagnosis"]  # Any: JSON of a Diagnosis
        advised = Diagnosis(said["bottleneck"], said["summary"], tuple(said["questions"]), tuple(said["failed_ideas"]))
    else:
        about = {"run_id": context.run_id, "session_id": session_id, "attempt": attempt}
        found = None
        if situation.parents:
            best = [node.to_attempt() for node in context.store.best_nodes(context.run_id, 1)]
            latest = situation.history[max(0, len(situation.history) - _MAX_OTHERS) :]
            told = {
                "Other candidates of this search": other_candidates((*best, *latest, *situation.remembered), situation.parents[-1:]),
                "The target": target_facts(context.target),
            }
            found = await context.advisers.diagnose(
                context.problem, context.target, situation.parents, situation.diagnosis, context.meter, told, **about
            )
        if found is not None:
            kept = (*found.questions, *standing_questions(context.target))
            found = dataclasses.replace(found, questions=tuple(dict.fromkeys(kept)))
        advised = found or situation.diagnosis
        context.tell("advised", session=session_id, attempt=attempt, diagnosis=dataclasses.asdict(advised), is_used=found is not None)
    context.situations[session_id, attempt] = dataclasses.replace(situation, diagnosis=advised)


async def write_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Get a candidate from the coder, once: a draft that is stored already is not written again."""
    context = runtime.context
    attempt, used = state["attempt"], state["used"]
    stored = context.attempts(state["session_id"])
    if len(stored) < attempt:
        situation = _situation(state, context, attempt)
        # The last evaluation of the session's share is for what is handed in; tests use up the others.
        instruments = RunInstruments(context, state["allotment"] - state["used"] - 1)
        draft = await _draft(state, context, situation, instruments)
        used += instruments.used
        if draft is None:
            return {"outcome": Outcome.STOPPED.value}
        record = new_attempt(
            attempt,
            draft.candidate,
            notes=draft.summary,
            chunk_ids=draft.chunk_ids,
            diagnosis=dataclasses.asdict(situation.diagnosis),
        )
        record = dataclasses.replace(record, duplicate_of=_duplicate(state, context, record, stored))
        context.add_attempt(state["session_id"], record, draft)
    else:
        record = stored[attempt - 1]
    if record.candidate is None:
        has_written = any(item.candidate is not None and not item.duplicate_of for item in stored)
        return {"outcome": (Outcome.FAILED if has_written else Outcome.EXHAUSTED).value}
    return {"used": used}


async def lint_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Turn findings that forbid an evaluation into one that says so, at no cost."""
    context = runtime.context
    record = _current(state, context)
    if record.candidate is None or record.evaluation is not None or record.duplicate_of:
        return {}
    candidate = record.candidate
    findings = tuple(await in_thread(lambda: context.lint(candidate)))
    if findings:
        context.set_attempt_evaluation(state["session_id"], state["attempt"], context.refused(candidate, findings))
    return {}


async def evaluate_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Measure the candidate, unless it is a duplicate or was measured already, and decide whether the session goes on."""
    context = runtime.context
    record = _current(state, context)
    used = state["used"]
    evaluation = record.evaluation
    if record.candidate is not None and not record.duplicate_of:
        if evaluation is None:
            evaluation = await context.evaluate(record.candidate, record.source_hash, "search")
            if evaluation is None:
                return {"outcome": Outcome.STOPPED.value}
            context.set_attempt_evaluation(state["session_id"], state["attempt"], evaluation)
            used += 1
        elif evaluation.status is not Status.LINT_ERROR:
            used += 1  # made, stored and told before the run was interrupted
        assert evaluation is not None
        if UNMEASURABLE in evaluation.labels:
            return {"used": used, "outcome": Outcome.FAILED.value}
    attempts, limits = context.attempts(state["session_id"]), context.config.limits
    correct = next((item.attempt for item in attempts if item.has_passed), None)
    last = limits.attempts if correct is None else correct + limits.polish
    if used >= state["allotment"] or state["attempt"] >= last:
        if correct is not None:
            return {"used": used, "outcome": Outcome.PASSED.value}
        has_written = any(not item.duplicate_of for item in attempts)
        return {"used": used, "outcome": (Outcome.FAILED if has_written else Outcome.REPEATED).value}
    return {"used": used}


# --- what a step needs to know -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Situation:
    parents: tuple[Attempt, ...]
    history: History
    remembered: tuple[Attempt, ...]
    diagnosis: Diagnosis


def _situation(state: SessionState, context: RunContext, attempt: int) -> _Situation:
    """Return what attempt number `attempt` knows; worked out once per process, as three steps ask for it."""
    key = (state["session_id"], attempt)
    if key not in context.situations:
        while len(context.situations) >= _MAX_SITUATIONS:
            context.situations.pop(next(iter(context.situations)))
        context.situations[key] = _work_out(state, context, attempt)
    return context.situations[key]  # type: ignore[no-any-return]  # only this function fills it


def _own(state: SessionState, context: RunContext, attempt: int) -> tuple[Attempt, ...]:
    """Return the session's attempts before this one."""
    earlier = context.attempts(state["session_id"])
    return tuple(_to_attempt(state, context, item, earlier) for item in earlier[: attempt - 1] if item.candidate is not None)


def _parents(state: SessionState, context: RunContext, attempt: int) -> tuple[Attempt, ...]:
    """Return what an attempt builds on: the session's parents, then its own best correct attempt, then its own latest."""
    by_id = {node.node_id: node for node in context.nodes_by_id(state["parents"])}
    own = _own(state, context, attempt)
    best = max(
        (item for item in own[:-1] if item.evaluation.status is Status.PASSED), key=lambda item: item.evaluation.fitness, default=None
    )
    return tuple(by_id[node_id].to_attempt() for node_id in state["parents"]) + ((best,) if best else ()) + own[-1:]


def _work_out(state: SessionState, context: RunContext, attempt: int) -> _Situation:
    """Work out what attempt number `attempt` knows, from the store alone."""
    store, run_id = context.store, context.run_id
    own, parents = _own(state, context, attempt), _parents(state, context, attempt)
    nodes = remember(context, state["parents"], Memory(state["memory"]), state["known"])
    remembered = tuple(node.to_attempt() for node in nodes) + own[:-1]
    ancestors = frozenset(store.ancestors(run_id, state["parents"])) if state["parents"] else frozenset()
    diagnosis = diagnose(
        context.problem, context.target, parents, remembered, profiled=known_profile(context, parents), ancestors=ancestors
    )
    advice = [f"A person advises: {note}" for note in state.get("notes", [])]
    if parents and parents[-1].evaluation.status is not Status.PASSED:
        advice += [_advice(item) for item in store.repairs(run_id, parents[-1].evaluation, known=state["known"])]
    return _Situation(
        parents=parents,
        history=History(context, state["known"], own),
        remembered=remembered,
        diagnosis=dataclasses.replace(diagnosis, summary="\n".join([diagnosis.summary, *advice])),
    )


def _advice(repair: Repair) -> str:
    """Say how the same kind of failure was mended before."""
    before, after = repair.broken.candidate.source.splitlines(), repair.fixed.candidate.source.splitlines()
    changed = [line for line in difflib.unified_diff(before, after, lineterm="", n=0) if not line.startswith(("---", "+++"))]
    what = repair.fixed.notes or f"candidate {repair.fixed.candidate.candidate_id}"
    return "\n".join([f"The same failure was mended before, in run {repair.run_id}: {what}", *changed[:_MAX_REPAIR_LINES]])


def _to_attempt(state: SessionState, context: RunContext, record: AttemptRecord, attempts: list[AttemptRecord]) -> Attempt:
    assert record.candidate is not None
    evaluation, notes = record.evaluation, record.notes
    if record.duplicate_of:
        nodes = context.store.nodes_by_id(context.run_id, [record.duplicate_of])
        own = (item for item in attempts if node_id_of(context.run_id, state["session_id"], item.attempt) == record.duplicate_of)
        evaluation = nodes[0].evaluation if nodes else next(own).evaluation
        notes = f"{notes} {REPEATS}".strip()
    assert evaluation is not None, "an earlier attempt of a session was evaluated before the next one began"
    return Attempt(record.candidate, evaluation, notes, node_id_of(context.run_id, state["session_id"], record.attempt))


def _current(state: SessionState, context: RunContext) -> AttemptRecord:
    return context.attempts(state["session_id"])[state["attempt"] - 1]


def _is_seed(state: SessionState) -> bool:
    return bool(state["seed_id"]) and state["attempt"] == 1


def _duplicate(state: SessionState, context: RunContext, record: AttemptRecord, earlier: list[AttemptRecord]) -> str:
    if record.candidate is None:
        return ""
    known = context.store.node_with_source(context.run_id, record.source_hash, until=state["known"])
    if known is not None:
        return known
    for item in earlier:
        if item.source_hash == record.source_hash:
            return item.duplicate_of or node_id_of(context.run_id, state["session_id"], item.attempt)
    return ""


async def _ask(context: RunContext, diagnosis: Diagnosis, state: SessionState) -> Any:  # Any: kb.deep_search.Brief, imported for types only
    """Return the brief that answers the diagnosis, and what the deep search model asks on; once per process, plan item and set of questions."""
    base = context.base
    if base is None or not diagnosis.questions or not context.config.deep_search:
        return None
    key = (state.get("directive", ""), *diagnosis.questions)
    if key not in context.briefs:
        from kb.deep_search import DeepSearch
        from kb.types import Filters

        while len(context.briefs) >= _MAX_BRIEFS:
            context.briefs.pop(next(iter(context.briefs)))
        brief = await asked_brief(context, diagnosis.questions)
        if context.advisers is not None and context.advisers.has("deep_search"):
            about = {"run_id": context.run_id, "session_id": state["session_id"], "attempt": state["attempt"]}
            told = {
                "Problem": context.problem.source,
                "Plan": state.get("directive", ""),
                "Diagnosis": "" if diagnosis.bottleneck == "none_yet" else f"{diagnosis.bottleneck}: {diagnosis.summary}",
                "Asked already": "\n".join(f"- {question}" for question in diagnosis.questions),
            }
            further = await context.advisers.further_questions(brief, context.target, context.meter, told, **about)
            more = await asyncio.gather(
                *(in_thread(lambda text=text: DeepSearch(base).ask(text, Filters(target=context.target))) for text in further)  # type: ignore[misc]  # the default binds the text
            )
            brief = joined(brief, more)
        context.briefs[key] = await in_thread(lambda: opened(base, brief, context.target))
    return context.briefs[key]


async def asked_brief(context: RunContext, questions: tuple[str, ...]) -> Any:  # Any: kb.deep_search.Brief
    """Return what the knowledge base answers to some questions, as passages; once per process and set of questions. The run has a base."""
    from kb.deep_search import DeepSearch
    from kb.types import Filters

    base, key = context.base, ("passages", *questions)
    assert base is not None
    if key not in context.briefs:
        # One by one: a question that the base cannot answer must not silence the others.
        answers = [
            await in_thread(lambda text=text: DeepSearch(base).ask(text, Filters(target=context.target)))  # type: ignore[misc]  # the default binds the text
            for text in questions
        ]
        context.briefs[key] = interleaved(answers)
    return context.briefs[key]


async def _draft(state: SessionState, context: RunContext, situation: _Situation, instruments: RunInstruments) -> Draft | None:
    """Ask the coder, or take the earlier winner that this session starts from. None: the time ended first."""
    if _is_seed(state):
        start = context.winners[state["seed_id"]]
        winner = start.winner
        provenance = {**winner.provenance, "winner_id": state["seed_id"], "winner_of_run": winner.run_id}
        return Draft(
            candidate=Candidate(
                source=winner.source, language=winner.language, build_options=provenance.get("build_options", {}), provenance=provenance
            ),
            summary=str(winner.provenance.get("summary") or f"winner of run {winner.run_id} for {winner.problem_id}"),
            chunk_ids=start.chunk_ids,
        )
    left = context.left()
    attempt = state["attempt"]
    task = CoderTask(
        problem=context.problem,
        target=context.target,
        base=context.base,
        parents=situation.parents,
        history=situation.history,
        remembered=situation.remembered,
        memory=Memory(state["memory"]),
        directive=state.get("directive", ""),
        diagnosis=situation.diagnosis,
        brief=await _ask(context, situation.diagnosis, state),
        winners=tuple(context.winners[winner_id].winner for winner_id in state["winner_ids"]),
        seed=derived_seed(context.config.seed, state["session_id"], attempt),
        attempt=attempt,
        sibling=state["sibling"],
        budget_left=left,
        limits=context.config.limits,
        instruments=instruments,
        meter=context.meter,
        run_id=context.run_id,
        session_id=state["session_id"],
    )
    try:
        return await asyncio.wait_for(context.coder.write(task), timeout=left.seconds)
    except TimeoutError:
        logger.info("the run's time ended while session %s was writing", state["session_id"])
        return None
