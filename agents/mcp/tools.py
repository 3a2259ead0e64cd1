"""The tools of the server, as plain async functions over a `Laboratory`. Their docstrings are read by models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context

from agents.config import RunConfig
from agents.mcp import runs
from agents.mcp.errors import CallError, told
from agents.mcp.jobs import Report
from agents.mcp.laboratory import Laboratory
from agents.mcp.limits import DEFAULT_WAIT_S, fits, taken
from agents.threads import in_thread
from agents.types import Budget, Limits

if TYPE_CHECKING:
    from mcp.server import MCPServer

Answer = dict[str, Any]  # Any: JSON


def add_tools(server: MCPServer[Any], laboratory: Laboratory) -> None:
    """Register every tool."""
    from kb.server.mcp import add_knowledge_tools

    add_knowledge_tools(server, lambda: laboratory.base())
    for tool in (*_kernel_tools(laboratory), *_run_tools(laboratory)):
        server.add_tool(told(tool))


def _kernel_tools(laboratory: Laboratory) -> list[Any]:  # Any: async functions of different signatures
    async def list_targets() -> Answer:
        """List the targets: exact name, family, and which evidence this machine can give (measured, compiled or simulated)."""

        def collect() -> Answer:
            from tools.targets.registry import get_target, known_targets

            infos = [get_target(name).describe() for name in known_targets()]
            return {
                "targets": [
                    {"name": item.name, "family": item.family, "evidence": item.evidence.value, "summary": item.summary} for item in infos
                ]
            }

        return _fitting(await in_thread(collect))

    async def get_target_limits(target: str) -> Answer:
        """Return the limits of a target's chip: each number with unit, source and trust."""

        def collect() -> Answer:
            import dataclasses

            from tools.targets.registry import get_target

            chip = get_target(taken("target", target, 100))
            return {"target": chip.describe().name, "limits": {name: dataclasses.asdict(limit) for name, limit in chip.limits().items()}}

        return await in_thread(collect)  # numbers with their sources: a few kilobytes, never cut

    async def lint(source: str, target: str, language: str = "") -> Answer:
        """Check a candidate by static rules, at no cost. Do this before evaluate or submit: findings of severity error are refused there.

        Args:
            source: The whole Python file with class ModelNew.
            target: Exact target, see list_targets.
            language: triton, cpp or torch; empty: from the imports.
        """
        candidate = laboratory.candidate(source, language)

        def check() -> Answer:
            import dataclasses

            from agents.workbench import lint_errors
            from tools.targets.registry import get_target

            chip = get_target(target)
            refused = lint_errors(chip, candidate)
            findings = [dataclasses.asdict(finding) for finding in chip.lint(candidate)]
            return {
                "candidate_id": candidate.candidate_id,
                "language": candidate.language,
                "is_refused": bool(refused),
                "refused_for": list(refused),
                "findings": findings,
            }

        return _fitting(await in_thread(check))

    async def compile(source: str, target: str, problem: str = "", problem_source: str = "", language: str = "") -> Answer:
        """Compile a candidate for a target without running it: errors, and registers, shared memory, spills and occupancy of each kernel.

        Works for targets that this machine does not have. Takes seconds.

        Args:
            source: The whole Python file with class ModelNew.
            target: Exact target, see list_targets.
            problem: examples/NAME or kernelbench:LEVEL/NUMBER; gives the inputs that kernels are specialised for.
            problem_source: The text of a problem file, instead of `problem`.
            language: triton, cpp or torch; empty: from the imports.
        """
        candidate = laboratory.candidate(source, language)
        given = laboratory.problem(problem, problem_source)

        def build() -> Answer:
            import dataclasses

            from tools.targets.registry import get_target

            report = get_target(target).compile(candidate, given, timeout_s=120.0, cache=laboratory.home / "cache" / "compile")
            told_of = dataclasses.asdict(report)
            told_of.pop("launches")
            return told_of

        async with laboratory.compilers:
            return _fitting(await in_thread(build))

    async def evaluate(
        source: str,
        ctx: Context[Any, Any],
        problem: str = "",
        problem_source: str = "",
        target: str = "cpu",
        effort: str = "quick",
        language: str = "",
        timeout_s: float | None = None,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> Answer:
        """Check a candidate against the problem's reference and time it: status, reason, latency_ms, speedup over eager and compiled PyTorch, feedback.

        Evaluations take turns. What is not done within wait_s goes on as a job: call `job` with the job_id. Only status `passed` counts as a success.

        Args:
            source: The whole Python file with class ModelNew.
            problem: examples/NAME or kernelbench:LEVEL/NUMBER.
            problem_source: The text of a problem file, instead of `problem`.
            target: Exact target that this machine can measure, see list_targets.
            effort: quick, or full for a number to publish.
            language: triton, cpp or torch; empty: from the imports.
            timeout_s: Limit on compiling and on running, each, in seconds; empty: the effort's own.
            wait_s: Longest that this call waits, in seconds; at most 300.
        """
        candidate = laboratory.candidate(source, language)
        given = laboratory.problem(problem, problem_source)

        def resolve() -> str:
            from tools.targets.registry import get_target

            return get_target(target).describe().name

        job = laboratory.start_evaluation(candidate, given, await in_thread(resolve), effort, timeout_s)
        return _fitting(await laboratory.jobs.wait(job, wait_s, _report(ctx)))

    async def job(job_id: str, ctx: Context[Any, Any], wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """Wait for a job that evaluate started and return its outcome, or its phase if it is still running after wait_s seconds."""
        return _fitting(await laboratory.jobs.wait(laboratory.jobs.get(job_id), wait_s, _report(ctx)))

    return [list_targets, get_target_limits, lint, compile, evaluate, job]


def _run_tools(laboratory: Laboratory) -> list[Any]:  # Any: async functions of different signatures
    async def start_run(
        problem: str = "",
        problem_source: str = "",
        target: str = "cpu",
        strategy: str = "greedy",
        budget_evaluations: int = 12,
        budget_seconds: float | None = None,
        attempts: int = 3,
        seed: int = 0,
        use_knowledge: bool = True,
    ) -> Answer:
        """Begin a search in which you write the candidates: the search plans, remembers, lints, evaluates and keeps the best.

        Then loop: next_node gives a prompt and a ticket, you write kernel.py, submit takes it and tells the verdict; until the state is `finished`.

        Args:
            problem: examples/NAME or kernelbench:LEVEL/NUMBER.
            problem_source: The text of a problem file, instead of `problem`.
            target: Exact target that this machine can measure, see list_targets.
            strategy: one_shot, linear, greedy, mcts or evolutionary.
            budget_evaluations: Most evaluations, re-measurements of finalists included.
            budget_seconds: Most seconds of wall time, your thinking included; empty: no limit.
            attempts: Most candidates until one passes, for each node that is expanded.
            seed: Equal seeds make equal decisions on equal measurements.
            use_knowledge: False: no knowledge base, nothing written back.
        """
        given = laboratory.problem(problem, problem_source)
        if not 1 <= budget_evaluations <= 1000 or not 1 <= attempts <= 20:
            raise CallError(f"budget_evaluations must be 1 to 1000 and attempts 1 to 20, got {budget_evaluations} and {attempts}")
        try:
            budget = Budget(budget_evaluations, budget_seconds)
        except ValueError as error:
            raise CallError(str(error)) from error
        config = RunConfig(
            strategy=strategy, coder="outside", seed=seed, budget=budget, limits=Limits(attempts=attempts), use_knowledge=use_knowledge
        )

        def resolve() -> str:
            from agents.workbench import resolve_target

            return resolve_target(target)

        drive = await laboratory.start_run(given, await in_thread(resolve), config)
        return {"run_id": drive.coder.run_id, "problem_id": given.problem_id, "state": "started", "next": "call next_node with this run_id"}

    async def resume_run(run_id: str) -> Answer:
        """Take over an open run that start_run began, after the server was restarted. Nothing measured is measured again."""
        drive = await laboratory.resume_run(taken("run_id", run_id, 100))
        return {"run_id": drive.coder.run_id, "state": "started", "next": "call next_node with this run_id"}

    async def next_node(run_id: str, ctx: Context[Any, Any], wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """Return what the search wants next: a prompt (problem, parents with verdicts, diagnosis, cited knowledge) and a ticket_id for submit.

        State `busy`: the search is still working, call again. State `finished`: the result is in the answer.
        """
        return _fitting(await runs.next_node(laboratory, run_id, wait_s, _report(ctx)))

    async def submit(
        run_id: str,
        ticket_id: str,
        source: str,
        summary: str,
        ctx: Context[Any, Any],
        chunk_ids: list[str] | None = None,
        language: str = "",
        wait_s: float = DEFAULT_WAIT_S,
    ) -> Answer:
        """Hand in the candidate for a ticket and wait for the verdict: it is linted, checked, timed and recorded as a node of the run.

        Args:
            run_id: The run.
            ticket_id: From next_node.
            source: The whole kernel.py with class ModelNew.
            summary: One or two sentences: what you changed and why. Later sessions read it.
            chunk_ids: Chunks of the knowledge base that you used; they are credited.
            language: triton, cpp or torch; empty: from the imports.
            wait_s: Longest that this call waits, in seconds; at most 300.
        """
        drive = laboratory.drive(run_id)
        candidate = laboratory.candidate(source, language)
        since = len(drive.events)
        cited = tuple(str(item)[:200] for item in (chunk_ids or [])[:40])
        ticket = drive.coder.submit(ticket_id, candidate, taken("summary", summary, 2000), cited)
        return _fitting(await runs.outcome_of(laboratory, drive, ticket, candidate.candidate_id, since, wait_s, _report(ctx)))

    async def finish_run(run_id: str, ctx: Context[Any, Any], wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """End a run early: the best candidates are measured again at full effort and the winner is published. Returns the result once it is there."""
        drive = laboratory.drive(run_id)
        await drive.coder.close()
        return _fitting(await runs.next_node(laboratory, run_id, wait_s, _report(ctx)))

    async def read_run(run_id: str) -> Answer:
        """Read any run of this home, yours or not: problem, status, nodes with verdicts and fitness, result. For a node's source call read_node."""
        return _fitting(await in_thread(lambda: runs.read_run(laboratory.store, taken("run_id", run_id, 100))))

    async def read_node(node_id: str) -> Answer:
        """Read a node of a run: source, verdict with feedback, diagnosis, parents."""
        return _fitting(await in_thread(lambda: runs.read_node(laboratory.store, taken("node_id", node_id, 100))))

    async def list_runs(limit: int = 20) -> Answer:
        """List the latest runs of this home."""
        if not 1 <= limit <= 50:
            raise CallError(f"limit must be from 1 to 50, got {limit}")

        def collect() -> Answer:
            records = laboratory.store.runs(limit)
            return {
                "runs": [
                    {
                        "run_id": item.run_id,
                        "status": "running" if item.is_driven else item.status.value,
                        "problem_id": item.problem.problem_id,
                        "target": item.target,
                        "coder": item.coder,
                        "best_fitness": (item.result.get("best") or {}).get("fitness") if item.result else None,
                    }
                    for item in records
                ]
            }

        return _fitting(await in_thread(collect))

    return [start_run, resume_run, next_node, submit, finish_run, read_run, read_node, list_runs]


def _report(ctx: Context[Any, Any]) -> Report:
    async def report(seconds: float, phase: str) -> None:
        await ctx.report_progress(seconds, None, phase)

    return report


def _fitting(answer: Answer) -> Answer:
    cut: Answer = fits(answer)
    return cut
