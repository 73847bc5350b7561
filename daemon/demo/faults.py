"""Failures on order: which of the next requests fail, and how."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from daemon.demo.errors import RATE_LIMIT_REASON, ApiError, rate_limited

_CODES = {
    400: ("validation_error", "The request was refused on order."),
    401: ("unauthorized", "API token is invalid."),
    403: ("restricted_resource", "Insufficient permissions for this endpoint."),
    404: ("object_not_found", "Could not find the object on order."),
    409: ("conflict_error", "Conflict occurred while saving. Please try again."),
    500: ("internal_server_error", "Unexpected error occurred."),
    502: ("bad_gateway", "Bad gateway."),
    503: ("service_unavailable", "Public API service is temporarily unavailable, please try again later."),
    504: ("gateway_timeout", "The request timed out on the server side."),
    529: ("service_overload", "Notion is overloaded, please try again later."),
}
_RETRY_GUIDANCE = "Reduce page_size, narrow the filter, or use filter_properties, then try again."


@dataclass
class Fault:
    """One order: which requests it concerns, how often, and what happens to them."""

    status: int = 500
    method: str | None = None
    path: str | None = None
    times: int = 1
    retry_after: int | None = None
    html: bool = False
    cut: bool = False
    reset: bool = False
    hang: bool = False
    after: int = 0
    applied: bool = False
    reason: str = RATE_LIMIT_REASON
    slow: bool = False
    redirect: str | None = None

    def concerns(self, method: str, path: str) -> bool:
        """Whether a request of this method and path (without `/v1`) is meant."""
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path is None or self.path in path or re.search(self.path, path) is not None

    def error(self) -> ApiError:
        """What to answer, for the orders that answer with an error."""
        if self.status == 429:
            return rate_limited(1 if self.retry_after is None else self.retry_after, self.reason)
        code, message = _CODES.get(self.status, ("internal_server_error", "Unexpected error occurred."))
        extra = {"retry_guidance": _RETRY_GUIDANCE} if self.status == 503 else None
        return ApiError(self.status, code, message, additional_data=extra, retry_after=self.retry_after)


class Faults:
    """The orders that are open. The first that concerns a request is used up by it."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []
        self._rate = 0.0
        self._kinds: tuple[Fault, ...] = ()
        self._random = Random(0)

    def add(  # noqa: PLR0913 - each names one way to fail, and most are left out
        self,
        status: int = 500,
        *,
        method: str | None = None,
        path: str | None = None,
        times: int = 1,
        retry_after: int | None = None,
        html: bool | None = None,
        cut: bool = False,
        reset: bool = False,
        hang: bool = False,
        after: int = 0,
        applied: bool = False,
        reason: str = RATE_LIMIT_REASON,
        slow: bool = False,
        redirect: str | None = None,
    ) -> None:
        """Let the next `times` requests of `method` whose path holds or matches `path` fail.

        Answered with `status` (502 as an HTML page unless `html=False`, the rest as JSON), or instead:
        `cut` sends half of the true answer and breaks off, `reset` resets the connection before any answer,
        `hang` never answers. `after`: so many such requests pass first. `applied`: a write is carried out
        before it is refused. `reason`: a 429's rate_limit_reason. Of files (`/files/…`) only: `slow` sends half
        and then nothing more, `redirect` sends the client elsewhere.
        """
        as_page = status == 502 if html is None else html
        self._orders.append(
            Fault(
                status=status,
                method=method,
                path=path,
                times=times,
                retry_after=retry_after,
                html=as_page,
                cut=cut,
                reset=reset,
                hang=hang,
                after=after,
                applied=applied,
                reason=reason,
                slow=slow,
                redirect=redirect,
            )
        )

    def random(self, rate: float, kinds: Sequence[int | str], seed: int = 0) -> None:
        """Let a share `rate` (0..1) of all requests fail, by a status, `cut`, `reset` or `hang`."""
        self._rate = rate
        self._random = Random(seed)
        self._kinds = tuple(_of_kind(kind) for kind in kinds)

    def clear(self) -> None:
        """Forget all orders, the random ones too."""
        self._orders.clear()
        self._rate = 0.0

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, used up by it; None when it may pass."""
        for order in self._orders:
            if not order.concerns(method, path):
                continue
            if order.after > 0:
                order.after -= 1
                continue
            order.times -= 1
            if order.times <= 0:
                self._orders.remove(order)
            return order
        if self._rate and self._kinds and self._random.random() < self._rate:
            return self._random.choice(self._kinds)
        return None


def _of_kind(kind: int | str) -> Fault:
    if kind in ("cut", "reset", "hang"):
        return Fault(cut=kind == "cut", reset=kind == "reset", hang=kind == "hang")
    return Fault(status=int(kind), html=int(kind) == 502)
