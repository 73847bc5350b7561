"""The one door to the key-value store that the site reads: Upstash REST, a plain Redis, or our own file.

`RedisKV` and `UpstashKV` are in modules of their own, so that a daemon loads the client of its own store only.
"""

from daemon.kv.base import (
    KV,
    MAX_BATCH_BYTES,
    OWNER_KEY,
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnauthorized,
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
    batches,
    grouped_batches,
)
from daemon.kv.embedded import EmbeddedKV

__all__ = [
    "KV",
    "MAX_BATCH_BYTES",
    "OWNER_KEY",
    "EmbeddedKV",
    "KVError",
    "KVQuotaExceeded",
    "KVReadOnly",
    "KVUnauthorized",
    "KVUnavailable",
    "KVValueTooLarge",
    "Owner",
    "Write",
    "batches",
    "grouped_batches",
]
