"""Webhooks as Notion sends them: a handshake with a token, then signed events that tell of edits without their content.

Shapes after https://developers.notion.com/reference/webhooks-events-delivery. Events wait until `deliver` is called, so
that whoever plays Notion says when they arrive; how many of them do, how often and in which order, are habits.
"""

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import httpx

from daemon.demo.wire import Json, iso_z
from daemon.demo.workspace import Workspace

MOST_ATTEMPTS = 8
FAILURES_TO_PAUSE = 20
"""So many deliveries in a row that were not answered with 2xx pause a subscription, and nobody is told."""
_AGGREGATED_NEVER = ("page.locked", "page.unlocked", "comment.created", "comment.updated", "comment.deleted")
_PARENTS = {"page_id": "page", "block_id": "block", "database_id": "database", "workspace": "space"}


@dataclass
class WebhookHabits:
    """How a subscription behaves; may be changed at any time."""

    aggregates: bool = True
    """Several events of one kind about one thing that wait together become one."""
    cancels: bool = False
    """What was made and thrown away again, or the reverse, while both waited, is not told at all."""
    copies: int = 1
    """How often each event is delivered."""
    shuffles: bool = False
    """Events are delivered in any order."""
    loses: float = 0.0
    """Share (0..1) of the events that never arrive."""


@dataclass(frozen=True)
class Delivery:
    """One call that was made. `status` 0: there was no answer."""

    event: Json
    status: int


class Subscription:
    """One address that is told of edits. Its `token` is its own: another subscription has another one."""

    def __init__(self, workspace: Workspace, url: str, seed: int = 0) -> None:
        self.url = url
        self.habits = WebhookHabits()
        self.deliveries: list[Delivery] = []
        self.paused = False
        self._workspace = workspace
        self._random = Random(seed)
        self._id = workspace.ids.random()
        self._waiting: list[Json] = []
        self._failures = 0
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        self.token = "secret_" + "".join(self._random.choices(alphabet, k=43))

    # What happened

    def note(self, kind: str, entity_id: str, details: Json) -> None:
        """Something was edited. Of what the integration cannot read it is told nothing."""
        if not self._workspace.readable(entity_id):
            return
        told = [event for event in self._waiting if event["entity"]["id"] == entity_id]
        if self.habits.cancels and (opposite := _OPPOSITES.get(kind)):
            undone = [event for event in told if event["type"] in opposite]
            if undone:
                self._waiting.remove(undone[-1])
                return
        one_will_do = self.habits.aggregates and kind not in _AGGREGATED_NEVER
        if not (one_will_do and any(event["type"] == kind for event in told)):
            self.add(self.event(kind, entity_id, details))

    def add(self, event: Json) -> None:
        """Have an event delivered too, of whatever shape."""
        self._waiting.append(event)

    def event(self, kind: str, entity_id: str, details: Json | None = None) -> Json:
        """An event in Notion's form."""
        workspace = self._workspace
        entity = {"id": entity_id, "type": self._type_of(kind, entity_id)}
        data: Json = {"parent": self._parent(entity_id), **(details or {})}
        return {
            "id": workspace.ids.random(),
            "timestamp": iso_z(workspace.now_ms()),
            "workspace_id": workspace.space_id,
            "workspace_name": "Sändbox",
            "subscription_id": self._id,
            "integration_id": workspace.bot_id,
            "type": kind,
            "authors": [{"id": workspace.person_id, "type": "person"}],
            "attempt_number": 1,
            "api_version": "2025-09-03",
            "entity": entity,
            "data": data,
        }

    def _type_of(self, kind: str, entity_id: str) -> str:
        database = self._workspace.databases.get(entity_id)
        return "block" if database is not None and database.linked else kind.partition(".")[0]

    def _parent(self, entity_id: str) -> Json:
        kind, parent_id = self._workspace.parent_of(entity_id)
        if kind == "data_source_id":
            database = self._workspace.parent_of(parent_id)[1]
            return {"id": database, "type": "database", "data_source_id": parent_id}
        return {"id": parent_id or self._workspace.space_id, "type": _PARENTS[kind]}

    # Telling

    async def verify(self) -> int:
        """The first call: brings the token, and is not signed. Out: the answer's status."""
        async with _client() as http:
            return (await http.post(self.url, json={"verification_token": self.token})).status_code

    def body(self, event: Json) -> bytes:
        """An event as it is sent: with blanks and escapes, as JavaScript or Python would not write it again."""
        return json.dumps(event, ensure_ascii=True, separators=(", ", " :")).encode() + b"\n"

    def signature(self, body: bytes) -> str:
        """What the header `X-Notion-Signature` says of a body."""
        return "sha256=" + hmac.new(self.token.encode(), body, hashlib.sha256).hexdigest()

    async def deliver(self, at_once: int = 10) -> list[int]:
        """Send what waits, several at a time. What is not answered with 2xx waits for the next time. Out: statuses."""
        if self.paused:
            return []
        waiting, self._waiting = self._waiting, []
        events = [event for event in waiting if self._random.random() >= self.habits.loses]
        events = [event for event in events for _ in range(self.habits.copies)]
        if self.habits.shuffles:
            self._random.shuffle(events)
        places = asyncio.Semaphore(at_once)
        async with _client() as http:

            async def send(event: Json) -> int:
                async with places:
                    return await self._send(http, event)

            return list(await asyncio.gather(*(send(event) for event in events)))

    async def _send(self, http: httpx.AsyncClient, event: Json) -> int:
        body = self.body(event)
        headers = {"content-type": "application/json", "x-notion-signature": self.signature(body)}
        try:
            status = (await http.post(self.url, content=body, headers=headers)).status_code
        except httpx.HTTPError:
            status = 0
        self.deliveries.append(Delivery(event, status))
        if 200 <= status < 300:
            self._failures = 0
            return status
        self._failures += 1
        self.paused = self.paused or self._failures >= FAILURES_TO_PAUSE
        attempts = event.get("attempt_number", 1)
        if attempts < MOST_ATTEMPTS:
            self._waiting.append({**event, "attempt_number": attempts + 1})
        return status


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, verify=_trusted())


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Made once: that takes longer than a hundred deliveries."""
    return ssl.create_default_context()


_OPPOSITES: dict[str, Sequence[str]] = {
    "page.deleted": ("page.undeleted", "page.created"),
    "page.undeleted": ("page.deleted",),
    "database.deleted": ("database.undeleted", "database.created"),
    "database.undeleted": ("database.deleted",),
}
