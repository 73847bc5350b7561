"""What the HTTP side is given of the daemon."""

from typing import Protocol

from daemon import status
from daemon.jobs import Jobs


class Parts(status.Parts, Protocol):
    """What the status is read from, and where work is asked for."""

    jobs: Jobs
