"""`qmodal call`: find calls, show one with its inputs, cancel it, and run again what has failed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import NotFoundError

if TYPE_CHECKING:
    from qmodal.cli.commands.finding.calls import FoundCall, Wanted
    from qmodal.cli.commands.finding.details import CallDetails, InputDetails
    from qmodal.client.client import Client
    from qmodal.store.results.failures import Failure
    from qmodal.transport.operation import Op

# Calls that are looked through for one whose id begins so.
MOST_SEARCHED = 10_000
_WANTED = ("failed", "running", "waiting")


@click.group()
def call() -> None:
    """Find calls, show them, cancel them, and run again what has failed."""


@call.command("list")
@options.app
@options.environment
@options.function
@click.option("--running", "wanted", flag_value="running", help="With inputs that containers hold.")
@click.option("--waiting", "wanted", flag_value="waiting", help="With inputs that wait.")
@click.option("--failed", "wanted", flag_value="failed", help="With inputs that have failed.")
@options.since
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@options.as_json
def listing(
    app: str | None,
    environment: str | None,
    function: str | None,
    wanted: Wanted | None,
    since: int,
    limit: int,
    as_json: bool,
) -> None:
    """List calls, the newest first: how many inputs failed, run and wait, and why the last one failed."""
    from qmodal.client.client import current

    client = current()
    rows = client.run(_rows(client, app, environment, function, wanted, since, limit))
    show(rows, _COLUMNS, as_json=as_json)


_COLUMNS: Columns = {
    "call": str,
    "app": str,
    "function": str,
    "state": str,
    "failed": str,
    "running": str,
    "waiting": str,
    "age": age,
    "container": str,
    "reason": lambda text: text if len(text) <= 80 else f"{text[:79]}…",
}


def _rows(
    client: Client,
    app: str | None,
    environment: str | None,
    function: str | None,
    wanted: Wanted | None,
    since: int,
    limit: int,
) -> Op[list[dict[str, Any]]]:
    from qmodal.cli.commands.finding.calls import CallFinder
    from qmodal.cli.commands.finding.scope import app_names, scope_of

    scope = yield from scope_of(
        client, app=app, environment=environment, function=function, since=since
    )
    found = yield from CallFinder(client, scope, limit).find(wanted)
    names = yield from app_names(client, (each.app for each in found))
    yield from _add_reasons(client, [each for each in found if each.waiting and each.pool])
    return [_row(each, names.get(each.app, each.app)) for each in found]


def _add_reasons(client: Client, waiting: list[FoundCall]) -> Op[None]:
    """Say why these calls wait, unless it is said already why an input of theirs has failed."""
    from qmodal.cli.commands.finding.scope import observed
    from qmodal.client.waiting.why import fleet_state, reason_of

    if not waiting:
        return
    seen = yield from observed(client, {each.pool for each in waiting})
    state = yield from fleet_state(client.fleet, client.boxes, client.server)
    shorts = {pool: reason_of(each, state).short for pool, each in seen.items()}
    for call in waiting:
        call.reason = call.reason or shorts.get(call.pool, "")


def _row(found: FoundCall, app: str) -> dict[str, Any]:
    return {
        "call": found.call,
        "app": app,
        "function": found.function,
        "state": found.state,
        "failed": found.failed,
        "running": found.running,
        "waiting": found.waiting,
        "age": round(max(0.0, time.time() - found.created / 1000), 3),
        "container": found.container,
        "reason": found.reason,
    }


@call.command("show", no_args_is_help=True)
@click.argument("which", metavar="ID")
@click.option("--index", type=click.IntRange(0), help="Show this input.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=10, show_default=True)
@options.as_json
def showing(which: str, index: int | None, limit: int, as_json: bool) -> None:
    """Show a call: its inputs, failed ones first, with traceback, arguments, result and output.

    ID is that of a call or of an input, or the beginning of a call's.
    """
    from qmodal.client.client import current

    client = current()
    found, inputs = client.run(_details(client, which, index, limit))
    if as_json:
        from qmodal.cli.commands.finding.details import as_plain

        echo(json.dumps(as_plain(found, inputs), indent=2))
        return
    for line in _lines(found, inputs):
        echo(line)


def _details(
    client: Client, which: str, index: int | None, limit: int
) -> Op[tuple[CallDetails, list[InputDetails]]]:
    from qmodal.cli.commands.finding.details import completed

    name, of_input = yield from resolve(client, which)
    index = of_input if index is None else index
    found = yield from known(client, name)
    if index is not None and index not in found.inputs:
        raise NotFoundError(f"Nothing is known of an input {index} of call {name}.")
    order = {"running": 1, "waiting": 2, "delayed": 2, "succeeded": 3}
    chosen = [
        each
        for each in sorted(found.inputs.values(), key=lambda i: (order.get(i.state, 0), i.index))
        if index in (None, each.index)
    ]
    inputs: dict[int, InputDetails] = {}
    for each in chosen[:limit]:
        inputs[each.index] = yield from completed(client, found, each)
    return found, list(inputs.values())


def known(client: Client, call: str) -> Op[CallDetails]:
    """What is known of the call; raises NotFoundError if that is nothing."""
    from qmodal.cli.commands.finding.details import details_of

    found = yield from details_of(client, call)
    if found is None:
        raise NotFoundError(
            f"Nothing is known of call {call}: it was delivered, has expired, or never existed. Of calls "
            "whose caller has the result, only failures are kept, for a week and for each function about "
            "the last thousand."
        )
    return found


def _lines(found: CallDetails, inputs: list[InputDetails]) -> Iterator[str]:
    yield from _head(found)
    for each in inputs:
        yield ""
        yield from _input_lines(each)
    left = len(found.inputs) - len(inputs)
    if left > 0:
        yield ""
        yield f"{left} other inputs are known: --index shows one, --limit more of them."
    if found.children:
        yield ""
        yield "Calls that its inputs made, and those that ran them again:"
        yield from (f"  input {index}  {child}" for index, child in found.children)


def _head(found: CallDetails) -> Iterator[str]:
    from qmodal.cli.commands.finding.details import as_plain

    record, about = found.record, as_plain(found, ())
    yield f"call      {found.call}"
    yield f"app       {found.app_name} ({found.app})"
    yield f"function  {about['function']}"
    if about["pool"]:
        yield f"pool      {about['pool']}"
    if about["created"]:
        seconds = time.time() - about["created"] / 1000
        yield f"created   {_moment(about['created'])} ({age(seconds)} ago)"
    failed = f"{len(found.failures)} failed"
    if record is None:
        yield f"inputs    {failed}; the rest is gone: its results were delivered, or have expired"
    else:
        yield f"inputs    {failed}, {record.settled} of {record.submitted} have ended"
    if found.waits:
        yield f"waits     {found.waits}"
    if found.is_cancelled:
        yield "state     cancelled"
    if about["parent"]:
        yield f"made by   {about['parent']}"


def _input_lines(details: InputDetails) -> Iterator[str]:
    said = f"{details.state}: {details.reason}" if details.reason else details.state
    yield f"input {details.index}  {said}"
    yield f"  arguments  {details.arguments}"
    if details.result is not None:
        yield f"  result     {details.result}"
    if details.container:
        yield f"  container  {details.container}"
    if details.started:
        yield f"  started    {_moment(details.started)}, took {details.took / 1e6:.3f} s"
    if details.retries is not None:
        yield f"  attempts   {details.retries} retries and {details.lost} lost deliveries before"
    yield from _indented("traceback", details.traceback.splitlines())
    together = "printed meanwhile by its container"
    yield from _indented(together if details.is_printed_together else "printed", details.printed)


def _indented(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}:"
        yield from (f"    {line}" for line in lines)


def _moment(millis: int) -> str:
    from qmodal.store.history.logs import moment_of

    return moment_of(millis).astimezone().isoformat(sep=" ", timespec="milliseconds")


@call.command(no_args_is_help=True)
@click.argument("which", metavar="ID")
@options.yes
def cancel(which: str, yes: bool) -> None:
    """Cancel a call: what waits is dropped, and what runs is interrupted."""
    from qmodal.client.client import current

    client = current()
    name, _ = client.run(resolve(client, which))
    record = client.run(client.calls.record(name))
    if record is None:
        raise NotFoundError(f"Call {name} was delivered, has expired, or never existed.")
    if record.is_finished:
        echo(f"{name} has ended already")
        return
    left = record.submitted - record.settled
    if not yes:
        confirm(f"Cancel {name}, of which {left} inputs have not ended?")
    running = client.run(client.calls.cancel(name))
    client.run(client.calls.tell_cancelled(running))
    echo(f"Cancelled {name}: {len(running)} of its inputs ran or were about to")


@call.command(no_args_is_help=True)
@click.argument("which", metavar="ID")
@click.option("--index", type=click.IntRange(0), help="This input only.")
@options.yes
def retry(which: str, index: int | None, yes: bool) -> None:
    """Run the failed inputs of a call again, each as a new call with the same arguments."""
    from qmodal.client.client import current

    client = current()
    failures = client.run(_failed(client, which, index))
    if len(failures) > 1 and not yes:
        confirm(f"Run {len(failures)} inputs again?")
    for failure in failures:
        echo(client.run(_again(client, failure)))


def _again(client: Client, failure: Failure) -> Op[str]:
    from qmodal.cli.commands.finding.inputs import UnreadableError
    from qmodal.cli.commands.finding.rerun import run_again
    from qmodal.wire.ids import input_id

    name = input_id(failure.call, failure.index)
    if not failure.envelope:
        raise UnreadableError(f"{name} cannot be run again: its arguments were too large to keep")
    try:
        new = yield from run_again(client, failure.envelope, failure.index)
    except UnreadableError as error:
        raise UnreadableError(f"{name} cannot be run again: {error}") from error
    return f"{name} runs again as {new}"


def _failed(client: Client, which: str, index: int | None) -> Op[list[Failure]]:
    name, of_input = yield from resolve(client, which)
    index = of_input if index is None else index
    found = yield from known(client, name)
    failures = [each for each in found.failures if index in (None, each.index)]
    if not failures:
        what = f"call {name}" if index is None else f"input {index} of call {name}"
        raise NotFoundError(
            f"No failure of {what} is known; `qmodal call show {name}` says what became of it."
        )
    return failures


def resolve(client: Client, which: str) -> Op[tuple[str, int | None]]:
    """The id of the call that is meant, and the index if it is that of an input.

    Raises NotFoundError for what is no id, for the beginning of none, and for that of several.
    """
    from qmodal.wire.ids import input_of, is_call_id

    if which.startswith("in-"):
        name, _, index = which.rpartition("-")
        if is_call_id(f"fc-{name[3:]}") and index.isdecimal() and len(index) < 10:
            return input_of(which)
    if which.startswith("fc-"):
        if is_call_id(which) and (yield from client.calls.record(which)) is not None:
            return which, None
        return (yield from _by_beginning(client, which)), None
    raise NotFoundError(
        f"'{which}' is not the id of a call, which begins with fc-, or of an input (in-); "
        "`qmodal call list` shows them."
    )


def _by_beginning(client: Client, which: str) -> Op[str]:
    from qmodal.cli.commands.finding.calls import CallFinder
    from qmodal.cli.commands.finding.scope import Scope
    from qmodal.wire.ids import is_call_id

    found = yield from CallFinder(client, Scope(), MOST_SEARCHED).find(None)
    names = sorted({each.call for each in found if each.call.startswith(which)})
    if len(names) == 1 or which in names:
        return which if which in names else names[0]
    if not names and is_call_id(which):
        return which  # whoever looks for it says that nothing is known of it
    if not names:
        raise NotFoundError(f"No call begins with '{which}'; `qmodal call list` shows those known.")
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    raise NotFoundError(f"{len(names)} calls begin with '{which}': {shown}. Give more of the id.")
