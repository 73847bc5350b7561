"""Redirects: whoever knew a page under a former slug finds it, whatever happened to it and to the process since."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.demo import blocks as b
from daemon.kv.base import Owner, Write
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger.records import Pending
from daemon.site.redirects import Former, follow, redirects
from daemon.site.rules import Condition, Rule
from daemon.sync.groups import grouped
from daemon.sync.verify import Kind
from tests.support.oracle import check
from tests.support.world import OLD, World, a_world
from tests.test_crash import Executioner, executioner, poll

__all__ = ["executioner"]
SLUGS, PAGES = "abcde", range(4)
STEPS = st.lists(st.tuples(st.sampled_from(PAGES), st.sampled_from([*SLUGS, "held", "gone"])), max_size=30)


# Pure ----------------------------------------------------------------------------------------------------------------


@given(STEPS)
def test_every_former_slug_leads_to_its_page_in_one_step(steps: list[tuple[int, str]]) -> None:
    """Pages take slugs (and push others off), are held back and removed, in any order.

    A slug leads to the page that had it last, if that is published, until it is taken. Fails when an entry keeps the
    slug that its page had then instead of the page, and when one stays beside a page.
    """
    at: dict[str, str] = {}
    former: dict[str, Former] = {}
    last: dict[str, str] = {}
    lives = dict.fromkeys(PAGES, 0)
    held: set[str] = set()
    for now, (number, to) in enumerate(steps):
        page = f"{number}.{lives[number]}"  # a page that is restored after it was forgotten is another one
        before = dict(at)
        at = {slug: one for slug, one in at.items() if one != page}
        held.discard(page)
        if to == "gone":
            lives[number] += 1
            last = {slug: one for slug, one in last.items() if one != page}
        elif to == "held":
            held.add(page)
        else:
            held |= {at[to]} if to in at else set()
            at[to] = page
        last |= at
        former = follow(former, before, at, {*at.values(), *held}, float(now))
        slugs = {one: slug for slug, one in at.items()}
        wanted = {s: slugs[one] for s, one in last.items() if s not in at and one in slugs}
        told = {slug: target for slug, (target, _) in redirects(former, at).items()}
        assert told == wanted
        assert not told.keys() & at.keys() and {*told.values()} <= at.keys()


def test_a_redirect_and_the_page_at_its_slug_are_written_in_one_batch() -> None:
    """Whoever takes a slug, whoever had it, and where that one went: one group, with what others want apart.

    Fails when a redirect's key and the page's key of its slug are two places.
    """
    rows = [
        Pending("page:b", "page", "new", None, 0, "1"),
        Pending("redirect:b", "redirect", "old", "old", 0, None),
        Pending("page:c", "page", "third", "third", 0, "1"),
    ]
    assert [[row.key for row in group] for group in grouped(rows)] == [["page:b", "redirect:b"], ["page:c"]]
    moved = [
        Pending("page:a", "page", "moved", "moved", 0, None),
        Pending("page:d", "page", "moved", None, 0, "1"),
        Pending("redirect:a", "redirect", "moved", None, 0, "1"),
    ]
    assert [len(group) for group in grouped(moved)] == [3]


# End to end ----------------------------------------------------------------------------------------------------------


class Batches:
    """What each atomic batch of a store held: keys set, keys deleted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[set[str], set[str]]] = []
        plain = EmbeddedKV.apply

        async def apply(kv: EmbeddedKV, writes: Sequence[Write], owner: Owner) -> bool:
            done = await plain(kv, writes, owner)
            keys = [write for write in writes if not write.key.startswith("sync:")]
            if keys:
                of = {w.key for w in keys if w.value is not None}
                self.seen.append((of, {w.key for w in keys if w.value is None}))
            return done

        monkeypatch.setattr(EmbeddedKV, "apply", apply)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world on the embedded store, under a prefix."""
    async with a_world(tmp_path, kv=EmbeddedKV(tmp_path / "kv.db", prefix="site1:")) as made:
        yield made


def move(world: World, row: str, slug: str) -> None:
    """Somebody gives a row another slug; that is old news at once."""
    world.workspace.set_properties(row, {"slug": slug})
    world.clock.advance(OLD)


async def test_a_slug_that_changes_leaves_a_redirect_in_the_same_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new key, the deletion of the old one and the redirect are one; a chain is one step; coming back ends it.

    Fails when the slugs that pages left are not kept.
    """
    rows = world.add_source("pages")
    row = world.workspace.add_row(rows, "Row", {"slug": "a"})
    other = world.workspace.add_row(rows, "Other", {"slug": "other"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    assert await world.redirects() == {}
    batches = Batches(monkeypatch)
    move(world, row, "b")
    await world.settle()
    assert batches.seen == [({"page:b", "redirect:a", "pages:index"}, {"page:a"})]
    told = await world.value("redirect:a")
    assert told == {"to": "b", "since": told["since"]} and told["since"].endswith("Z")
    move(world, row, "c")
    await world.settle()
    assert await world.redirects() == {"a": "c", "b": "c"}
    assert (await world.value("redirect:a"))["since"] == told["since"]
    batches.seen.clear()
    move(world, other, "a")  # an entry leaves when somebody takes the slug
    await world.settle()
    assert batches.seen == [({"page:a", "redirect:other", "pages:index"}, {"page:other", "redirect:a"})]
    move(world, row, "b")
    await world.settle()
    assert await world.redirects() == {"c": "b", "other": "a"}
    batches.seen.clear()
    await world.sweep()
    await world.settle()
    assert batches.seen == []  # no change, no write
    world.workspace.trash(row)
    await world.sweep()
    assert await world.redirects() == {"other": "a"}
    keys = {key async for key in EmbeddedKV(world.folder / "kv.db").scan("*redirect*")}
    assert keys == {"site1:redirect:other"}
    await check(world)


async def test_what_is_below_a_page_that_moves_is_found_too(world: World) -> None:
    """Children, grandchildren and rows of a database inside; two that exchange their slugs lead nowhere else."""
    rows = world.add_source("pages")
    top = world.workspace.add_row(rows, "Top", {"slug": "top"})
    twin = world.workspace.add_row(rows, "Twin", {"slug": "twin"})
    child = world.workspace.create_page(top, "Child")
    world.workspace.create_page(child, "Grandchild")
    _, jobs = world.workspace.create_database(child, "Jobs", {"slug": "rich_text"})
    world.workspace.add_row(jobs, "Printer", {"slug": "printer"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    move(world, top, "up")
    await world.settle()
    below = ("", "/child", "/child/grandchild", "/child/printer")
    assert await world.redirects() == {f"top{end}": f"up{end}" for end in below}
    world.workspace.set_title(child, "Kid")
    world.clock.advance(OLD)
    await world.settle()
    assert (await world.redirects())["top/child/grandchild"] == "up/kid/grandchild"
    before = await world.redirects()
    world.workspace.set_properties(top, {"slug": "twin"})
    move(world, twin, "up")
    await world.settle()
    after = await world.redirects()
    assert {*after} == {*before} - {"up", "twin"} | {
        f"up/{end}"
        for end in ("child", "child/grandchild", "child/printer", "kid", "kid/grandchild", "kid/printer")
    }
    assert after["top/child"] == "twin/kid"
    await check(world)


async def test_a_page_that_is_held_back_comes_back_with_its_redirects(world: World) -> None:
    """Unpublished: nothing leads to it. Published again, under another slug: everything that ever did leads there.

    Fails when the slugs of a page are forgotten while it is held back.
    """
    rows = world.add_source("pages", {"slug": "rich_text", "Live": "checkbox"})
    row = world.workspace.add_row(rows, "Row", {"slug": "a", "Live": True})
    world.rules["pages"] = Rule((Condition("live", ("true",)),))
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    move(world, row, "b")
    await world.settle()
    assert await world.redirects() == {"a": "b"}
    world.workspace.set_properties(row, {"Live": False})
    world.clock.advance(OLD)
    await world.settle()
    assert await world.slugs() == set() and await world.redirects() == {}
    move(world, row, "c")
    await world.settle()
    assert await world.redirects() == {}
    world.workspace.set_properties(row, {"Live": True})
    world.clock.advance(OLD)
    await world.settle()
    assert await world.slugs() == {"c"} and await world.redirects() == {"a": "c", "b": "c"}


async def test_killed_at_any_step_no_slug_goes_without_its_redirect(
    world: World, executioner: Executioner
) -> None:
    """Beside every commit and command of a poll in which a row with a child moves: the old key, or its redirect.

    Fails when what pages were at is kept in another transaction than what is wanted, and when redirects are written
    in batches of their own.
    """
    rows = world.add_source("pages")
    row = world.workspace.add_row(rows, "Row", {"slug": "s0"}, blocks=[b.paragraph("words")])
    world.workspace.create_page(row, "Child")
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    number, is_over = 0, False
    while not is_over:
        move(world, row, f"s{number + 1}")
        executioner.left = 4 * number
        await executioner.watch(poll(world))
        is_over = not executioner.dead.is_set()
        executioner.pardon()
        slugs, led = await world.slugs(), await world.redirects()
        assert len(slugs) == 2
        for old in {f"s{n}{end}" for n in range(number + 1) for end in ("", "/child")} - slugs:
            assert old in led, (number, old)
        await world.kill()
        await world.start()
        await world.settle()
        here = f"s{number + 1}"
        wanted = {f"s{n}{end}": f"{here}{end}" for n in range(number + 1) for end in ("", "/child")}
        assert await world.redirects() == wanted
        number += 1
    assert number > 4


async def test_an_emptied_store_and_one_that_somebody_altered_are_mended(world: World) -> None:
    """Redirects are keys like others: written again with all, compared by `verify`; those of others are only named."""
    rows = world.add_source("pages")
    row = world.workspace.add_row(rows, "Row", {"slug": "a"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    move(world, row, "b")
    await world.settle()
    told = await world.value("redirect:a")
    owner = await world.kv.read_owner()
    assert owner is not None
    foreign = json.dumps({"to": "x", "since": "?"})
    await world.kv.apply([Write("redirect:a", '"?"'), Write("redirect:theirs", foreign)], owner)
    found = await world.cycle.store_check.compare(await world.ledger.call(world.cycle.compose_only))
    assert [(d.kind, d.name) for d in found.differences] == [
        (Kind.ALTERED, "redirect:a"),
        (Kind.LEFTOVER, "redirect:theirs"),
    ]
    await world.cycle.store_check.mark(found.differences)
    await world.catch_up()
    assert await world.value("redirect:a") == told
    everything = [key async for key in world.kv.scan("*")]
    await world.kv.apply([Write(key, None) for key in everything if key != "sync:owner"], owner)
    async with world.counted() as seen:
        await world.cycle.republish()
    assert seen == [] and await world.value("redirect:a") == told


async def test_a_lost_ledger_learns_from_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirects to pages of ours are known again, and a page that moved meanwhile leaves one; others are left alone.

    Fails when the old page is deleted before the new ledger wants the redirect.
    """
    rows = world.add_source("pages")
    row = world.workspace.add_row(rows, "Row", {"slug": "a"})
    world.workspace.add_row(rows, "Other", {"slug": "other"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    move(world, row, "b")
    await world.settle()
    owner = await world.kv.read_owner()
    assert owner is not None
    foreign = json.dumps({"to": "nowhere", "since": "?"})
    await world.kv.apply([Write("redirect:theirs", foreign), Write("redirect:odd", "[")], owner)
    await world.stop()
    (world.folder / "ledger.db").unlink()
    batches = Batches(monkeypatch)
    move(world, row, "c")
    await world.start()
    await world.settle()
    await world.poll()
    redirected = [batch for batch in batches.seen if batch[1]]
    assert redirected == [({"redirect:a", "redirect:b"}, {"page:b"})]
    assert await world.value("redirect:theirs") == json.loads(foreign)
    assert (await world.value("redirect:a"))["to"] == (await world.value("redirect:b"))["to"] == "c"
    move(world, row, "d")
    await world.settle()
    assert {(await world.value(f"redirect:{old}"))["to"] for old in "abc"} == {"d"}
