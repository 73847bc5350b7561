"""The form of every JSON answer and error."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon import jsontext

_MESSAGES = {
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "The body is larger than 1 MB."),
}


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON; texts that UTF-8 cannot hold are escaped."""
    text = jsontext.dumps(content)
    return Response(text, status, dict(headers or {}), media_type="application/json")


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error: `code` is for programs, `message` one sentence for people, without secrets."""
    return json_answer({"ok": False, "error": code, "message": message}, status, headers)


def http_error(_request: Request, error: Exception) -> Response:
    """The answer to what the routing refuses, and to `HTTPException` raised anywhere."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    usual = (status.phrase.lower().replace(" ", "_"), f"{error.detail}.".replace("..", "."))
    code, message = _MESSAGES.get(error.status_code, usual)
    return error_answer(error.status_code, code, message, error.headers)
