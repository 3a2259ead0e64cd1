"""Correctness: input draws, weight perturbation, comparison statistics and the decision on them."""
