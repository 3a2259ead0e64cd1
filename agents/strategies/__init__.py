"""Which nodes to expand next, how many children, with which memory, and when to stop: search strategies behind one Protocol."""
