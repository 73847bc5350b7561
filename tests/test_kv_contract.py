"""What every store gives the daemon, held against Upstash's protocol, a real Redis and the embedded file."""

import asyncio
import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.kv import KV, OWNER_KEY, KVError, Owner, Write, batches, grouped_batches
from tests.support.stores import Store

pytest_plugins = ["tests.support.kv_fixtures"]

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.25)

TEXTS = [
    '{"meta":{"title":"Überblick"},"blocks":[]}',
    '{"title":"한국어 हिन्दी العربية 👩‍👩‍👧‍👦"}',
    '{"text":"quotes \\" backslash \\\\ newline \\n tab\\t"}',
    '"\u2028\u2029 and \u0085 and \ufeff"',
    '"\\u0000 and \\ud800 stay escaped"',
    '"OK"',
    "OK",
    "12345678901234567890",
    "1.0",
    "null",
    "true",
    "[]",
    "",
]
GARBAGE = [
    "",
    "nobody",
    "null",
    "7",
    '"7"',
    "[7]",
    "{}",
    '{"token":',
    '{"token":null}',
    '{"token":"7"}',
    '{"token":true}',
    '{"token":7.5}',
    '{"token":-7}',
    '{"token":1e300}',
    '{"token":{"a":7}}',
    '{"owner":7}',
    "[" * 5000,
]


async def owned(store: Store, prefix: str = "") -> KV:
    """A client whose owner record is `ME`'s."""
    client = store.open(prefix)
    assert await client.claim(ME, None)
    return client


async def all_keys(kv: KV, pattern: str = "*") -> list[str]:
    """Every key but the owner's, sorted."""
    return sorted([key async for key in kv.scan(pattern) if key != OWNER_KEY])


class TestReadingAndWriting:
    """Texts come back as they went in."""

    @pytest.mark.parametrize("text", TEXTS)
    async def test_round_trip(self, store: Store, text: str) -> None:
        """A text of any script, and one that looks like something else, comes back the same."""
        kv = await owned(store)
        assert await kv.apply([Write("page:a/b", text)], ME)
        assert await kv.get("page:a/b") == text

    @pytest.mark.parametrize(
        "key", ["page:über/uns", "page:한국어", "page:a b%2Fc?d#e", "page:👋", "page:'\"\\"]
    )
    async def test_keys_of_any_script(self, store: Store, key: str) -> None:
        """A key with spaces, slashes, quotes or any script is that key and no other."""
        kv = await owned(store)
        assert await kv.apply([Write(key, "1")], ME)
        assert await all_keys(kv) == [key]
        assert await kv.get_many([key, key + "x"]) == ["1", None]

    async def test_two_megabytes(self, store: Store) -> None:
        """A value of 2 MB goes in and out whole."""
        kv = await owned(store)
        text = json.dumps({"text": 'ü"' * 700_000}, ensure_ascii=False)
        assert len(text.encode()) > 2_000_000
        assert await kv.apply([Write("page:big", text)], ME)
        assert await kv.get("page:big") == text
        assert await kv.digests(["page:big"]) == [hashlib.sha1(text.encode()).hexdigest()]

    async def test_absent(self, kv: KV) -> None:
        """What was never written is None everywhere."""
        assert await kv.get("page:a") is None
        assert await kv.get_many(["page:a", "page:b"]) == [None, None]
        assert await kv.digests(["page:a"]) == [None]
        assert await kv.read_owner() is None
        assert await all_keys(kv) == []

    async def test_asking_for_nothing_sends_nothing(self, kv: KV) -> None:
        """No keys, no command."""
        before = kv.commands
        assert await kv.get_many([]) == []
        assert await kv.digests([]) == []
        assert kv.commands == before

    async def test_many_keys_in_order(self, store: Store) -> None:
        """Hundreds of keys are answered in the order asked for, absent and repeated ones included."""
        kv = await owned(store)
        texts = {f"page:{number}": f'"{number}"' for number in range(0, 700, 2)}
        assert await kv.apply([Write(key, text) for key, text in texts.items()], ME)
        keys = [f"page:{number}" for number in reversed(range(700))] + ["page:4", "page:4"]
        assert await kv.get_many(keys) == [texts.get(key) for key in keys]
        expected = [
            texts[key] and hashlib.sha1(texts[key].encode()).hexdigest() for key in keys if key in texts
        ]
        assert [digest for digest in await kv.digests(keys) if digest] == expected
        assert [digest is None for digest in await kv.digests(keys)] == [key not in texts for key in keys]

    @pytest.mark.parametrize("text", TEXTS)
    async def test_digests(self, store: Store, text: str) -> None:
        """A digest is the SHA-1 of the text as UTF-8."""
        kv = await owned(store)
        assert await kv.apply([Write("page:a", text)], ME)
        assert await kv.digests(["page:a", "page:b"]) == [hashlib.sha1(text.encode()).hexdigest(), None]


