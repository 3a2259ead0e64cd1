"""Kills and crowds: does a knowledge base survive SIGKILL at any point, and several processes at once?

Each kill case is a base of its own: a folder is ingested, then an operation (ingestion of the changed folder, removal, change of the embedder) is killed at a
fault point or after a random delay. Then `check` must find the base consistent, or `check --repair` (every second time: running the operation again, without any
repair) must mend it; the operation run again must complete, and the base must equal one that was never disturbed: no chunk lost, none doubled, nothing of what was removed found in any leg.

    python -m evaluation.faults --kills 100 --processes 4 --seconds 300 --out evaluation/results/kb-faults

Children are forked from a process that has everything imported. Fault points are counted: every SQL statement, every commit, every write to the vector index (before
and after), every call of the embedder.
"""
