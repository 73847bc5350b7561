"""Calls that QStash signs: who may start work, what is refused, and that a call delivered twice is done once."""

import base64
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.env import SecretStr
from daemon.ledger import tasks
from daemon.ledger.ledger import LedgerError
from daemon.ledger.tasks import State
from daemon.web.qstash import TOLERANCE_SECONDS, NotSignedError, verified
from tests.support.qstash import CURRENT, KEYS, NEXT, deliver, token
from tests.support.web import Daemon, a_daemon

ADDRESS = "https://sync.example.com/api/sync/worker"
PUBLIC = {**KEYS, "PUBLIC_URL": "https://sync.example.com"}
BODY = b'{"force": true}'
BOTH = [SecretStr(CURRENT), SecretStr(NEXT)]


def check(signature: str, body: bytes = BODY, address: str | None = ADDRESS, keys: Any = BOTH) -> str:
    """What the daemon makes of a signature."""
    return verified(signature, body, keys, address)


@pytest.mark.parametrize("key", [CURRENT, NEXT])
def test_both_keys_are_good(key: str) -> None:
    """The current one, and the next one while they are rolled. Fails when only the first is tried."""
    assert check(token(BODY, ADDRESS, key=key, jti="jwt_1")) == "jwt_1"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"body": None}, "no signature of QStash"),
        ({"jti": None}, "no signature of QStash"),
        ({"exp": None}, "no signature of QStash"),
        ({"iss": "Somebody"}, "no signature of QStash"),
        ({"body": "AAAA"}, "another body"),
        ({"sub": "https://other.example.com/api/sync/worker"}, "another address"),
        ({"sub": "https://sync.example.com/api/sync/trigger"}, "another address"),
        ({"sub": "https://sync.example.com:notaport/"}, "another address"),
    ],
)
def test_what_a_good_key_says_must_be_right(claims: dict[str, Any], why: str) -> None:
    """Claims that are missing or wrong. Fails for each when that claim is not looked at."""
    with pytest.raises(NotSignedError, match=why):
        check(token(BODY, ADDRESS, **claims))


@pytest.mark.parametrize(
    ("late_seconds", "good"), [(TOLERANCE_SECONDS - 3, True), (TOLERANCE_SECONDS + 3, False)]
)
@pytest.mark.parametrize("claim", ["exp", "nbf"])
def test_clocks_may_be_apart_by_a_little(late_seconds: int, good: bool, claim: str) -> None:
    """Expired, or not valid yet, by less than the tolerance is accepted, by more is not.

    Fails when the tolerance is passed to the library where it is not looked for.
    """
    now = int(time.time())
    claims: dict[str, Any] = {claim: now - late_seconds if claim == "exp" else now + late_seconds}
    signature = token(BODY, ADDRESS, **claims)
    if good:
        check(signature)
    else:
        with pytest.raises(NotSignedError, match="expired" if claim == "exp" else "not valid yet"):
            check(signature)


@pytest.mark.parametrize("keys", [[], [None, None], [SecretStr(""), SecretStr("")], [SecretStr("other" * 9)]])
def test_without_the_right_key_nothing_is_accepted(keys: list[SecretStr | None]) -> None:
    """Also not what was signed with an empty key, which old releases of the library accept, or not at all.

    Fails when the signature is not verified.
    """
    signatures = [token(BODY, ADDRESS), token(BODY, ADDRESS).rpartition(".")[0] + ".", "", "x", "a.b.c", "é"]
    head, claims, _ = token(BODY, ADDRESS).split(".")
    with_empty_key = hmac.digest(b"", f"{head}.{claims}".encode(), "sha256")
    signatures.append(f"{head}.{claims}.{base64.urlsafe_b64encode(with_empty_key).decode().rstrip('=')}")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for signature in [*signatures, f"{unsigned}.{claims}."]:
        with pytest.raises(NotSignedError):
            check(signature, keys=keys)


def test_the_address_is_compared_as_proxies_leave_it() -> None:
    """A slash at the end, a port that goes without saying, letters of a host; unknown: not compared."""
    for said in (ADDRESS + "/", ADDRESS.replace(".com", ".com:443"), ADDRESS.replace("sync.", "SYNC.")):
        check(token(BODY, said))
    check(token(BODY, "https://anywhere.example.com/"), address=None)


@asynccontextmanager
async def working(folder: Path, **settings: str) -> AsyncIterator[Daemon]:
    """A daemon that knows its signing keys and how the outside reaches it."""
    async with a_daemon(folder, settings={**PUBLIC, **settings}) as daemon:
        yield daemon


async def asked(daemon: Daemon) -> list[tasks.Task]:
    """Every job there is."""
    return await daemon.app.ledger.call(tasks.newest, 50)