class TestScan:
    """Finding keys."""

    async def test_every_key_once(self, store: Store) -> None:
        """More keys than one answer holds are all found, each once, and only those that match."""
        kv = await owned(store)
        keys = [f"page:{number}" for number in range(2500)]
        assert await kv.apply([Write(key, "1") for key in [*keys, "posts:index"]], ME)
        assert [key async for key in kv.scan("posts:*")] == ["posts:index"]
        found = [key async for key in kv.scan("page:*")]
        assert sorted(found) == sorted(keys)

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("page:a*", ["page:a", "page:a*", "page:a/b", "page:a[1]"]),
            ("page:a\\*", ["page:a*"]),
            ("page:a\\[1\\]", ["page:a[1]"]),
            ("page:?", ["page:a", "page:b", "page:\\"]),
            ("page:??", ["page:a*", "page:ü"]),
            ("page:[ab]", ["page:a", "page:b"]),
            ("page:[^b]", ["page:a", "page:\\"]),
            ("page:[b-z]", ["page:b"]),
            ("page:\\\\", ["page:\\"]),
            ("PAGE:a", []),
            ("page", []),
        ],
    )
    async def test_patterns(self, store: Store, pattern: str, expected: list[str]) -> None:
        """Patterns mean what they mean to Redis, in the embedded file too."""
        kv = await owned(store)
        keys = ["page:a", "page:b", "page:a/b", "page:a*", "page:a[1]", "page:ü", "page:\\", "posts:index"]
        assert await kv.apply([Write(key, "1") for key in keys], ME)
        assert await all_keys(kv, pattern) == sorted(expected)


class TestOwnership:
    """One writer."""

    async def test_record_survives(self, store: Store) -> None:
        """An owner's record is read back as it was written, released or not."""
        kv = await owned(store)
        assert await kv.read_owner() == ME
        released = replace(ME, released=True, daemon_id="d-ü", heartbeat=0.0)
        assert await kv.apply([], released)
        assert await kv.read_owner() == released

    async def test_claim_needs_the_expected_token(self, store: Store) -> None:
        """A claim succeeds only against the token that is there."""
        kv = await owned(store)
        second = replace(ME, token=8, daemon_id="d-2")
        assert not await kv.claim(second, None)
        assert not await kv.claim(second, replace(ME, token=6))
        assert await kv.read_owner() == ME
        renewed = replace(ME, heartbeat=ME.heartbeat + 60)
        assert await kv.apply([], renewed)
        assert await kv.claim(second, ME), "a heartbeat since does not matter, the token does"
        assert await kv.read_owner() == second

    async def test_largest_token(self, store: Store) -> None:
        """The largest allowed token and its neighbour are told apart."""
        kv = store.open()
        largest, neighbour = replace(ME, token=2**53), replace(ME, token=2**53 - 1)
        assert await kv.claim(largest, None)
        assert not await kv.apply([], neighbour)
        assert await kv.apply([], largest)
        with pytest.raises(ValueError, match="2\\*\\*53"):
            replace(ME, token=2**53 + 1)

    @pytest.mark.parametrize("garbage", GARBAGE)
    async def test_garbage_is_nobody(self, store: Store, garbage: str) -> None:
        """A record that cannot be read counts as absent: nobody's batch applies, and it can be claimed."""
        kv = store.open()
        await kv.ping()
        store.put(OWNER_KEY, garbage)
        assert await kv.read_owner() is None
        assert not await kv.apply([Write("page:a", "1")], ME)
        assert not await kv.claim(ME, replace(ME, token=0))
        assert await kv.get("page:a") is None
        assert await kv.claim(ME, None)
        assert await kv.read_owner() == ME

    @pytest.mark.parametrize(
        "record",
        [
            '{ "released": 0, "token" : 7 }',
            '{"token":7.0,"heartbeat":"soon"}',
            '{"token":7e0,"daemonId":null}',
            '{"token":7,"x":"a\nb"}',
            '{"token":7,"heartbeat":NaN}',
        ],
    )
    async def test_foreign_record_with_a_token(self, store: Store, record: str) -> None:
        """A record written otherwise still owns the store if its token can be read."""
        kv = store.open()
        await kv.ping()
        store.put(OWNER_KEY, record)
        seen = await kv.read_owner()
        assert seen is not None
        assert (seen.token, seen.heartbeat, seen.released) == (7, 0.0, False)
        assert not await kv.claim(replace(ME, token=8), None)
        assert await kv.apply([], ME)
        assert await kv.claim(replace(ME, token=8), seen)

    async def test_one_of_many_claims_wins(self, store: Store) -> None:
        """Of claims at the same moment from different clients exactly one succeeds."""
        claims = [replace(ME, token=10 + number) for number in range(8)]
        clients = [store.open() for _ in claims]
        for expected in (None, ME):
            if expected:
                store.put(OWNER_KEY, ME.to_json())
            won = await asyncio.gather(
                *(client.claim(claim, expected) for client, claim in zip(clients, claims, strict=True))
            )
            assert sum(won) == 1
            assert await clients[0].read_owner() == claims[won.index(True)]


