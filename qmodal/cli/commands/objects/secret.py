"""`qmodal secret create`, `list` and `delete`: variables that containers get by name. No command shows a value."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import InvalidError

STDIN = "-"
_environment = click.option("-e", "--env", "environment", help="The environment of the secret.")
_file = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.group()
def secret() -> None:
    """Store variables for functions with `Secret.from_name`; their values are encrypted, and never shown."""


@secret.command(no_args_is_help=True)
@click.argument("name")
@click.argument("given", metavar="[KEY=VALUE | KEY=- | KEY]...", nargs=-1)
@click.option("--from-dotenv", type=_file, help="Read variables from a dotenv file; `-`: stdin.")
@click.option("--from-json", type=_file, help="Read variables from an object in JSON; `-`: stdin.")
@click.option("--force", is_flag=True, help="Replace the secret if there is one of that name.")
@_environment
def create(
    name: str,
    given: tuple[str, ...],
    from_dotenv: str | None,
    from_json: str | None,
    force: bool,
    environment: str | None,
) -> None:
    """Store a secret.

    Others on this machine can see a value on the command line while the command runs, and your shell keeps it. `KEY=-`
    reads the value from standard input, and `KEY` alone asks for it without showing it.
    """
    from qmodal.client.client import current
    from qmodal.exception import AlreadyExistsError
    from qmodal.resources.env_files import check_stored
    from qmodal.spec.names import check_name

    check_name("Secret", name)
    _check_stdin([from_dotenv, from_json, *(each.partition("=")[2] for each in given)])
    variables = {**_from_dotenv(from_dotenv), **_from_json(from_json), **dict(_pairs(given))}
    check_stored(variables)
    if not variables:
        raise click.UsageError("A secret needs variables: KEY=VALUE, --from-dotenv or --from-json.")
    client = current()
    of = _checked(environment) or client.settings.environment
    if not client.run(client.secrets.create(of, name, variables, replace=force)):
        raise AlreadyExistsError(
            f"there is a secret {name} in environment {of} already; --force replaces it."
        )
    echo(f"Stored {name} with {', '.join(sorted(variables))}")


@secret.command("list")
@_environment
@options.as_json
def listed(environment: str | None, as_json: bool) -> None:
    """List the secrets of an environment, the newest first; values are not shown."""
    from qmodal.client.client import current
    from qmodal.store.server import server_ms

    client = current()
    of = _checked(environment) or client.settings.environment
    found = client.run(client.secrets.all(of))
    used = client.run(client.secrets.last_used(found))
    now = client.run(server_ms())
    rows = [
        {
            "name": each.name,
            "age": _ago(now, each.created),
            "changed": _ago(now, each.serial),
            "used": None if at is None else _ago(now, at),
        }
        for each, at in zip(found, used, strict=True)
    ]
    columns: Columns = {"name": str, "age": age, "changed": _since, "used": _since}
    show(rows, columns, as_json=as_json)


@secret.command(no_args_is_help=True)
@click.argument("name")
@click.option("--allow-missing", is_flag=True, help="It is no error if there is none.")
@_environment
@options.yes
def delete(name: str, allow_missing: bool, environment: str | None, yes: bool) -> None:
    """Delete a secret: functions that need it start no more containers."""
    from qmodal.client.client import current
    from qmodal.exception import NotFoundError
    from qmodal.spec.names import check_name

    check_name("Secret", name)
    client = current()
    of = _checked(environment) or client.settings.environment
    if not yes:
        confirm(f"Delete the secret {name} of environment {of}?")
    if client.run(client.secrets.delete(of, name)):
        echo(f"Deleted {name}")
    elif not allow_missing:
        raise NotFoundError(f"there is no secret {name} in environment {of}.")


def _checked(environment: str | None) -> str | None:
    from qmodal.spec.names import check_name

    if environment:
        check_name("Environment", environment)
    return environment


def _check_stdin(sources: Sequence[str | None]) -> None:
    if sources.count(STDIN) > 1:
        raise click.UsageError("Only one thing can be read from standard input.")


def _pairs(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The variables of the command line; no error shows an argument, which may be a value."""
    from qmodal.resources.env_files import is_key

    for number, each in enumerate(given, 1):
        key, equals, value = each.partition("=")
        if not is_key(key):
            raise click.UsageError(
                f"Variable {number} is none: give KEY=VALUE, KEY=- to read it from standard input, or KEY to be asked. A "
                "key has letters, digits and underscores, and no digit first."
            )
        if not equals:
            value = _asked(key)
        elif value == STDIN:
            value = sys.stdin.read().removesuffix("\n")
        yield key, value


def _asked(key: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{key} has no value, and there is no terminal to ask: {key}=-")
    value: str = click.prompt(key, hide_input=True)
    return value


def _from_dotenv(file: str | None) -> dict[str, str]:
    from qmodal.resources.env_files import parse_dotenv, read_dotenv

    if file is None:
        return {}
    return parse_dotenv(sys.stdin.read()) if file == STDIN else read_dotenv(Path(file))


def _from_json(file: str | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
        found: Any = json.loads(text)
    except (OSError, ValueError):  # whose text could show what is in it
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise InvalidError(f"{file} is no object in JSON whose values are strings.")
    return found


def _ago(now: float, then: int) -> float:
    """Seconds from a time in µs to the server's now in ms."""
    return round(max(0.0, now - then / 1000) / 1000, 3)


def _since(seconds: float | None) -> str:
    return "never" if seconds is None else f"{age(seconds)} ago"