async def test_a_call_is_in_the_ledger_before_it_is_acknowledged(tmp_path: Path) -> None:
    """2xx with the job's id; `force` is taken from the body; a stranger gets 401 and nothing is started."""
    async with working(tmp_path) as daemon:
        worker = f"{daemon.url}/api/sync/worker"
        for signature in ("", "nonsense", token(BODY, ADDRESS, key="x" * 40)):
            refused = await deliver(daemon.http, worker, BODY, signature)
            assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
        assert await asked(daemon) == []
        accepted = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS))
        assert accepted.status_code == 202 and accepted.json()["ok"] is True
        (job,) = await asked(daemon)
        assert (job.id, job.options["force"]) == (accepted.json()["jobId"], True)
        assert job.state is State.QUEUED and job.retries_left > 0
        assert (await daemon.http.get(worker)).status_code == 405


async def test_a_call_that_is_delivered_twice_is_done_once(tmp_path: Path) -> None:
    """The same token, and the same message with a token of its own: 2xx twice, one job, also when it is over.

    Fails when calls are not remembered: the first job has begun, so a new one could not join it.
    """
    async with working(tmp_path) as daemon:
        worker, signature = f"{daemon.url}/api/sync/worker", token(BODY, ADDRESS)
        first = await deliver(daemon.http, worker, BODY, signature, "msg_1")
        await daemon.app.jobs.take()
        again = await deliver(daemon.http, worker, BODY, signature)
        retried = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS), "msg_1")
        worker_id = daemon.app.cycle.lease.daemon_id
        job_id = first.json()["jobId"]
        done = {"ok": True, "problem": None}
        await daemon.app.ledger.call(tasks.finish, job_id, worker_id, done, daemon.clock.now().timestamp())
        later = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS), "msg_1")
        answers = [first, again, retried, later]
        assert [answer.status_code for answer in answers] == [202] * 4
        assert {answer.json()["jobId"] for answer in answers} == {job_id}
        assert len(await asked(daemon)) == 1
        new = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS), "msg_2")
        assert new.json()["jobId"] != job_id


async def test_a_call_whose_job_failed_is_heard_again(tmp_path: Path) -> None:
    """Somebody sends it again from the dead letter queue. Fails when every known call counts as done."""
    async with working(tmp_path) as daemon:
        worker = f"{daemon.url}/api/sync/worker"
        first = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS), "msg_1")
        await daemon.app.jobs.take()
        failed = {"ok": False, "problem": "Notion was away"}
        mine = (first.json()["jobId"], daemon.app.cycle.lease.daemon_id)
        await daemon.app.ledger.call(tasks.finish, *mine, failed, daemon.clock.now().timestamp())
        again = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS), "msg_1")
        assert again.status_code == 202 and again.json()["jobId"] != first.json()["jobId"]


async def test_what_cannot_be_kept_is_to_be_delivered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5xx when the ledger is unusable, or when we stand by and nobody would do it. Fails when 2xx is said first."""
    async with working(tmp_path) as daemon:
        worker = f"{daemon.url}/api/sync/worker"

        async def broken(*_: Any, **__: Any) -> Any:
            raise LedgerError("the disk is full", "Free some space.")

        with monkeypatch.context() as patch:
            patch.setattr(daemon.app.ledger, "call", broken)
            away = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS))
        assert (away.status_code, away.json()["error"]) == (503, "ledger_unavailable")
        daemon.app.cycle.lease._stand_by()
        standby = await deliver(daemon.http, worker, BODY, token(BODY, ADDRESS))
        assert (standby.status_code, standby.json()["error"]) == (503, "standby")
        assert await asked(daemon) == []


async def test_a_body_that_is_no_object_is_refused(tmp_path: Path) -> None:
    """Rightly signed, and wrong: 400 with the reason. An empty body is an ordinary sync."""
    async with working(tmp_path) as daemon:
        worker = f"{daemon.url}/api/sync/worker"
        for body in (b"[]", b"{", b"\xff", b'"force"'):
            answer = await deliver(daemon.http, worker, body, token(body, ADDRESS))
            assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert (await deliver(daemon.http, worker, b"", token(b"", ADDRESS))).status_code == 202
        (job,) = await asked(daemon)
        assert job.options["force"] is False


async def test_without_keys_every_call_is_refused(tmp_path: Path) -> None:
    """And says which settings are missing."""
    async with a_daemon(tmp_path) as daemon:
        answer = await deliver(daemon.http, f"{daemon.url}/api/sync/worker", BODY, token(BODY, ADDRESS))
        assert answer.status_code == 401 and "QSTASH_CURRENT_SIGNING_KEY" in answer.json()["message"]
