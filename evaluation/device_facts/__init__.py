"""Figures of one accelerator, measured: levels of memory, matrix rates, overheads, and what common advice is worth. Start at `python -m evaluation.device_facts`."""