class TestBatches:
    """A batch is applied whole, or not at all."""

    async def test_sets_and_deletes_together(self, store: Store) -> None:
        """New values, deletions and the renewed owner arrive in one command."""
        kv = await owned(store)
        assert await kv.apply([Write("page:old", '"old"'), Write("page:same", '"1"')], ME)
        before = kv.commands
        renewed = replace(ME, heartbeat=ME.heartbeat + 1)
        writes = [Write("page:old", None), Write("page:new", '"new"'), Write("page:never", None)]
        assert await kv.apply(writes, renewed)
        assert kv.commands == before + 1
        assert await all_keys(kv) == ["page:new", "page:same"]
        assert await kv.get_many(["page:new", "page:same"]) == ['"new"', '"1"']
        assert await kv.read_owner() == renewed

    async def test_nothing_when_the_token_moved_on(self, store: Store) -> None:
        """When somebody else owns the store, a batch changes nothing at all."""
        kv = await owned(store)
        assert await kv.apply([Write("page:a", '"1"')], ME)
        newer = replace(ME, token=8, daemon_id="d-2")
        assert await store.open().claim(newer, ME)
        writes = [Write("page:a", None), Write("page:b", '"2"'), Write(OWNER_KEY, "{}")]
        assert not await kv.apply(writes, replace(ME, heartbeat=ME.heartbeat + 1))
        assert await kv.get_many(["page:a", "page:b"]) == ['"1"', None]
        assert await kv.read_owner() == newer

    async def test_nothing_without_an_owner(self, kv: KV) -> None:
        """Without a record nobody writes."""
        assert not await kv.apply([Write("page:a", "1")], ME)
        assert await all_keys(kv) == []
        assert await kv.read_owner() is None

    async def test_the_later_write_to_a_key_counts(self, store: Store) -> None:
        """Of two writes to one key in a batch the later one stands, deletion or not."""
        kv = await owned(store)
        writes = [
            Write("a", "1"),
            Write("b", None),
            Write("a", None),
            Write("b", "2"),
            Write("c", "3"),
            Write("c", "4"),
        ]
        assert await kv.apply(writes, ME)
        assert await kv.get_many(["a", "b", "c"]) == [None, "2", "4"]

    async def test_a_batch_cannot_replace_the_owner(self, store: Store) -> None:
        """Whatever a batch holds, the owner's record afterwards is the owner's."""
        kv = await owned(store)
        for value in ("{}", None):
            assert await kv.apply([Write(OWNER_KEY, value), Write("a", "1")], ME)
            assert await kv.read_owner() == ME

    async def test_empty_batch_renews(self, store: Store) -> None:
        """A batch without writes is a heartbeat: one command, one record."""
        kv = await owned(store)
        before = kv.commands
        assert await kv.apply([], replace(ME, heartbeat=1.5))
        owner = await kv.read_owner()
        assert owner is not None
        assert owner.heartbeat == 1.5
        assert kv.commands == before + 2

    async def test_readers_see_whole_batches(self, store: Store) -> None:
        """Two keys written together always show the same version to a reader."""
        kv, reader = await owned(store), store.open()
        assert await kv.apply([Write("a", "0"), Write("b", "0")], ME)

        async def write() -> None:
            for version in range(1, 40):
                assert await kv.apply([Write("a", str(version)), Write("b", str(version))], ME)

        writing = asyncio.create_task(write())
        seen = set()
        while not writing.done():
            first, second = await reader.get_many(["a", "b"])
            assert first == second
            seen.add(first)
        await writing
        assert len(seen) > 1, "the reader never ran beside the writer"

    async def test_thousands_of_deletions(self, store: Store) -> None:
        """A batch of 5,000 keys is one command like any other."""
        kv = await owned(store)
        keys = [f"page:{number}" for number in range(5000)]
        assert await kv.apply([Write(key, "1") for key in keys], ME)
        assert await kv.apply([Write(key, None) for key in keys], ME)
        assert await all_keys(kv) == []

    async def test_counters(self, store: Store) -> None:
        """Commands and bytes are counted: keys, values and the owner's record."""
        kv = await owned(store)
        before = kv.bytes_written
        assert before >= len(ME.to_json())
        assert await kv.apply([Write("page:ü", '"' + "x" * 1000 + '"'), Write("page:b", None)], ME)
        record_bytes = len(OWNER_KEY) + len(ME.to_json())
        assert kv.bytes_written - before == 7 + 1002 + 6 + record_bytes
        assert kv.commands == 2


