"""`demo`: the whole daemon at work on the sample workspace, which edits itself, with no account anywhere."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daemon import log
from daemon.app import App, stop_signals
from daemon.clock import SystemClock
from daemon.config import load_settings
from daemon.demo.editor import Editor
from daemon.demo.habits import Habits
from daemon.demo.sample import Sample, build
from daemon.demo.sandbox import Sandbox
from daemon.kv.token import embedded_kv_token
from daemon.progress import Progress
from daemon.sync.cycle import Summary
from daemon.web.server import listener

TOKEN = "ntn_sandbox"
EDIT_SECONDS = 8.0
FIRST_EDIT_AFTER_SECONDS = 3.0
STAMP_SECONDS = 5
"""The sample's stamps are this coarse (Notion's: a minute), so that settling can be watched too."""
TIMES = {
    "POLL_INTERVAL_SECONDS": "2",
    "SWEEP_INTERVAL_SECONDS": "20",
    "EDIT_GRANULARITY_SECONDS": str(STAMP_SECONDS),
    "SETTLE_SLACK_SECONDS": "1",
    "FEED_LAG_SECONDS": "2",
    "HEARTBEAT_SECONDS": "60",
    "NOTION_REQUESTS_PER_MINUTE": "600",
}


async def show(port: int, seconds: float | None = None) -> None:
    """Serve on `port` until told to stop, or for so many seconds. Raises OSError when the port is taken."""
    _try_port(port)
    console = Console(soft_wrap=True)
    stop = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="notion-kv-sync-demo-") as folder:
        async with stop_signals(stop), _sample(0) as (url, sandbox, sample):
            secret = secrets.token_urlsafe(24)
            app = App(load_settings(_environment(url, sample, folder, port, secret)))
            log.setup_logging("warning", "auto")
            try:
                await app.open()
                await _narrate(app, sandbox, sample, console, stop, seconds)
            finally:
                await app.close()


async def show_sandbox(port: int, seconds: float | None = None) -> None:
    """Only the sample workspace, for any client of Notion's API. Raises OSError when the port is taken."""
    _try_port(port)
    stop = asyncio.Event()
    async with stop_signals(stop), _sample(port) as (url, _, sample):
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"A Notion in a box listens on {url}")
        console.print(f"NOTION_BASE_URL={url}\nNOTION_TOKEN={TOKEN}")
        console.print(f"NOTION_PAGES_DB={sample.pages_database}\nNOTION_POSTS_DB={sample.posts_database}")
        await _wait(stop, seconds)


def _try_port(port: int) -> None:
    """The daemon would name settings, which the demo does not read."""
    try:
        with listener("127.0.0.1", port):
            pass
    except OSError as error:
        reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
        raise OSError(f"Port {port} cannot be used ({reason}). Choose another with --port.") from error


@asynccontextmanager
async def _sample(port: int) -> AsyncIterator[tuple[str, Sandbox, Sample]]:
    sandbox = Sandbox(
        clock=SystemClock(), seed=1, token=TOKEN, habits=Habits(stamp_granularity_seconds=STAMP_SECONDS)
    )
    sample = build(sandbox.workspace)
    async with sandbox.serve(port=port) as url:
        yield url, sandbox, sample


def _environment(url: str, sample: Sample, folder: str, port: int, secret: str) -> dict[str, str]:
    return TIMES | {
        "NOTION_BASE_URL": url,
        "NOTION_TOKEN": TOKEN,
        "NOTION_PAGES_DB": sample.pages_database,
        "NOTION_POSTS_DB": sample.posts_database,
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(Path(folder)),
        "CRON_SECRET": secret,
        "PORT": str(port),
        "PUBLIC_URL": f"http://localhost:{port}",
    }


async def _narrate(
    app: App, sandbox: Sandbox, sample: Sample, console: Console, stop: asyncio.Event, seconds: float | None
) -> None:
    """The first sync with a progress bar, then the edits and what becomes of them, a line each."""
    clock = SystemClock()
    editor = Editor(sandbox.workspace, sample, clock)
    running = asyncio.create_task(app.run(stop))
    try:
        with Progress(app, console) as progress:
            first = asyncio.create_task(app.vitals.became_ready.wait())
            await asyncio.wait({running, first}, return_when=asyncio.FIRST_COMPLETED)
            first.cancel()
            await progress.refresh()
        if not running.done():
            _introduce(app, console)
            app.schedule.on_cycle = lambda summary: tell(summary, console)
            ending = asyncio.create_task(_wait(stop, seconds))
            editing = asyncio.create_task(_edit(editor, console, stop))
            await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await asyncio.gather(editing, ending)
    finally:
        stop.set()
        await running


async def _edit(editor: Editor, console: Console, stop: asyncio.Event) -> None:
    await _wait(stop, FIRST_EDIT_AFTER_SECONDS)
    await editor.run(EDIT_SECONDS, lambda said: console.print(f"[cyan]Notion[/]  {escape(said)}"), stop)


async def _wait(stop: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _introduce(app: App, console: Console) -> None:
    settings = app.settings
    secret = settings.cron_secret.get_secret_value() if settings.cron_secret else ""
    base = f"http://localhost:{settings.port}"
    console.print(f"[bold green]In step[/]: {app.vitals.last_summary and _keys(app)} keys in the store.\n")
    console.print(f"  The status page   {base}/?secret={secret}", highlight=False)
    console.print(f"  The store         KV_REST_API_URL={base}/kv", highlight=False)
    console.print(f"                    KV_REST_API_TOKEN={embedded_kv_token(settings)}", highlight=False)
    console.print("\nThe sample workspace edits itself now; Ctrl-C ends the demo.\n")


def _keys(app: App) -> int:
    return len(app.cycle.site.wanted) if app.cycle.site is not None else 0


def tell(summary: Summary, console: Console) -> None:
    """One line a cycle that did something."""
    if summary.problem:
        console.print(f"[red]trouble[/] {escape(summary.problem)}")
    if not (summary.written or summary.deleted):
        return
    parts = [_counted(count, kind) for kind, count in sorted(summary.written.items())]
    parts += [f"{summary.deleted} deleted"] if summary.deleted else []
    console.print(
        f"[green]store [/]  {', '.join(parts)}  ({summary.notion_requests} Notion requests, "
        f"{summary.duration_seconds:.2f} s)"
    )


def _counted(count: int, kind: str) -> str:
    """`1 page`, `2 indexes`."""
    return f"{count} {kind}" if count == 1 else f"{count} {kind}{'es' if kind == 'index' else 's'}"
