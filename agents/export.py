"""Write the winner of a run as a folder that stands on its own: source, problem, receipt, result and a README."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.errors import OptionError, RunStateError
from agents.runs.records import RunRecord
from agents.runs.store import RunStore
from tools.targets.mtia_model import TIME_MODEL
from tools.types import Evidence

_README = """# {name}

Winner of run `{run_id}` for `{problem_id}` on `{target}`: candidate `{candidate_id}`, written in {language}.

| baseline | baseline ms | speedup | {interval} |
|---|---|---|---|
{rows}

{how} {target} ({evidence}{again}); precision class {precision}. Versions: {versions}.
The receipt (`receipt.json`, where there is one) holds the raw samples, seeds and hashes.

- `kernel.py` defines `ModelNew`, a drop-in for `Model` of `problem.py`: same constructor arguments, state dict and forward.
- Check it on your machine: `kevolve evaluate kernel.py --problem problem.py --target {target} --effort full`
{elsewhere}
"""
_UNTESTED = "- Outside the shapes and dtypes of `problem.py` it was not tested."
_GUARDED = (
    "- Its kernels stand in for the call of `problem.py` alone: inputs of another shape, dtype, layout or device, other optional inputs, wanted gradients, autocasting and models"
    " built or cast otherwise run the reference's own forward, which is in `kernel.py` too. Call it under `torch.no_grad()`."
)


def export_winner(store: RunStore, record: RunRecord, directory: Path) -> list[Path]:
    """Write the package and return its files.

    Raises:
        RunStateError: The run has no result, or no candidate passed.
        OptionError: The directory is not empty or cannot be written.
    """
    if record.result is None:
        raise RunStateError(f"run {record.run_id} is not finished; `kevolve resume {record.run_id}` continues it")
    best = record.result["best"]
    if best is None:
        raise RunStateError(
            f"run {record.run_id} ended without a candidate that passed, so there is nothing to export: {record.result['reason']}"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise OptionError(f"{directory} is not an empty directory; give a new one")
    node = next(node for node in store.nodes(record.run_id) if node.node_id == best["node_id"])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = {
            "kernel.py": node.candidate.source,
            "problem.py": record.problem.source,
            "result.json": json.dumps(dict(record.result), indent=2) + "\n",
            "README.md": _readme(record, best, node.candidate.provenance),
        }
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
        written = [directory / name for name in files]
        receipt = Path(best["receipt"]) if best["receipt"] else None
        if receipt is not None and receipt.is_file():
            written.append(Path(shutil.copyfile(receipt, directory / "receipt.json")))
    except OSError as error:
        raise OptionError(f"cannot write {directory}: {error.strerror}") from error
    return written


def _readme(record: RunRecord, best: dict[str, Any], provenance: Mapping[str, Any]) -> str:  # Any: JSON
    rows = [
        f"| {name} | {best['baselines_ms'].get(name, float('nan')):.4g} | {interval['value']:.2f} | {interval['low']:.2f} to {interval['high']:.2f} |"
        for name, interval in best["speedup"].items()
    ]
    is_modelled = best["evidence"] == Evidence.SIMULATED.value
    return _README.format(
        name=record.problem.name,
        run_id=record.run_id,
        problem_id=record.problem.problem_id,
        target=record.target,
        candidate_id=best["candidate_id"],
        language=best["language"],
        rows="\n".join(rows),
        interval="the model's interval" if is_modelled else "95 % interval",
        how=f"Nothing was measured: times are simulated by {TIME_MODEL} for" if is_modelled else "Measured on",
        evidence=best["evidence"],
        again=(", again at full effort in fresh processes" if best["is_remeasured"] else ", once during the search")
        if not is_modelled
        else "",
        precision=best["precision_class"] or "unknown",
        versions=", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
        elsewhere=_GUARDED if provenance.get("coder") == "library" and provenance.get("kernels") else _UNTESTED,
    )
