"""A client of `kevolve mcp` without the SDK: search, lint, evaluate, submit to a run, read the result, as plain JSON-RPC over HTTP with the real evaluator.

`python -m evaluation.mcp_client` starts a server of its own on a free port, makes each call and prints what came back; exit code 0 if the run has a winner that passed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROBLEM = "examples/swiglu"
_ROWS = """
extern "C" void run(const float* x, float* out, int64_t rows, int64_t columns) {
  #pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float* gate = x + row * 2 * columns;
    const float* up = gate + columns;
    float* to = out + row * columns;
    #pragma omp simd
    for (int64_t c = 0; c < columns; ++c) to[c] = gate[c] / (1.0f + kexp(-gate[c])) * up[c];
  }
}
"""
_MODULE = """

class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        columns = x.shape[-1] // 2
        out = torch.empty(*x.shape[:-1], columns, dtype=x.dtype)
        _run(x.data_ptr(), out.data_ptr(), out.numel() // columns, columns)
        return out
"""


def candidate() -> str:
    """Return a kernel for the problem: the frame that coders are given, with another kernel in it."""
    frame = (ROOT / "agents" / "prompts" / "skeleton_cpp.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("\n```")[0]
    head = frame.partition("\n\nclass ModelNew")[0]
    return re.sub(r'extern "C".*?\n}\n', lambda _: _ROWS.strip() + "\n", head, flags=re.DOTALL) + "\n" + _MODULE


class Client:
    """Speaks JSON-RPC to one MCP endpoint."""

    def __init__(self, address: str, token: str) -> None:
        import httpx

        self._address = address
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        self._http = httpx.Client(headers=headers, timeout=400)
        self._ids = itertools.count(1)
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
        self.server = self.ask("initialize", about)
        self._http.headers["MCP-Protocol-Version"] = str(self.server["protocolVersion"])
        self._http.post(address, json={"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, method: str, params: dict[str, Any]) -> Any:  # Any: JSON
        """Send a request and return its result; notifications on the way are passed over."""
        number = next(self._ids)
        answer = self._http.post(self._address, json={"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer.raise_for_status()
        if session := answer.headers.get("mcp-session-id"):
            self._http.headers["Mcp-Session-Id"] = session
        lines = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")] or [answer.text]
        for line in lines:
            message = json.loads(line) if line else {}
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
        raise RuntimeError(f"{method} was not answered: {answer.text[:500]}")

    def call(self, tool: str, **arguments: Any) -> Any:  # Any: JSON
        """Call a tool and return its answer."""
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        text = result["content"][0]["text"]
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {text}")
        return result.get("structuredContent") or text


def session(client: Client, problem: str = PROBLEM) -> dict[str, Any]:  # Any: JSON
    """Go the whole way and return what each step said."""
    source = candidate()
    told: dict[str, Any] = {"server": client.server["serverInfo"], "tools": len(client.ask("tools/list", {})["tools"])}  # Any: JSON
    told["search"] = str(client.call("kb_search", query="vectorised silu on a CPU, memory bound", target="cpu", top_k=3))[:400]
    told["lint"] = client.call("lint", source=source, target="cpu")
    verdict = client.call("evaluate", source=source, problem=problem, target="cpu", wait_s=5)
    while verdict["job"] == "running":
        verdict = client.call("job", job_id=verdict["job_id"], wait_s=120)
    told["evaluate"] = {key: verdict.get(key) for key in ("status", "reason", "latency_ms", "speedup", "fitness", "composition")}
    run_id = client.call("start_run", problem=problem, target="cpu", budget_evaluations=3)["run_id"]
    answer = client.call("next_node", run_id=run_id)
    while answer["state"] == "busy":
        answer = client.call("next_node", run_id=run_id)
    told["submit"] = client.call(
        "submit",
        run_id=run_id,
        ticket_id=answer["ticket_id"],
        source=source,
        summary="One fused pass over both halves, rows over the cores",
        wait_s=300,
    )
    answer = client.call("finish_run", run_id=run_id)
    while answer["state"] != "finished":
        answer = client.call("next_node", run_id=run_id, wait_s=120)
    told["read_run"] = client.call("read_run", run_id=run_id)
    return told


def main() -> None:
    """Entry point of `python -m evaluation.mcp_client`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="kevolve-mcp-"))
    command = [sys.executable, "-m", "agents.cli", "mcp", "--transport", "http", "--port", "0", "--home", str(home)]
    home.mkdir(parents=True, exist_ok=True)
    log = home / "mcp.log"
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, stderr=out) as server:
        try:
            while not (found := re.search(r"http://\S+/mcp", log.read_text(errors="replace"))):
                if server.poll() is not None:
                    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            told = session(Client(found[0], (home / "mcp-token").read_text().strip()))
        finally:
            server.terminate()
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    best = (told["read_run"]["result"] or {}).get("best")
    sys.exit(0 if best and best["status"] == "passed" else 1)


if __name__ == "__main__":
    main()
