"""The commands: they read the settings, call the parts and speak to people. Exit codes: 0 done, 1 failed, 2 usage."""

import asyncio
import io
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from daemon import __version__, jsontext, log
from daemon.app import App, stop_signals
from daemon.clock import SystemClock
from daemon.config import ENV_FILE, Settings, SettingsError, examine_settings, load_settings
from daemon.doctor import Doctor, Finding, Level, conclusion, exit_code
from daemon.handover import HandoverError, Order, Result, carry_out
from daemon.kv.base import KVError
from daemon.ledger import meta, removals, tasks, work
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.meta import Fact
from daemon.ledger.removals import Held
from daemon.ledger.tasks import Kind, Role, Worker
from daemon.notion.errors import NotionError
from daemon.oneshot import Verification, sync_until_done
from daemon.oneshot import verify as verify_site
from daemon.progress import Progress
from daemon.status import full
from daemon.status_text import called, print_status
from daemon.sync.rulebook import RuleError

T = TypeVar("T")
FAILED = 1
USAGE = 2

cli = typer.Typer(
    name="notion-kv-sync",
    help="Keeps a website's key-value store exactly equal to what is written in Notion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database = typer.Typer(help="The ledger's database.", no_args_is_help=True)
cli.add_typer(database, name="db")


def main() -> None:
    """The installed command."""
    cli()


@cli.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@cli.command()
def run() -> None:
    """Run the daemon: keep the store in step with Notion until told to stop."""
    settings = _settings()

    async def daemon() -> None:
        app, stop = App(settings), asyncio.Event()
        async with stop_signals(stop):
            try:
                await app.open()
                await app.run(stop)
            finally:
                await app.close()

    _finish(daemon())


@cli.command()
def sync(
    force: Annotated[bool, typer.Option(help="Read everything again and rewrite every key.")] = False,
    only: Annotated[str | None, typer.Option(help="pages, posts, children, or the name of a source.")] = None,
) -> None:
    """Bring the store in step with Notion until nothing is left to do, then end."""
    settings = _settings(log_to=sys.stderr)
    known = {"children", *(source.name for source in settings.sources)}
    if only is not None and only not in known:
        _complain([f"--only {only}: there is no such part; choose one of {', '.join(sorted(known))}"])
        raise typer.Exit(USAGE)

    everything = force or settings.force_full_sync

    async def alone(app: App, stop: asyncio.Event) -> Result:
        with Progress(app, Console(stderr=True)) as progress:
            problem = await sync_until_done(app, stop, force=everything, only=only)
            await progress.refresh()
        return Result(problem)

    _carry_out(settings, Kind.SYNC, {"force": everything, "only": only, "sweep": only is None}, alone)
    print("In step with Notion." if only is None else f"{only} is in step with Notion.")


@cli.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what the ledger knows: sources, pages, what failed and why. Asks neither Notion nor the store."""
    settings = _settings(log_to=sys.stderr)

    async def look() -> dict[str, Any]:
        app = App(settings)
        try:
            await app.ledger.open()
            app.cycle.site = await app.ledger.call(app.cycle.compose_only)
            if await app.ledger.call(meta.get, Fact.FIRST_SYNC_AT) is not None:
                app.vitals.became_ready.set()
            workers = await app.ledger.call(tasks.present, app.clock.now().timestamp())
            return {**await full(app), **_seen_from_outside(workers)}
        finally:
            await app.api.close()
            await app.kv.close()
            await app.ledger.close()

    known = _finish(look())
    if as_json:
        print(jsontext.dumps(known))
    else:
        print_status(known)


def _seen_from_outside(workers: Sequence[Worker]) -> dict[str, Any]:
    """What the ledger tells of the daemon on it; how that is it says itself, at `/status`."""
    daemons = [worker for worker in workers if worker.role is Role.DAEMON]
    state = "not running" if not daemons else "standby" if all(d.standby for d in daemons) else "at work"
    reason = None if daemons else "No daemon is at work on this ledger."
    nothing = dict.fromkeys(("healthy", "uptimeSeconds", "lastSuccess", "lastCycle"))
    return {"state": state, "reason": reason, **nothing}


@cli.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Have what differs mended.")] = False,
) -> None:
    """Compare store, ledger and Notion, and say what differs; without --repair nothing is changed.

    The store: every key against the hash of what was written to it, and what else lies among the keys.
    Notion: every row, every child page and every list of child pages against what the ledger read, by stamp, place
    and computed values; not the blocks of pages whose stamp did not move.
    """
    settings = _settings(log_to=sys.stderr)

    async def examine() -> Verification:
        app = App(settings)
        try:
            await app.ledger.open()
            return await verify_site(app, repair=repair)
        finally:
            await app.close()

    if not _print_verification(_finish(examine()), repair=repair):
        raise typer.Exit(FAILED)


@cli.command()
def republish() -> None:
    """Write every key again from the ledger alone, without a request to Notion."""

    async def alone(app: App, _: asyncio.Event) -> Result:
        count = await app.cycle.republish()
        if not count and not (await app.ledger.call(work.backlog, app.api.notion_now())).total:
            return Result("This ledger knows no page yet, so nothing was written. Run `sync` first.")
        return Result(await app.cycle.shortfall(reading=False), {"written": {"keys": count}})

    result = _carry_out(_settings(log_to=sys.stderr), Kind.REPUBLISH, {}, alone)
    print(f"{sum(result.numbers['written'].values())} keys written")


@cli.command("confirm-removals")
def confirm_removals(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let go what is held because too much disappeared at once. Shows it and asks first."""
    settings = _settings(log_to=sys.stderr)
    waiting = _finish(_held(settings))
    if not waiting:
        print("Nothing is held.")
        return
    for one in waiting:
        print(f"{one.kind} {called(one.title, one.slug)}: {one.reason}")
        for title, slug in one.rows:
            print(f"    {called(title, slug)}")
    count = sum(one.count for one in waiting)
    if not yes and not sys.stdin.isatty():
        _complain(["Nothing was removed: there is no terminal to ask on. Confirm with --yes."])
        raise typer.Exit(FAILED)
    if not yes and not typer.confirm(f"Remove these {count}, and everything under them, from the site?"):
        raise typer.Exit(FAILED)
    keys = [one.key for one in waiting]

    async def alone(app: App, _: asyncio.Event) -> Result:
        await app.ledger.call(removals.let_go, keys)
        await app.cycle.republish(everything=False)
        return Result(await app.cycle.shortfall(reading=False))

    _carry_out(settings, Kind.CONFIRM_REMOVALS, {"held": keys}, alone)
    print(f"{count} removed.")


async def _held(settings: Settings) -> list[Held]:
    """What waits to be confirmed."""
    app = App(settings)
    try:
        await app.ledger.open()
        if not await app.ledger.call(tasks.present, app.clock.now().timestamp()):
            await app.follow_settings()
        return await app.ledger.call(removals.held)
    finally:
        await app.close()


@cli.command()
def doctor() -> None:
    """Look at settings, token, sources, ledger, store and port, and say how to mend what is wrong. Changes nothing."""
    settings, problems = examine_settings(os.environ, ENV_FILE)
    log.setup_logging("critical", settings.log_format, stream=sys.stderr)
    log.register_secrets(settings.secret_values())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are of any script, terminals are not

    async def examine() -> int:
        found: list[Finding] = []
        async for finding in Doctor(settings, problems, SystemClock()).findings():
            found.append(finding)
            _print_finding(finding)
        print(f"\n{conclusion(found)}")
        return exit_code(found, problems)

    code = _finish(examine())
    if code:
        raise typer.Exit(code)


@cli.command()
def demo(
    sandbox_only: Annotated[bool, typer.Option("--sandbox-only", help="Only the sample Notion.")] = False,
    seconds: Annotated[float | None, typer.Option(help="End by itself after so long.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Where to serve (default: 8080; the Notion alone: 8081)."),
    ] = None,
) -> None:
    """Watch the whole daemon at work on a sample workspace: no account anywhere."""
    from daemon.demo.show import show, show_sandbox  # noqa: PLC0415 - nobody else pays for loading the sandbox

    _finish(show_sandbox(port or 8081, seconds) if sandbox_only else show(port or 8080, seconds))


@database.command("upgrade")
def upgrade() -> None:
    """Bring the ledger to this version's tables. The daemon does so by itself when it starts."""
    settings = _settings(need=(), log_to=sys.stderr)

    async def migrate() -> None:
        ledger = Ledger(settings.ledger_database_url.get_secret_value())
        try:
            await ledger.open()
        finally:
            await ledger.close()

    _finish(migrate())
    print("The ledger is up to date.")


# Shared by the commands --------------------------------------------------------------------------------------


def _settings(
    *, need: tuple[Literal["notion", "kv"], ...] = ("notion", "kv"), log_to: Any = None
) -> Settings:
    """The settings, with logging set up; a wrong one ends the process with exit code 2 and a line a problem."""
    try:
        settings = load_settings(os.environ, ENV_FILE, need=need)
    except SettingsError as error:
        _complain(error.problems)
        raise typer.Exit(USAGE) from None
    log.setup_logging(settings.log_level, settings.log_format, stream=log_to)
    log.register_secrets(settings.secret_values())
    return settings


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; an error that a person can do something about becomes one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except (LedgerError, KVError, HandoverError, OSError) as error:
        _complain([str(error)])
    except NotionError as error:
        _complain([f"{error} {error.hint}"])
    except RuleError as error:
        _complain(error.problems)
        raise typer.Exit(USAGE) from None
    raise typer.Exit(FAILED)


def _carry_out(
    settings: Settings,
    kind: Kind,
    options: dict[str, Any],
    alone: Callable[[App, asyncio.Event], Awaitable[Result]],
) -> Result:
    """Have it done, here or by the daemon that lives; what went wrong is said, and ends with exit code 1."""

    async def work() -> Result:
        app, stop = App(settings), asyncio.Event()
        async with stop_signals(stop):
            try:
                order = Order(kind, options, partial(alone, app, stop))
                return await carry_out(app, stop, order, Console(stderr=True))
            finally:
                await app.close()

    result = _finish(work())
    if result.problem is not None:
        _complain([result.problem])
        raise typer.Exit(FAILED)
    return result


def _complain(problems: Any) -> None:
    for problem in problems:
        print(log.redact(problem), file=sys.stderr)


_LOOKS = {Level.OK: ("✓", "green"), Level.NOTE: ("!", "yellow"), Level.PROBLEM: ("✗", "bold red")}


def _print_finding(finding: Finding) -> None:
    """Two lines at most, and a value to be copied on a line of its own; coloured on a terminal, else plain."""
    symbol, style = _LOOKS[finding.level]
    console = Console(highlight=False, soft_wrap=True)
    if not console.encoding.lower().startswith("utf"):
        symbol = "-"
    console.print(Text(f"{symbol} {finding.level:<8}", style), Text(finding.about, "bold"), end="  ")
    console.print(Text(log.redact(finding.what)))
    if finding.todo:
        console.print(Text(f"{'':12}{log.redact(finding.todo)}"))
    if finding.shown:
        console.print(Text(f"{'':12}{finding.shown}"))


def _print_verification(done: Verification, *, repair: bool) -> bool:
    """A line for each difference, then a summary. Out: whether all is well now."""
    for difference in done.found.differences:
        print(f"{difference.kind:<9} {difference.name}  {difference.told}")
    count = sum(1 for difference in done.found.differences if difference.counts)
    compared = f"{done.found.keys} keys and {done.found.pages} pages compared"
    if not count:
        print(f"{compared}: everything agrees.")
    elif not repair:
        print(f"{compared}: {count} differ. `verify --repair` mends what can be mended.")
    else:
        by = " (the running daemon, which owns the store, was asked to mend them)" if done.by_owner else ""
        print(f"{compared}: {count} differed{by}, {len(done.left)} are left.")
    if repair and count:
        for difference in done.left:
            print(f"left: {difference.kind:<9} {difference.name}  {difference.told}")
    return not done.left
