"""notion-kv-sync: keeps a website's key-value store exactly equal to what is written in Notion."""

__version__ = "0.1.0"
