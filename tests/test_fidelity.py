"""The sandbox answers in the shapes that the real Notion was recorded with."""

from pathlib import Path

import pytest

from daemon.demo import fidelity

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


def test_no_shape_differs_without_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Every path and type in the recordings of both versions is the sandbox's, or stands in the list with a reason.

    The recordings lie beside the project, not in it: where they are not, the comparison says how it is used.
    """
    code = fidelity.main([str(RECORDINGS)])
    said = capsys.readouterr()
    if RECORDINGS.is_dir():
        assert code == 0 and said.out.count(" 0 differences") == 2
    else:
        assert code == 2 and "usage" in said.err
