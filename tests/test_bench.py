"""The benchmarks run and print every figure; the figures themselves are for a quiet machine."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMED = ("CPU", "memory", "scrape", "latency", "time of that sync", "with 120 images")
"""Words in the names of figures that depend on the machine."""


def test_every_figure_is_printed() -> None:
    """A quick run measures each figure; those that are counts are met on any machine."""
    command = [sys.executable, "-m", "bench", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)
    assert len(figures) == 20, [figure["name"] for figure in figures]
    counted = [f for f in figures if f["met"] is not None and not any(word in f["name"] for word in TIMED)]
    assert len(counted) == 8 and [f for f in counted if not f["met"]] == []
