"""What a candidate's process may do: environment, resource limits, file and system-call restrictions."""
