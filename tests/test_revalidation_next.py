"""A real Next.js site, built with the route of the documentation, shows what is written in Notion once it is told."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from starlette.applications import Starlette

from daemon.clock import SystemClock
from daemon.demo import blocks as b
from daemon.env import SecretStr
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.rest import kv_routes
from daemon.outgoing import Outgoing
from daemon.revalidate import SIGNATURE_HEADER, Revalidation, signature
from tests.support.http_server import served
from tests.support.next_site import a_next_site, require_next
from tests.support.world import World, a_world

KEY = SecretStr("shared-with-the-site-only")
TOKEN = "kv-token-of-this-test"
ROUTE = "/api/revalidate"
CAFE = "/caf%C3%A9-%ED%95%9C%EA%B5%AD%EC%96%B4"


async def test_a_next_site_shows_an_edit_once_it_is_told(tmp_path: Path) -> None:
    """Pages that Next.js keeps for ever, by tag (`/`), by path (`/blog`) and made at the build (`/posts`): an edit, a
    new slug, another script, a removal. Then who else may call the route: nobody.

    Fails when tags or paths are left out, when a path is encoded twice, when `revalidateTag` gets a profile that goes
    on showing the old version, and when the route does not ask how old a signature is.
    """
    require_next()
    kv = EmbeddedKV(tmp_path / "kv.db")
    async with a_world(tmp_path, kv=kv) as world:
        world.site_paths = {"pages": "/{slug}", "posts": "/blog/{slug}"}
        pages, posts = world.add_source("pages"), world.add_source("posts")
        home, about, first, second, cafe = (
            world.workspace.add_row(source, title, {"slug": slug}, blocks=[b.paragraph(f"{title} as it was")])
            for source, title, slug in (
                (pages, "Home", "/"),
                (pages, "About", "about"),
                (posts, "First", "first"),
                (posts, "Second", "second"),
                (posts, "Café", "café-한국어"),
            )
        )
        world.clock.advance(3600.0)
        await world.start()
        await world.settle()
        with served(Starlette(routes=kv_routes(kv, TOKEN)), lifespan="off") as store:
            settings = {
                "KV_REST_API_URL": f"{store}/kv",
                "KV_REST_API_TOKEN": TOKEN,
                "REVALIDATE_SECRET": KEY.get_secret_value(),
            }
            async with a_next_site(settings) as site:
                outgoing = Outgoing()
                teller = Revalidation(
                    world.ledger, SystemClock(), outgoing, str(site.base_url.join(ROUTE)), KEY
                )
                assert await teller.turn() is None
                before = [await text(site, path) for path in ("/", "/about", "/blog/first", f"/blog{CAFE}")]
                assert all("as it was" in shown for shown in before)
                assert await status(site, "/blog/renamed") == 404
                assert "Second" in await text(site, "/posts")

                for page in (home, about, first, cafe):
                    world.workspace.append_blocks(page, [b.paragraph("as it is now")])
                world.workspace.set_properties(second, {"slug": "renamed"})
                await publish(world)
                for path in ("/", "/about", "/blog/first", f"/blog{CAFE}"):
                    assert "as it is now" not in await text(site, path), (
                        "Next.js keeps nothing: nothing is tried"
                    )
                assert await teller.turn() is None
                for path in ("/", "/about", "/blog/first", f"/blog{CAFE}"):
                    assert "as it is now" in await text(site, path)
                assert await status(site, "/blog/renamed") == 200
                assert await status(site, "/blog/second") == 404

                world.workspace.set_title(about, "About us")
                world.workspace.trash(first)
                world.workspace.add_row(posts, "Third", {"slug": "third"})
                world.clock.advance(3600.0)
                await world.sweep()
                assert await teller.turn() is None
                listed = await text(site, "/posts")
                assert "Third" in listed and "First" not in listed
                assert await status(site, "/blog/first") == 404
                await refuses_strangers(site)
                await outgoing.close()


async def publish(world: World) -> None:
    """What was edited reaches the store."""
    world.clock.advance(120.0)
    await world.catch_up()


async def text(site: httpx.AsyncClient, path: str) -> str:
    """What a visitor is shown."""
    answer = await site.get(path)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return answer.text


async def status(site: httpx.AsyncClient, path: str) -> int:
    """The status that a visitor gets."""
    return (await site.get(path)).status_code


async def refuses_strangers(site: httpx.AsyncClient) -> None:
    """Unsigned, signed with another key, for another body, too long ago or ahead, malformed: 401. No JSON: 400."""
    now, body = datetime.now(UTC), b'{"tags":["page:about"],"paths":["/about"]}'
    right = signature(KEY, body, now)
    seconds, digest = right.split(",")
    wrong = [
        "",
        "v1=",
        digest,
        f"{seconds},v1={'0' * 64}",
        f"{seconds},v1=abc",
        signature(SecretStr("another"), body, now),
        signature(KEY, body + b" ", now),
        signature(KEY, body, now - timedelta(seconds=330)),
        signature(KEY, body, now + timedelta(seconds=330)),
    ]
    for value in wrong:
        answer = await site.post(ROUTE, content=body, headers={SIGNATURE_HEADER: value})
        assert (answer.status_code, answer.json()) == (401, {"ok": False, "error": "bad_signature"}), value
    assert (await site.post(ROUTE, content=body)).status_code == 401
    answer = await site.post(ROUTE, content=body, headers={SIGNATURE_HEADER: right})
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "tags": 1, "paths": 1})
    for content, expected in (
        (b"no json", 400),
        (b"null", 200),
        (b'{"tags": [1, "", null], "paths": 5}', 200),
    ):
        header = {SIGNATURE_HEADER: signature(KEY, content, now)}
        assert (await site.post(ROUTE, content=content, headers=header)).status_code == expected
    assert await status(site, ROUTE) == 405
