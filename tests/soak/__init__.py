"""A longer campaign over real processes: `python -m tests.soak`."""
