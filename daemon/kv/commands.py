"""A store that is spoken to in Redis commands: all but the transport, which Upstash and Redis each add."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

from daemon.kv.base import OWNER_KEY, PROBE_KEY, KVUnavailable, Owner, Write
from daemon.kv.glob import glob_escaped

Command = list[str | int]
Item = TypeVar("Item")

KEYS_PER_GET = 50  # values may be large, and a store bounds what one answer may hold
KEYS_PER_DIGEST = 300
KEYS_PER_SCAN = 1000

# The token in the owner's record as a text; '' for nobody, as is a record that is absent or not readable.
_CURRENT_TOKEN = """
local function current_token()
  local text = redis.pcall('GET', KEYS[1])
  if type(text) ~= 'string' then return '' end
  local readable, owner = pcall(cjson.decode, text)
  if not readable or type(owner) ~= 'table' then return '' end
  local token = owner['token']
  if type(token) ~= 'number' or token ~= math.floor(token) then return '' end
  if token < 0 or token > 9007199254740992 then return '' end
  return string.format('%.0f', token)
end
if current_token() ~= ARGV[1] then return 0 end
"""

_CLAIM = f"""{_CURRENT_TOKEN}
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# A full store refuses a script at its first SET: nothing is half applied. Deletions come when the new values
# are in, the owner's record last: so a batch of deletions alone still goes through when the store is full.
_APPLY = f"""{_CURRENT_TOKEN}
local sets = tonumber(ARGV[3])
for i = 1, sets do redis.call('SET', KEYS[1 + i], ARGV[3 + i]) end
for i = 2 + sets, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

_DIGESTS = """
local digests = {}
for i = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[i])
  digests[i] = type(value) == 'string' and redis.sha1hex(value) or false
end
return digests
"""


# Redis checks permission, memory and role before it sees that there is nothing to overwrite or to delete.
_PROBE = """
redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], '', 'XX')
redis.call('DEL', KEYS[1])
return 1
"""


class CommandKV(ABC):
    """The store's behaviour in Redis commands. One call of `claim` or `apply` is one command (`EVAL`)."""

    name: str

    def __init__(self, prefix: str = "") -> None:
        self.commands = 0
        self.bytes_written = 0
        self._prefix = prefix

    @abstractmethod
    async def _execute(self, command: Command, size_bytes: int) -> object:
        """Send one command (about `size_bytes` long) and return its answer; raises `KVError`."""

    @abstractmethod
    async def close(self) -> None:
        """Give connections back."""

    async def ping(self) -> None:
        await self._send(["PING"])

    async def get(self, key: str) -> str | None:
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> list[str | None]:
        texts: list[str | None] = []
        for some in _chunks(keys, KEYS_PER_GET):
            # MGET, even for one key: a key of another type is no text of ours rather than an error.
            answer = await self._send(["MGET", *map(self._full, some)])
            texts += _texts(answer, len(some))
        return texts

    async def read_owner(self) -> Owner | None:
        return Owner.from_json(await self.get(OWNER_KEY))

    async def claim(self, owner: Owner, expected: Owner | None) -> bool:
        token = "" if expected is None else str(expected.token)
        return await self._run_fenced(_CLAIM, token, owner, [], [])

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        last = {write.key: write.value for write in writes}
        sets = {key: value for key, value in last.items() if value is not None}
        deletions = [key for key, value in last.items() if value is None]
        keys, values = [*sets, *deletions], list(sets.values())
        return await self._run_fenced(_APPLY, str(owner.token), owner, keys, values)

    async def digests(self, keys: Sequence[str]) -> list[str | None]:
        digests: list[str | None] = []
        for some in _chunks(keys, KEYS_PER_DIGEST):
            answer = await self._send(["EVAL", _DIGESTS, len(some), *map(self._full, some)])
            digests += _texts(answer, len(some))
        return digests

    async def check_writable(self) -> None:
        await self._send(["EVAL", _PROBE, 1, self._full(PROBE_KEY)])

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        full_pattern = glob_escaped(self._prefix) + pattern
        seen: set[str] = set()  # the store may show a key twice while it reorganises itself
        cursor = "0"
        while True:
            answer = await self._send(["SCAN", cursor, "MATCH", full_pattern, "COUNT", KEYS_PER_SCAN])
            cursor, keys = _scan_answer(answer)
            for key in keys:
                if key not in seen:
                    seen.add(key)
                    yield key.removeprefix(self._prefix)
            if cursor == "0":
                return

    async def _run_fenced(
        self, script: str, token: str, owner: Owner, keys: Sequence[str], values: Sequence[str]
    ) -> bool:
        """Run a script that answers 1 (done) or 0 (the stored token is not `token`).

        `values` belong to the first of `keys`. EVAL, not EVALSHA, so that it is one command always.
        """
        record = owner.to_json()
        full_keys = [self._full(key) for key in (OWNER_KEY, *keys)]
        self.bytes_written += sum(len(part.encode()) for part in (*full_keys, record, *values))
        arguments = [token, record, str(len(values)), *values]
        answer = await self._send(["EVAL", script, len(full_keys), *full_keys, *arguments])
        if answer not in (0, 1):
            raise KVUnavailable(f"The store answered a script with {type(answer).__name__} instead of 0 or 1")
        return answer == 1

    async def _send(self, command: Command) -> object:
        self.commands += 1
        size_bytes = sum(len(part) for part in command if isinstance(part, str))
        return await self._execute(command, size_bytes)

    def _full(self, key: str) -> str:
        return self._prefix + key


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _texts(answer: object, count: int) -> list[str | None]:
    """Check that an answer is a list of `count` texts or nulls."""
    if not isinstance(answer, list) or len(answer) != count:
        raise KVUnavailable(f"The store did not answer with a list of {count}")
    texts: list[str | None] = []
    for item in answer:
        if item is not None and not isinstance(item, str):
            raise KVUnavailable(f"The store answered with {type(item).__name__} where a text was due")
        texts.append(item)
    return texts


def _scan_answer(answer: object) -> tuple[str, list[str]]:
    """Cursor and keys of a SCAN; the client libraries give the cursor as a number, the wire as a text."""
    match answer:
        case [int() | str() as cursor, list() as keys]:
            return str(cursor), [key for key in keys if isinstance(key, str)]
    raise KVUnavailable("The store answered SCAN with something else than a cursor and keys")
