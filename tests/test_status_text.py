"""What `status` prints at a terminal."""

from pathlib import Path

import pytest

from daemon.status_text import print_status
from tests.support.web import SECRET, a_daemon, a_small_site

ODD = "Notes [/b] on [red]inks[/red] :smile:"


async def test_titles_are_printed_as_they_were_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails (with an error of the terminal library) when what stands in brackets is taken for markup."""
    async with a_daemon(tmp_path, site=a_small_site) as daemon:
        daemon.sandbox.workspace.create_linked_database(daemon.sample.pages["home"], ODD)
        await daemon.settle()
        known = (await daemon.http.get("/status", params={"secret": SECRET})).json()
        capsys.readouterr()
        print_status(known)
    told = capsys.readouterr().out
    assert "the site: 2 pages, 10 posts, 1 child page; 15 keys" in told
    assert "pages: 0 to read, 0 to settle, 0 failing" in told
    assert f"skipped: database {ODD}: " in told
