"""What profilers say about a kernel, in one record: importers, collectors, merging, rules. Never used as the score."""
