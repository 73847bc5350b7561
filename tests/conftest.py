"""What every test shares: an environment without our settings, and skips that are failures where asked."""

import os
from collections.abc import Generator

import pytest
import structlog

from daemon.config import NAMES, PLATFORM_NAMES

REQUIRE_ALL = os.environ.get("NKS_REQUIRE_ALL") == "1"
"""Set where everything the tests can use has been installed: then nothing may be skipped."""

for _name in (*NAMES, *PLATFORM_NAMES):
    os.environ.pop(_name, None)


# What tests log is read only when one fails. Drawn for a terminal, as it is by default, it costs a sixth of the time.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)


@pytest.fixture(autouse=True)
def without_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test, and no process it starts, sees settings of the machine or of an earlier test."""
    for name in (*NAMES, *PLATFORM_NAMES):
        monkeypatch.delenv(name, raising=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores: tests wait for processes and sockets about as long as they compute."""
    return (os.cpu_count() or 1) + 2


def _refuse_skip(report: pytest.CollectReport | pytest.TestReport) -> None:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although NKS_REQUIRE_ALL=1: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where everything is required."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that skip themselves."""
    report = yield
    _refuse_skip(report)
    return report
