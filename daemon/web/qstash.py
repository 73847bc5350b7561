"""Whether a call comes from QStash: the signature, the time, the body and the address that it was signed for.

The rules are QStash's (https://upstash.com/docs/qstash/howto/signature): a JWT in `Upstash-Signature`, HS256, made with
the current signing key, or with the next one while the keys are rolled.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

import jwt

from daemon.env import SecretStr

TOLERANCE_SECONDS = 10
"""How far the clocks may be apart: a call is signed for five minutes only."""
_CLAIMS = ("iss", "sub", "exp", "nbf", "jti", "body")


class NotSignedError(Exception):
    """The call does not carry a good signature. The text says why and shows nothing of it."""


def verified(token: str, body: bytes, keys: Iterable[SecretStr | None], address: str | None) -> str:
    """The id (`jti`) of a call that is rightly signed; raises NotSignedError.

    In: the header, the body as it arrived, the signing keys, and the address it must have been signed for (None: it is
    not known how the outside reaches us).
    """
    claims = _claims(token, [key.get_secret_value() for key in keys if key is not None])
    if not hmac.compare_digest(str(claims["body"]).rstrip("=").encode(), _digest(body)):
        raise NotSignedError("It was signed for another body.")
    if address is not None and _place(str(claims["sub"])) != _place(address):
        raise NotSignedError(
            "It was signed for another address: check PUBLIC_URL and the destination in QStash."
        )
    return str(claims["jti"])


def _claims(token: str, keys: list[str]) -> dict[str, object]:
    """What the token says, if one of the keys made it. An empty key accepts nothing."""
    why = "No signing key is configured: set QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY."
    for key in filter(None, keys):
        try:
            return dict(
                jwt.decode(
                    token,
                    key,
                    algorithms=["HS256"],
                    issuer="Upstash",
                    leeway=TOLERANCE_SECONDS,
                    options={"require": list(_CLAIMS), "verify_aud": False, "verify_iat": False},
                )
            )
        except jwt.InvalidSignatureError:
            why = "It was signed with another key: copy both signing keys from the QStash console."
        except jwt.ExpiredSignatureError:
            raise NotSignedError("It has expired.") from None
        except jwt.ImmatureSignatureError:
            raise NotSignedError("It is not valid yet: is this machine's clock behind?") from None
        except (jwt.PyJWTError, ValueError):
            why = "It carries no signature of QStash's; other callers have /api/sync/trigger."
            raise NotSignedError(why) from None
    raise NotSignedError(why)


def _digest(body: bytes) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=")


def _place(address: str) -> tuple[str, str, int | None, str]:
    """What of an address must be the same: proxies and consoles differ in ports, slashes at the end and queries."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return address, "", None, ""
    return parts.scheme, (parts.hostname or "").lower(), port, parts.path.rstrip("/")
