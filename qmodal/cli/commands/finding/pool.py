"""`qmodal pool`: list pools, show one, drop what waits in it, pause it, let it go on, and have it try again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.store.watch.reasons import WORDING, Kind

if TYPE_CHECKING:
    from qmodal.cli.commands.finding.pools import PoolView
    from qmodal.client.client import Client
    from qmodal.store.watch.observing import Observation
    from qmodal.transport.operation import Op

PURGED = "stopped: the input was dropped with all that waited in its pool"


@click.group()
def pool() -> None:
    """List pools and show them, drop what waits in one, pause one and let it go on."""


@pool.command("list")
@options.app
@options.environment
@options.as_json
def listing(app: str | None, environment: str | None, as_json: bool) -> None:
    """List the active pools: their containers, and the inputs that run, wait, or wait for a retry."""
    from qmodal.client.client import current

    client = current()
    show(client.run(_rows(client, app, environment)), _COLUMNS, as_json=as_json)


def short_of(kind: Kind) -> str:
    """A reason as lists have it; nothing if nothing has to wait."""
    return "" if kind in ("idle", "enough") else WORDING[kind].short


_COLUMNS: Columns = {
    "pool": str,
    "function": str,
    "app": str,
    "state": str,
    "containers": str,
    "running": str,
    "waiting": str,
    "delayed": str,
    "turn": str,
    "reason": short_of,
}


def _rows(client: Client, app: str | None, environment: str | None) -> Op[list[dict[str, Any]]]:
    from qmodal.cli.commands.finding.pools import pools_in
    from qmodal.cli.commands.finding.scope import scope_of

    scope = yield from scope_of(client, app=app, environment=environment, function=None, since=0)
    return [_row(each) for each in (yield from pools_in(client, scope))]


def _row(view: PoolView) -> dict[str, Any]:
    return {
        "pool": view.seen.pool,
        "function": view.seen.label,
        "app": view.app_name,
        "state": view.state,
        "containers": len(view.containers),
        "running": view.held,
        "waiting": view.waiting,
        "delayed": view.seen.delayed,
        "turn": view.turn,
        "reason": view.reason.kind,
    }


@pool.command("show", no_args_is_help=True)
@click.argument("which", metavar="POOL")
@options.app
@options.environment
@options.as_json
def showing(which: str, app: str | None, environment: str | None, as_json: bool) -> None:
    """Show a pool. POOL is an id, its beginning, or what it serves: f, Cls(size=3)."""
    from qmodal.client.client import current

    client = current()
    seen = client.run(_find(client, which, app, environment))
    about = client.run(_about(client, seen))
    if as_json:
        echo(json.dumps(about, indent=2))
        return
    for name, value in about.items():
        echo(f"{name.replace('_', ' '):<16}{_shown(name, value)}".rstrip())


def _about(client: Client, seen: Observation) -> Op[dict[str, Any]]:
    from dataclasses import asdict

    from qmodal.cli.commands.finding.pools import view_of
    from qmodal.cli.commands.finding.why.pool import sentence, terms_of
    from qmodal.store.results.failures import MOST_NOTED

    view = yield from view_of(client, seen)
    record = (yield from client.apps.records([seen.app])).get(seen.app)
    terms = yield from terms_of(client, seen.pool, record)
    queue = yield from client.observing.queue(seen.pool, count=1)
    failures = yield from client.failures.recent(seen.app, seen.function, count=MOST_NOTED)
    in_line = [each.since for each in queue if each.place == "waiting"]
    now = time.time() * 1000
    return {
        **_row(view),
        "why": sentence(seen.label, view.reason, seen.pool),
        "limits": [asdict(each) for each in terms.limits],
        "app_id": seen.app,
        "paused": round(max(0.0, now - seen.paused) / 1000, 3) if seen.paused else None,
        "oldest": round(max(0.0, now - min(in_line)) / 1000, 3) if in_line else None,
        "submitted": seen.submitted,
        "input_time": seen.service_time,
        "start_time": seen.start_time,
        "failures": sum(each.pool == seen.pool for each in failures),
        "states": {each.container: each.state for each in view.containers},
    }


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return _SHOWN.get(name, str)(value)


def _limits(plain: list[dict[str, Any]]) -> str:
    from qmodal.cli.commands.finding.why.pool import shown_limit
    from qmodal.spec.variant import Limit

    return f"\n{'':<16}".join(shown_limit(Limit(**each)) for each in plain) or "-"


def _since(seconds: float) -> str:
    return f"for {age(seconds)}"


_SHOWN: dict[str, Callable[[Any], str]] = {
    "turn": lambda turn: f"{turn}: all places on the boxes are taken" if turn else "-",
    "reason": lambda kind: short_of(kind) or "-",
    "limits": _limits,
    "paused": _since,
    "oldest": _since,
    "input_time": "{:.3f} s".format,
    "start_time": "{:.3f} s".format,
    "states": lambda states: ", ".join(f"{name} {state}" for name, state in states.items()) or "-",
}


@pool.command(no_args_is_help=True)
@click.argument("which", metavar="POOL")
@options.app
@options.environment
@options.yes
def purge(which: str, app: str | None, environment: str | None, yes: bool) -> None:
    """Drop the inputs that wait in a pool. What containers hold goes on. This cannot be undone."""
    from qmodal.client.client import current
    from qmodal.store.history.accounts import Accounts

    client = current()
    seen = client.run(_find(client, which, app, environment))
    view = client.run(_view(client, seen))
    waiting = view.waiting + seen.delayed
    if not yes:
        text = (
            f"Drop the {waiting} inputs that wait in {seen.label} of {view.app_name} [{seen.pool}]?"
        )
        confirm(text)
    ended = client.run(client.pools.purge(seen.pool, reason=PURGED, spare=True))
    client.run(Accounts(client.keys).add(seen.app, seen.function, {"purged": ended}))
    echo(f"Dropped {ended} inputs of {seen.label}; their callers get an error")


@pool.command(no_args_is_help=True)
@click.argument("which", metavar="POOL")
@options.app
@options.environment
def pause(which: str, app: str | None, environment: str | None) -> None:
    """Pause a pool: it gets no containers and its inputs wait, until `qmodal pool resume`."""
    from qmodal.cli.commands.finding.pools import paused_now
    from qmodal.client.client import current

    client = current()
    seen = client.run(_find(client, which, app, environment, opens=True))
    if seen.paused:
        echo(f"{seen.label} [{seen.pool}] is paused already")
        return
    client.run(client.observing.pause(seen.pool, since=paused_now()))
    # Active, and so seen by the autoscaler and in lists, also if it has nothing to do.
    client.run(client.pools.join(seen.pool))
    echo(f"Paused {seen.label} [{seen.pool}]: its containers end, and its inputs wait")


@pool.command(no_args_is_help=True)
@click.argument("which", metavar="POOL")
@options.app
@options.environment
def reset(which: str, app: str | None, environment: str | None) -> None:
    """Forget the failed starts of a pool, so that it tries again at once."""
    from qmodal.cli.commands.finding.pools import paused_now
    from qmodal.client.client import current

    client = current()
    seen = client.run(_find(client, which, app, environment))
    client.run(client.observing.reset(seen.pool, now=paused_now()))
    echo(f"Reset {seen.label} [{seen.pool}]: it may start containers at once")


@pool.command(no_args_is_help=True)
@click.argument("which", metavar="POOL")
@options.app
@options.environment
def resume(which: str, app: str | None, environment: str | None) -> None:
    """Let a paused pool have containers again."""
    from qmodal.client.client import current

    client = current()
    seen = client.run(_find(client, which, app, environment))
    if client.run(client.observing.resume(seen.pool)):
        echo(f"Resumed {seen.label} [{seen.pool}]")
    else:
        echo(f"{seen.label} [{seen.pool}] is not paused")


def _find(
    client: Client, which: str, app: str | None, environment: str | None, *, opens: bool = False
) -> Op[Observation]:
    from qmodal.cli.commands.finding.pools import find_pool
    from qmodal.cli.commands.finding.scope import scope_of

    scope = yield from scope_of(client, app=app, environment=environment, function=None, since=0)
    return (yield from find_pool(client, which, scope, opens=opens))


def _view(client: Client, seen: Observation) -> Op[PoolView]:
    from qmodal.cli.commands.finding.pools import view_of

    return (yield from view_of(client, seen))
