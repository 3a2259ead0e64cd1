"""Records to rows and back: what stands in the tables of the run store, as the values that the rest of the code knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from agents.runs.artifacts import Artifacts
from agents.runs.hashing import error_signature, normalised_hash
from agents.runs.records import AttemptRecord, NodeRecord, Outcome, RunRecord, RunStatus, SessionRecord
from agents.strategies.places import parents_key
from agents.types import Memory
from tools.types import Candidate, Evaluation, Problem

Columns = dict[str, Any]
"""Column values by name. Any, here and in `Row[Any]`: they have many types"""


def new_attempt(
    attempt: int,
    candidate: Candidate | None,
    *,
    notes: str,
    chunk_ids: Sequence[str] = (),
    diagnosis: Mapping[str, Any] | None = None,  # Any: JSON
    duplicate_of: str = "",
) -> AttemptRecord:
    """Build the record of a fresh draft; its hash is worked out here."""
    return AttemptRecord(
        attempt=attempt,
        candidate=candidate,
        source_hash=normalised_hash(candidate) if candidate else "",
        artifact="",
        notes=notes,
        chunk_ids=tuple(chunk_ids),
        diagnosis=dict(diagnosis or {}),
        duplicate_of=duplicate_of,
    )


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:  # Any: JSON
    """Return what is stored of a candidate beside its source."""
    return {
        "language": candidate.language,
        "build_options": dict(candidate.build_options),
        "provenance": dict(candidate.provenance),
    }


def session_columns(run_id: str, item: SessionRecord) -> Columns:
    """Return a session as column values."""
    return {
        "run_id": run_id,
        "session_id": item.session_id,
        "round": item.round,
        "sibling": item.sibling,
        "parents": list(item.parents),
        "memory": item.memory.value,
        "algorithm": dict(item.algorithm),
        "outcome": item.outcome.value,
        "parents_key": parents_key(item.parents),
    }


def session_record(row: Row[Any]) -> SessionRecord:
    """Return a session as stored."""
    return SessionRecord(
        session_id=row.session_id,
        round=row.round,
        sibling=row.sibling,
        parents=tuple(row.parents),
        memory=Memory(row.memory),
        algorithm=row.algorithm,
        outcome=Outcome(row.outcome),
    )


def node_columns(run_id: str, node: NodeRecord, step: int) -> Columns:
    """Return a node as column values."""
    return {
        "run_id": run_id,
        "node_id": node.node_id,
        "step": step,
        "round": node.round,
        "session_id": node.session_id,
        "attempt": node.attempt,
        "parents": list(node.parents),
        "candidate_id": node.candidate.candidate_id,
        "source_hash": node.source_hash,
        "artifact": node.artifact,
        "candidate": candidate_to_json(node.candidate),
        "status": node.evaluation.status.value,
        "fitness": node.fitness,
        "evidence": node.evaluation.evidence.value,
        "evaluation": node.evaluation.to_json(),
        "notes": node.notes,
        "chunk_ids": list(node.chunk_ids),
        "diagnosis": dict(node.diagnosis),
        "algorithm": dict(node.algorithm),
        "features": dict(node.features),
        "error_signature": error_signature(node.evaluation),
    }


def node_record(row: Row[Any], artifacts: Artifacts) -> NodeRecord:
    """Return a node as stored, with its source."""
    return NodeRecord(
        node_id=row.node_id,
        step=row.step,
        round=row.round,
        session_id=row.session_id,
        attempt=row.attempt,
        parents=tuple(row.parents),
        candidate=Candidate(source=artifacts.read(row.artifact), **row.candidate),
        source_hash=row.source_hash,
        artifact=row.artifact,
        evaluation=Evaluation.from_json(row.evaluation),
        notes=row.notes,
        chunk_ids=tuple(row.chunk_ids),
        diagnosis=row.diagnosis,
        algorithm=row.algorithm,
        features=row.features,
    )


def attempt_record(row: Row[Any], artifacts: Artifacts) -> AttemptRecord:
    """Return a draft as stored, with its source."""
    return AttemptRecord(
        attempt=row.attempt,
        candidate=Candidate(source=artifacts.read(row.artifact), **row.candidate) if row.artifact else None,
        source_hash=row.source_hash or "",
        artifact=row.artifact or "",
        notes=row.draft["notes"],
        chunk_ids=tuple(row.draft["chunk_ids"]),
        diagnosis=row.diagnosis,
        evaluation=Evaluation.from_json(row.evaluation) if row.evaluation else None,
        duplicate_of=row.duplicate_of or "",
    )


def run_record(row: Row[Any], is_driven: bool) -> RunRecord:
    """Return a run as stored."""
    return RunRecord(
        run_id=row.run_id,
        created=row.created,
        status=RunStatus(row.status),
        problem=Problem(**row.problem),
        target=row.target,
        strategy=row.strategy,
        coder=row.coder,
        seed=row.seed,
        config=row.config,
        versions=row.versions,
        result=row.result,
        seconds=row.seconds,
        is_driven=is_driven,
    )
