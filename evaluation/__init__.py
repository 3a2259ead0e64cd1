"""How we know that it works: suites, reports and the raw records behind every published number."""
