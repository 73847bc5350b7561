"""Notion's refusals: the error that a handler raises, and the messages the real thing uses."""

from typing import Any

from daemon.demo.wire import Json, encode

RATE_LIMIT_REASON = "public_api_request_rate_limit"


class ApiError(Exception):
    """An answer that is not a success: HTTP status, Notion's code, its message and the rest of its body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        additional_data: Json | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.additional_data = additional_data
        self.retry_after = retry_after

    def body(self, request_id: str) -> bytes:
        """The JSON text of the error."""
        shown: Json = {
            "object": "error",
            "status": self.status,
            "code": self.code,
            "message": self.message,
        }
        if self.additional_data is not None:
            shown["additional_data"] = self.additional_data
        shown["request_id"] = request_id
        return encode(shown)


def validation_error(message: str) -> ApiError:
    """A 400 that is final for this request."""
    return ApiError(400, "validation_error", message)


def failed(where: str, should_be: str, value: Any = ...) -> ApiError:
    """`body failed validation: body.page_size should be a number, instead was `"x"`.`"""
    shown = "undefined" if value is ... else encode(value).decode()
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    part = where.split(".", maxsplit=1)[0]
    return validation_error(
        f"{part} failed validation: {where} should be {should_be}, instead was `{shown}`."
    )


def not_found(kind: str, object_id: str, integration: str, integration_id: str) -> ApiError:
    """Never existed, purged, not shared: Notion answers all of them with this."""
    return ApiError(
        404,
        "object_not_found",
        f"Could not find {kind} with ID: {object_id}. Make sure the relevant pages and databases are shared "
        f'with your integration "{integration}".',
        additional_data={"integration_id": integration_id},
    )


def cursor_refused(cursor: str) -> ApiError:
    """The 400 for a cursor that is unknown or has died: the walk has to begin again."""
    return validation_error(f"The start_cursor provided is invalid: {cursor}")


def rate_limited(retry_after: int, reason: str = RATE_LIMIT_REASON) -> ApiError:
    """`retry_after` in whole seconds, told in the header and in the body."""
    return ApiError(
        429,
        "rate_limited",
        "You have been rate limited. Please try again in a few minutes.",
        additional_data={"rate_limit_reason": reason, "retry_after": retry_after},
        retry_after=retry_after,
    )
