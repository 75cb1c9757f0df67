"""`qmodal why`: says why a pool, a call or a box does what it does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.exception import NotFoundError

if TYPE_CHECKING:
    from qmodal.cli.commands.finding.why.answer import Answer
    from qmodal.client.client import Client
    from qmodal.store.watch.observing import Observation
    from qmodal.transport.operation import Op


@click.command(no_args_is_help=True)
@click.argument("which", metavar="POOL|CALL|WORKER")
@options.app
@options.environment
@options.as_json
def why(which: str, app: str | None, environment: str | None, as_json: bool) -> None:
    """Say why something waits, and what to do: a pool, a call, or a box.

    A pool is named by its id, the beginning of that, or what it serves: f, Cls(size=3), app/f. A call by its id (fc-…)
    or the beginning of that, an input by its id (in-…), a box by the id of its worker (wk-…) or its host.
    """
    from qmodal.client.client import current

    client = current()
    answer = client.run(_answer(client, which, app, environment))
    if as_json:
        echo(json.dumps(answer.as_plain(), indent=2))
        return
    for line in answer.lines():
        echo(line)


def _answer(client: Client, which: str, app: str | None, environment: str | None) -> Op[Answer]:
    from qmodal.cli.commands.finding.why.box import why_box
    from qmodal.cli.commands.finding.why.pool import why_pool
    from qmodal.cli.commands.services.box_view import find
    from qmodal.client.waiting.why import fleet_state

    state = yield from fleet_state(client.fleet, client.boxes, client.server)
    if which.startswith(("fc-", "in-")):
        from qmodal.cli.commands.finding.call import resolve
        from qmodal.cli.commands.finding.why.call import why_call

        call, index = yield from resolve(client, which)
        return (yield from why_call(client, call, index, state))
    if which.startswith("wk-"):
        return (yield from why_box(client, (yield from find(client, which)).worker, state))
    try:
        seen = yield from _pool(client, which, app, environment)
    except NotFoundError as unknown:
        try:
            box = yield from find(client, which)
        except NotFoundError:
            raise unknown from None
        return (yield from why_box(client, box.worker, state))
    return (yield from why_pool(client, seen, state))


def _pool(client: Client, which: str, app: str | None, environment: str | None) -> Op[Observation]:
    from qmodal.cli.commands.finding.pools import find_pool
    from qmodal.cli.commands.finding.scope import scope_of

    if app is None and "/" in which:
        app, _, which = which.rpartition("/")
    scope = yield from scope_of(client, app=app, environment=environment, function=None, since=0)
    return (yield from find_pool(client, which, scope))