class TestPrefix:
    """Several sites in one store."""

    @pytest.mark.parametrize("prefix", ["site:", "a*", "[b]?\\", "ü:"])
    async def test_a_prefix_is_a_world_of_its_own(self, store: Store, prefix: str) -> None:
        """With a prefix nothing of the others is seen or touched, and keys look as if there were none."""
        plain, prefixed = await owned(store), await owned(store, prefix)
        assert await plain.apply([Write("page:a", '"plain"')], ME)
        assert await prefixed.apply([Write("page:a", '"prefixed"')], replace(ME, heartbeat=1.0))
        assert await plain.get_many(["page:a", f"{prefix}page:a"]) == ['"plain"', '"prefixed"']
        assert await prefixed.get("page:a") == '"prefixed"'
        assert await all_keys(prefixed) == ["page:a"]
        assert await prefixed.digests(["page:a"]) == [hashlib.sha1(b'"prefixed"').hexdigest()]
        assert await plain.read_owner() == ME
        assert Owner.from_json(await plain.get(prefix + OWNER_KEY)) == replace(ME, heartbeat=1.0)


class TestWritable:
    """The writing test."""

    async def test_leaves_nothing(self, store: Store) -> None:
        """It is one command, writes no bytes of its own, and what is in the store stays as it is.

        Fails when its key is set and not deleted.
        """
        kv, prefixed = await owned(store), store.open("site:")
        assert await kv.apply([Write("page:a", '"1"')], ME)
        before = (kv.commands, kv.bytes_written)
        await kv.check_writable()
        await prefixed.check_writable()
        assert (kv.commands, kv.bytes_written) == (before[0] + 1, before[1])
        assert sorted([key async for key in kv.scan("*")]) == sorted([OWNER_KEY, "page:a"])
        assert await kv.get("page:a") == '"1"'
        assert await kv.read_owner() == ME

    async def test_needs_no_owner(self, store: Store) -> None:
        """An empty store passes and stays empty."""
        kv = store.open()
        await kv.check_writable()
        assert [key async for key in kv.scan("*")] == []


class TestWriteBatches:
    """Cutting writes into batches."""

    def test_bounds_and_order(self) -> None:
        """Batches stay within the bound, keep the order, and a larger value goes alone."""
        sizes = [400, 400, 150, 10, 2000, 10, 990, 5, 5]
        writes = [Write(f"{number:05}", "x" * (size - 5)) for number, size in enumerate(sizes)]
        cut = [[write.size_bytes for write in batch] for batch in batches(writes, 1000)]
        assert cut == [[400, 400, 150, 10], [2000], [10, 990], [5, 5]]

    def test_nothing(self) -> None:
        """No writes, no batch."""
        assert list(batches([])) == []
        assert list(grouped_batches([[], []])) == []

    def test_bytes_not_characters(self) -> None:
        """Sizes are counted in UTF-8."""
        writes = [Write("ü", "한" * 100), Write("ü", "한" * 100)]
        assert [len(batch) for batch in batches(writes, 603)] == [1, 1]
        assert [len(batch) for batch in batches(writes, 604)] == [2]

    def test_groups_stay_together(self) -> None:
        """What belongs together is never cut, even when it is larger than a batch."""
        groups = [[Write("a", "x" * 600), Write("b", None)], [Write("c", "x" * 600), Write("d", "x" * 600)]]
        cut = [[write.key for write in batch] for batch in grouped_batches(groups, 1000)]
        assert cut == [["a", "b"], ["c", "d"]]

    @given(
        st.lists(st.builds(Write, st.text(max_size=5), st.none() | st.text(max_size=50))), st.integers(1, 200)
    )
    def test_any_writes(self, writes: list[Write], max_bytes: int) -> None:
        """Nothing is lost or reordered, and only a batch of one passes the bound."""
        cut = list(batches(writes, max_bytes))
        assert [write for batch in cut for write in batch] == writes
        for batch in cut:
            assert len(batch) == 1 or sum(write.size_bytes for write in batch) <= max_bytes
        for batch, following in pairwise(cut):
            assert sum(write.size_bytes for write in [*batch, following[0]]) > max_bytes


class TestOwnerRecord:
    """The record's text."""

    @given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
    def test_any_text(self, text: str) -> None:
        """Reading never fails: any text is an owner or nobody."""
        assert Owner.from_json(text) is None or isinstance(Owner.from_json(text), Owner)

    def test_an_error_reads_as_two_sentences(self) -> None:
        """An error says what happened and what to do, and keeps a long quotation short."""
        error = KVError("The store said: " + "x" * 5000)
        assert len(error.cause) == 300
        assert str(error) == f"{error.cause}. {error.hint}"
