"""QStash as the daemon meets it: calls with the headers and the token that its documentation describes."""

import base64
import hashlib
import time
import uuid
from typing import Any

import httpx
import jwt

CURRENT = "sig_current_key_of_these_tests_0123456789"
NEXT = "sig_next_key_of_these_tests_0123456789abc"
KEYS = {"QSTASH_CURRENT_SIGNING_KEY": CURRENT, "QSTASH_NEXT_SIGNING_KEY": NEXT}


def token(body: bytes, address: str, /, *, key: str = CURRENT, **claims: Any) -> str:
    """A signature for a body sent to an address; claims that are None are left out."""
    now = int(time.time())
    said = {
        "iss": "Upstash",
        "sub": address,
        "exp": now + 300,
        "nbf": now,
        "iat": now,
        "jti": f"jwt_{uuid.uuid4().hex}",
        "body": base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode(),
    }
    said |= claims
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, "HS256")


async def deliver(
    http: httpx.AsyncClient, address: str, body: bytes, signature: str, message: str | None = None
) -> httpx.Response:
    """One delivery."""
    headers = {"content-type": "application/json", "user-agent": "Upstash-QStash", "upstash-retried": "0"}
    headers |= {"upstash-signature": signature}
    headers |= {"upstash-message-id": message} if message else {}
    return await http.post(address, content=body, headers=headers)
