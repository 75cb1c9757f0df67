"""`qmodal token new`, `list` and `revoke`: who may send requests to guarded web functions."""

from __future__ import annotations

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import NotFoundError


@click.group()
def token() -> None:
    """Make and revoke tokens for web functions with `requires_proxy_auth`."""


@token.command()
@click.option("--note", default="", metavar="TEXT", help="What it is for, as lists show it.")
def new(note: str) -> None:
    """Make a token and print the two headers that requests need. The secret is shown only now."""
    from qmodal.client.client import current

    client = current()
    # The arguments of a command may hold half a character.
    text = note.encode(errors="backslashreplace").decode()
    made = client.run(client.tokens.create(text))
    echo(f"Modal-Key: {made.key}")
    echo(f"Modal-Secret: {made.secret}")
    echo("The secret is not kept anywhere: write it down now.", err=True)


@token.command("list")
@options.as_json
def listed(as_json: bool) -> None:
    """List the tokens; the secrets are not kept."""
    from qmodal.client.client import current
    from qmodal.store.server import server_ms

    client = current()
    now = client.run(server_ms())
    rows = [
        {
            "token": each.key,
            "age": round(max(0.0, now - each.created) / 1000, 3),
            "note": each.name,
        }
        for each in client.run(client.tokens.all())
    ]
    columns: Columns = {"token": str, "age": age, "note": str}
    show(rows, columns, as_json=as_json)


@token.command(no_args_is_help=True)
@options.yes
@click.argument("token_id", metavar="TOKEN")
def revoke(token_id: str, yes: bool) -> None:
    """Revoke a token: gateways refuse it within a few seconds."""
    from qmodal.client.client import current

    client = current()
    if not yes:
        confirm(f"Revoke {token_id}?")
    if not client.run(client.tokens.revoke(token_id)):
        raise NotFoundError(f"there is no token {token_id}; `qmodal token list` shows them.")
    echo(f"Revoked {token_id}")
