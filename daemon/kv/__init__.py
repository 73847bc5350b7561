"""The one door to the key-value store that the site reads: Upstash REST, a plain Redis, or our own file."""

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
from daemon.kv.redis import RedisKV
from daemon.kv.upstash import UpstashKV

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
    "RedisKV",
    "UpstashKV",
    "Write",
    "batches",
    "grouped_batches",
]
