"""`qmodal dead`: entries that no container will run: list and show them, put them in line again, or drop them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import NotFoundError

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.store.results.dead import DeadKind, DeadLetter
    from qmodal.transport.operation import Op

_KINDS = (
    click.option(
        "--failed", "kind", flag_value="failed", help="Inputs that lost too many containers."
    ),
    click.option(
        "--unprocessable", "kind", flag_value="unprocessable", help="What no container could open."
    ),
)


def _of_kind(command: Any) -> Any:
    for option in reversed(_KINDS):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """List what no container will run, show it, put it in line again, or drop it."""


@dead.command("list")
@options.app
@options.environment
@options.function
@_of_kind
@options.since
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@options.as_json
def listing(
    app: str | None,
    environment: str | None,
    function: str | None,
    kind: DeadKind | None,
    since: int,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, the newest first: failed ones, and those that nobody could process."""
    from qmodal.client.client import current

    client = current()
    rows = client.run(_rows(client, app, environment, function, kind, since))
    show(rows[:limit], _COLUMNS, as_json=as_json)


_COLUMNS: Columns = {
    "dead": str,
    "kind": str,
    "app": str,
    "function": str,
    "call": str,
    "index": str,
    "inputs": str,
    "age": age,
    "reason": lambda text: text if len(text) <= 80 else f"{text[:79]}…",
}


def _rows(
    client: Client,
    app: str | None,
    environment: str | None,
    function: str | None,
    kind: DeadKind | None,
    since: int,
) -> Op[list[dict[str, Any]]]:
    from qmodal.cli.commands.finding.scope import app_names, observed, scope_of

    scope = yield from scope_of(
        client, app=app, environment=environment, function=function, since=since
    )
    letters = yield from client.dead_letters.recent(since=since)
    letters = [each for each in letters if kind in (None, each.kind)]
    pools = yield from observed(client, {each.pool for each in letters if each.pool})
    names = yield from app_names(client, (each.app for each in pools.values()))
    rows = []
    for letter in letters:
        pool = pools.get(letter.pool)
        app_id, tag = (pool.app, pool.function) if pool else ("", "")
        if scope.has(app_id, tag):
            rows.append(_row(letter, names.get(app_id, app_id), pool.label if pool else ""))
    return rows


def _row(letter: DeadLetter, app: str, function: str) -> dict[str, Any]:
    claimed = letter.claimed
    return {
        "dead": letter.name,
        "kind": letter.kind,
        "app": app,
        "function": function,
        "call": claimed.call if letter.is_input else "",
        "index": claimed.first if letter.is_input else "",
        "inputs": claimed.size if letter.is_input else 0,
        "age": round(max(0.0, time.time() - letter.at / 1000), 3),
        "reason": letter.reason.strip().partition("\n")[0],
    }


@dead.command("show", no_args_is_help=True)
@click.argument("which", metavar="ID")
@options.as_json
def showing(which: str, as_json: bool) -> None:
    """Show a dead letter: why it is one, and what it holds as far as that can be read."""
    from qmodal.client.client import current

    client = current()
    about = client.run(_about(client, which))
    if as_json:
        echo(json.dumps(about, indent=2))
        return
    for name, value in about.items():
        first, *more = str(age(value) if name == "age" else value).splitlines() or [""]
        echo(f"{name:<12}{first}".rstrip())
        for line in more:
            echo(f"{'':<12}{line}")


def _about(client: Client, which: str) -> Op[dict[str, Any]]:
    from qmodal.cli.commands.finding.inputs import UnreadableError, opened, shown_arguments
    from qmodal.cli.commands.finding.scope import app_names, observed

    letter = yield from _find(client, which)
    pool = (yield from observed(client, [letter.pool])).get(letter.pool)
    names = yield from app_names(client, [pool.app] if pool else [])
    about = _row(letter, names.get(pool.app, "") if pool else "", pool.label if pool else "")
    about |= {"pool": letter.pool, "reason": letter.reason}
    if not letter.is_input:
        return about | {"entry": f"not written by qmodal: {letter.claimed.fields!r:.2000}"}
    claimed = letter.claimed
    about |= {"retries": claimed.retries, "lost": claimed.lost}
    try:
        opened(client, claimed.envelope)
    except UnreadableError as error:
        return about | {"entry": str(error)}
    arguments = yield from shown_arguments(client, claimed.envelope, claimed.first)
    return about | {"arguments": arguments}


@dead.command(no_args_is_help=True)
@click.argument("which", metavar="ID...", nargs=-1, required=True)
def requeue(which: tuple[str, ...]) -> None:
    """Run dead letters again: each input as a new call, as its caller has been told that it failed."""
    from qmodal.client.client import current

    client = current()
    for name in which:
        for line in client.run(_requeue(client, name)):
            echo(line)


def _requeue(client: Client, which: str) -> Op[list[str]]:
    from qmodal.cli.commands.finding.inputs import UnreadableError
    from qmodal.cli.commands.finding.rerun import run_again
    from qmodal.wire.ids import input_id

    letter = yield from _find(client, which)
    if not letter.is_input:
        raise UnreadableError(
            f"{which} holds no input of qmodal's; drop it with `qmodal dead drop`."
        )
    claimed, said = letter.claimed, dict[int, str]()
    for index in range(claimed.first, claimed.first + claimed.size):
        try:
            new = yield from run_again(client, claimed.envelope, index)
        except UnreadableError as error:
            raise UnreadableError(f"{which} cannot be run again: {error}") from error
        said[index] = f"{input_id(claimed.call, index)} runs again as {new}"
    yield from client.dead_letters.drop(letter)
    return list(said.values())


@dead.command(no_args_is_help=True)
@click.argument("which", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them, or all of a kind.")
@_of_kind
@options.yes
def drop(which: tuple[str, ...], everything: bool, kind: DeadKind | None, yes: bool) -> None:
    """Remove dead letters. This cannot be undone."""
    from qmodal.client.client import current

    if bool(which) == everything:
        raise click.UsageError("Give the ids of dead letters, or --all.")
    client = current()
    if everything:
        letters = client.run(client.dead_letters.recent())
        letters = [each for each in letters if kind in (None, each.kind)]
    else:
        letters = [client.run(_find(client, name)) for name in which]
    if letters and not yes:
        confirm(f"Drop {len(letters)} dead letters?")
    dropped = sum(client.run(client.dead_letters.drop(letter)) for letter in letters)
    echo(f"Dropped {dropped} dead letters")


def _find(client: Client, which: str) -> Op[DeadLetter]:
    letter = yield from client.dead_letters.find(which)
    if letter is None:
        raise NotFoundError(
            f"There is no dead letter '{which}', whose ids begin with dl-; `qmodal dead list` shows them."
        )
    return letter
