"""Exploits with expected verdicts and honest controls, run through the real evaluator."""
