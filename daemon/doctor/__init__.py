"""`doctor`: everything that can be in a daemon's way, in plain words, each with the next step."""

from daemon.doctor.checks import Doctor
from daemon.doctor.findings import Finding, Level, conclusion, exit_code

__all__ = ["Doctor", "Finding", "Level", "conclusion", "exit_code"]
