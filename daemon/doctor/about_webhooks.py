"""What is said of Notion's webhooks: whether they are set up, what is to be done, when the last event came. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.config import Settings
from daemon.doctor.findings import Finding, Level, span
from daemon.ledger.handshakes import Handshake

SILENT_SECONDS = 3 * 86_400.0
"""A site on which nothing was edited for so long is likelier to have lost its subscription."""
WHERE = "https://www.notion.so/profile/integrations, your integration, Webhooks"
SETTING = "NOTION_WEBHOOK_VERIFICATION_TOKEN"


@dataclass(frozen=True, slots=True)
class WebhookFacts:
    """What the ledger knows: tokens that came with handshakes, newest first; the last event (unix seconds)."""

    handshakes: Sequence[Handshake] = ()
    last_event_at: float | None = None


def findings(settings: Settings, facts: WebhookFacts, now: float) -> list[Finding]:
    """`now` in unix seconds."""
    address = f"{settings.public_url or f'http://localhost:{settings.port}'}/webhooks/notion"
    if settings.notion_webhook_verification_token:
        return [_subscribed(address, facts.last_event_at, now)]
    if facts.handshakes:
        return [_came(handshake, now, newest=not at) for at, handshake in enumerate(facts.handshakes)]
    what = (
        f"Not set up, which is no fault: changes are found by polling. Notion can tell of them at {address}."
    )
    if not address.startswith("https://"):
        what += " It calls https addresses only: PUBLIC_URL says which one is yours."
    return [Finding(Level.OK, "webhooks", what)]


def _subscribed(address: str, last_event_at: float | None, now: float) -> Finding:
    what = f"Events that Notion signs are accepted at {address}"
    todo = f"See whether the subscription is active ({WHERE}) and which events it is for."
    if last_event_at is None:
        return Finding(Level.NOTE, "webhooks", f"{what}; none has come yet.", todo)
    age_seconds = max(now - last_event_at, 0.0)
    what = f"{what}; the last one came {span(age_seconds)} ago."
    if age_seconds < SILENT_SECONDS:
        return Finding(Level.OK, "webhooks", what)
    return Finding(Level.NOTE, "webhooks", what, f"Notion pauses a subscription silently. {todo}")


def _came(handshake: Handshake, now: float, *, newest: bool) -> Finding:
    ago = span(max(now - handshake.at, 0.0))
    if not newest:
        return Finding(Level.NOTE, "webhooks", f"Another one came {ago} ago:", shown=handshake.token)
    what = f"A subscription wants to be verified; its token came {ago} ago:"
    todo = (
        f"Paste it into the form in Notion ({WHERE}). When Notion has taken it, and only then, set {SETTING} "
        "to it and restart. If it is not yours, somebody else sent it: Notion does not take it, no harm is done."
    )
    return Finding(Level.NOTE, "webhooks", what, todo, handshake.token)
