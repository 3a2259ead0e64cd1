"""The processes of an evaluation: a warm process that forks the others, the trusted reference, and the candidate's own."""
