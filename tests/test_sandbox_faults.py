"""The sandbox fails on order: with every status, in HTML, in the middle of a body, or without a word."""

import asyncio
import json
from collections import Counter

import httpx
import pytest
from notion_client import AsyncClient

from daemon.demo import Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import refusal

pytest_plugins = ["tests.support.sandbox_fixtures"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "conflict_error"),
        (429, "rate_limited"),
        (500, "internal_server_error"),
        (503, "service_unavailable"),
        (504, "gateway_timeout"),
        (529, "service_overload"),
    ],
)
async def test_statuses(sandbox: Sandbox, http: httpx.AsyncClient, status: int, code: str) -> None:
    """The next request fails with the status and its code, the one after it does not."""
    sandbox.faults.add(status, retry_after=7)
    answer = await http.get("/users/me")
    body = answer.json()
    assert (answer.status_code, body["object"], body["status"], body["code"]) == (
        status,
        "error",
        status,
        code,
    )
    assert (answer.headers["retry-after"], body["request_id"]) == (
        "7",
        answer.headers["x-notion-request-id"],
    )
    assert (await http.get("/users/me")).status_code == 200
    assert [request.status for request in sandbox.requests] == [status, 200]


async def test_guidance_and_reasons(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """503 says how to ask for less, 429 whose limit it was."""
    sandbox.faults.add(503)
    sandbox.faults.add(429, retry_after=300, reason="public_api_space_request_rate_limit")
    assert "retry_guidance" in (await http.get("/users/me")).json()["additional_data"]
    assert (await http.get("/users/me")).json()["additional_data"] == {
        "rate_limit_reason": "public_api_space_request_rate_limit",
        "retry_after": 300,
    }


async def test_html(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """502 is a page for people, as any status can be."""
    sandbox.faults.add(502)
    sandbox.faults.add(403, html=True)
    for status in (502, 403):
        answer = await http.get("/users/me")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html")
        assert answer.text.startswith("<html>")


async def test_which_requests(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """By method, by a part of the path or a pattern, after some that pass, so many times."""
    page = sandbox.workspace.create_page(None, "Page")
    sandbox.faults.add(500, method="GET", path=f"/pages/{page}", times=2, after=1)
    sandbox.faults.add(504, path=r"^/blocks/[^/]+/children$")
    asked = [
        f"/pages/{page}",
        "/users/me",
        *[f"/pages/{page}"] * 3,
        f"/blocks/{page}",
        f"/blocks/{page}/children",
    ]
    assert [(await http.get(path)).status_code for path in asked] == [200, 200, 500, 500, 200, 200, 504]
    sandbox.faults.add(500, times=9)
    sandbox.faults.clear()
    assert (await http.get("/users/me")).status_code == 200


async def test_cut_body(sandbox: Sandbox, notion: AsyncClient) -> None:
    """The head promises the whole body, which breaks off; the next request is answered."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.paragraph("x" * 500)] * 20)
    sandbox.faults.add(cut=True)
    with pytest.raises(httpx.TransportError):
        await notion.blocks.children.list(home)
    assert len((await notion.blocks.children.list(home))["results"]) == 20


async def test_reset(sandbox: Sandbox, notion: AsyncClient) -> None:
    """The connection is reset before any answer; the next request gets a new one."""
    sandbox.faults.add(reset=True)
    with pytest.raises(httpx.TransportError):
        await notion.users.me()
    assert (await notion.users.me())["object"] == "user"
    assert [request.status for request in sandbox.requests] == [0, 200]


def arrival(sandbox: Sandbox) -> asyncio.Event:
    """Set when a request has come."""
    arrived = asyncio.Event()
    sandbox.watchers.append(lambda _method, _path: arrived.set())
    return arrived


async def test_hang(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """No answer comes until the client gives up; others are served meanwhile."""
    sandbox.faults.add(hang=True)
    arrived = arrival(sandbox)
    hanging = asyncio.create_task(http.get("/users/me", timeout=0.2))
    await arrived.wait()
    assert (await http.get("/users/me")).status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        await hanging


async def test_stopping_ends_what_hangs(sandbox: Sandbox) -> None:
    """The server is down at once although a request hangs, and can be started again on the same port."""
    sandbox.faults.add(hang=True)
    arrived = arrival(sandbox)
    headers = {"Authorization": "Bearer ntn_sandbox", "Notion-Version": "2026-03-11"}
    async with httpx.AsyncClient(headers=headers) as client:
        async with sandbox.serve() as url:
            hanging = asyncio.create_task(client.get(f"{url}/v1/users/me"))
            await arrived.wait()
        with pytest.raises(httpx.TransportError):
            await asyncio.wait_for(hanging, 1)
        async with sandbox.serve(port=int(url.rsplit(":", 1)[1])) as again:
            assert again == url
            assert (await client.get(f"{url}/v1/users/me")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/v1/users/me")


async def test_applied_writes(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A write may be carried out although its answer is an error."""
    page = sandbox.workspace.create_page(None, "Page")
    for applied in (False, True):
        sandbox.faults.add(503, method="PATCH", applied=applied)
        error = await refusal(notion.pages.update(page, in_trash=True))
        assert (error.status, sandbox.workspace.page(page).in_trash) == (503, applied)


async def test_random_faults(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A share of all requests fails, the same ones for the same seed."""
    runs = []
    for _ in range(2):
        sandbox.faults.random(0.3, [500, 529, "reset"], seed=4)
        outcomes = []
        for _ in range(60):
            try:
                outcomes.append((await http.get("/users/me")).status_code)
            except httpx.TransportError:
                outcomes.append(0)
        runs.append(outcomes)
    assert runs[0] == runs[1]
    counted = Counter(runs[0])
    assert 30 < counted[200] < 55
    assert set(counted) == {200, 500, 529, 0}
    sandbox.faults.random(0, [])
    assert (await http.get("/users/me")).status_code == 200


async def test_in_process_transport(sandbox: Sandbox) -> None:
    """The application also answers without a socket, where a broken connection is an error."""
    headers = {"Authorization": "Bearer ntn_sandbox", "Notion-Version": "2025-09-03"}
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://sandbox/v1", headers=headers
    ) as client:
        assert json.loads((await client.get("/users/me")).text)["type"] == "bot"
        sandbox.faults.add(reset=True)
        with pytest.raises(ConnectionResetError):
            await client.get("/users/me")
