"""What the HTTP side is given of the daemon."""

from typing import Protocol

from daemon import status
from daemon.handshakes import Handshakes
from daemon.jobs import Jobs


class Parts(status.Parts, Protocol):
    """What the status is read from, where work is asked for, and where webhooks introduce themselves."""

    handshakes: Handshakes
    jobs: Jobs
