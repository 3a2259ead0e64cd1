"""`python -m tools.lint`: lint sources, or print the document of the rules."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from tools.errors import ToolsError
from tools.lint.document import rules_document
from tools.targets.registry import get_target
from tools.types import Candidate


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if there is no error, 1 if there is, 2 for misuse."""
    parser = argparse.ArgumentParser(prog="python -m tools.lint", description="Check kernel sources against the rules of a target.")
    parser.add_argument("paths", nargs="*", type=Path, help="Python sources")
    parser.add_argument("--target", default="cuda", help="for example cpu, cuda:sm_90, rocm:gfx942, mtia:2i")
    parser.add_argument("--json", action="store_true", help="print findings as JSON")
    parser.add_argument("--document", action="store_true", help="print the Markdown document of all rules and exit")
    options = parser.parse_args(arguments)
    if options.document:
        sys.stdout.write(rules_document())
        return 0
    try:
        target = get_target(options.target)
        found = {str(path): target.lint(Candidate(path.read_text(encoding="utf-8"))) for path in options.paths}
    except (ToolsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.json:
        sys.stdout.write(
            json.dumps({path: [dataclasses.asdict(finding) for finding in findings] for path, findings in found.items()}, indent=1) + "\n"
        )
    else:
        for path, findings in found.items():
            for finding in findings:
                sys.stdout.write(f"{path}: {finding.severity}: {finding}\n")
    return int(any(finding.severity == "error" for findings in found.values() for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
