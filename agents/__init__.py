"""Who decides what to do next: the search graph, its steps, strategies, sub-agents and coders."""
