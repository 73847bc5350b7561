"""Copies of the files that Notion hosts: fetched once, kept in a store, and addressed for as long as they are shown."""

from daemon.assets.files import Files, open_store

__all__ = ["Files", "open_store"]
