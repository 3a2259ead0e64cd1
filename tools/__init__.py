"""What can be done to a kernel: load a problem, lint, compile, check, time and profile a candidate on a target."""
