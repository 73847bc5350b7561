"""Who may start work and see content: whoever sends CRON_SECRET, in one of the three ways that callers have."""

import hmac
from collections.abc import Awaitable, Callable
from enum import Enum

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from daemon.env import SecretStr
from daemon.web.answers import error_answer


class Access(Enum):
    """What a request's credentials are worth."""

    GRANTED = "granted"
    NONE_GIVEN = "none given"
    WRONG = "wrong"
    NOT_CONFIGURED = "not configured"
    """Credentials were given, but there is no secret that could match: nothing is open without one."""


def given_secrets(request: HTTPConnection) -> list[bytes]:
    """What the request offers: `Authorization: Bearer`, `x-sync-secret`, `?secret=`; empty ones do not count.

    All of them, because a proxy in between may use `Authorization` for itself.
    """
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    headers = [bearer if scheme.lower() == "bearer" else "", request.headers.get("x-sync-secret", "")]
    # Header texts are bytes read as Latin-1, parameters are UTF-8.
    offered = [text.strip().encode("latin-1") for text in headers]
    offered += [text.encode("utf-8", "surrogatepass") for text in request.query_params.getlist("secret")]
    return [secret for secret in offered if secret]


def access(request: HTTPConnection, cron_secret: SecretStr | None) -> Access:
    """Compare what the request offers with the secret, in constant time."""
    given = given_secrets(request)
    if not given:
        return Access.NONE_GIVEN
    if cron_secret is None or not cron_secret.get_secret_value():
        return Access.NOT_CONFIGURED
    secret = cron_secret.get_secret_value().encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(offered, secret) for offered in given]
    return Access.GRANTED if any(matches) else Access.WRONG


def is_authorised(request: HTTPConnection, cron_secret: SecretStr | None) -> bool:
    """Whether the request carries the secret; never when none is configured."""
    return access(request, cron_secret) is Access.GRANTED


def refusal(found: Access, cron_secret: SecretStr | None) -> Response:
    """The answer to a request that needs the secret and does not carry it."""
    if found is Access.NOT_CONFIGURED or cron_secret is None:
        return error_answer(503, "not_configured", "Set CRON_SECRET and send it to use this address.")
    message = {
        Access.WRONG: "The secret is not the one in CRON_SECRET.",
        Access.NONE_GIVEN: "Send CRON_SECRET as a bearer token, as x-sync-secret, or as ?secret=.",
    }[found]
    return error_answer(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def protected(
    answer: Callable[[Request], Awaitable[Response]], cron_secret: SecretStr | None
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers only who gives the secret: without one configured 503, without one given 401."""

    async def guarded(request: Request) -> Response:
        found = access(request, cron_secret)
        return await answer(request) if found is Access.GRANTED else refusal(found, cron_secret)

    return guarded
