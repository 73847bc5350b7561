"""The figures the daemon has to reach, measured in one run: `python -m bench`."""
