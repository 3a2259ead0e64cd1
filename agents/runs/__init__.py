"""Where runs live: the store of runs, nodes, attempts and events, the lease that lets one process drive a run, and the artifacts."""
