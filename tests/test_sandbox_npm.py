"""Notion's own JavaScript client uses the sandbox as it uses Notion."""

import json

import pytest

from daemon.demo import blocks as b
from daemon.demo.sandbox import Sandbox
from tests.support.node import run_script


@pytest.mark.parametrize("version", ["2025-09-03", "2026-03-11"])
async def test_the_official_client_drives_the_sandbox(version: str) -> None:
    """Every endpoint that both have, with the client's own type guards, paging and error codes."""
    sandbox = Sandbox(seed=3)
    workspace = sandbox.workspace
    page = workspace.create_page(None, "Root")
    database, rows = workspace.create_database(page, "Rows", {"slug": "rich_text"})
    for number in range(5):
        workspace.add_row(rows, f"Row {number}", blocks=[b.paragraph("text")])
    async with sandbox.serve() as url:
        ids = json.dumps({"database": database, "dataSource": rows, "page": page})
        seen = await run_script("drive_sandbox.cjs", url, version, ids)
    assert seen == {
        "me": "bot",
        "database": [rows],
        "dataSource": ["Name", "slug"],
        "rows": 5,
        "recent": True,
        "made": True,
        "title": "Made by the client",
        "property": "list",
        "appended": True,
        "text": "edited",
        "left": 2,
        "found": True,
        "moved": True,
        "trashed": True,
        "missing": "object_not_found",
        "invalid": "validation_error",
        "codes": ["object_not_found", "validation_error"],
    }
