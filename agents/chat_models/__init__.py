"""Chat models by name, and the one way to ask them: with retries, limits, a ledger and a transcript."""
