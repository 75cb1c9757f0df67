"""`qmodal acl`: the rule of Redis for the user that a process logs in as."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from qmodal.cli.commands.rights.roles import ADMIN, ADMIN_PURPOSE, ROLES
from qmodal.exception import ConfigurationError

_PURPOSES = {name: role.purpose for name, role in ROLES.items()} | {ADMIN: ADMIN_PURPOSE}
_LISTED = "\b\n" + "\n".join(f"{name:<11} {purpose}" for name, purpose in _PURPOSES.items())


@click.command(
    no_args_is_help=True,
    help=f"""Print the line of an ACL file that lets a user of Redis do what ROLE needs, and no more.

{_LISTED}

The line has a digest of a password, which is made now and shown on standard error, or read from a file.""",
)
@click.argument("role", type=click.Choice(list(_PURPOSES)))
@click.option("--user", help="The user's name; without it qmodal-ROLE.")
@click.option("--prefix", help="What all keys begin with (QMODAL_PREFIX).")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the password from this file.",
)
def acl(role: str, user: str | None, prefix: str | None, password_file: Path | None) -> None:
    """Print a line; nothing is sent to a server."""
    import os

    from qmodal.cli.commands.rights.rules import line
    from qmodal.config import Settings
    from qmodal.store.keys import Keys

    environ = {"QMODAL_PREFIX": prefix or os.environ.get("QMODAL_PREFIX", "")}
    name = user or f"{Settings.from_environ(environ).prefix}-{role}"
    if not name.isascii() or not name.isprintable() or any(each in name for each in " \"'"):
        raise ConfigurationError(f"--user is {name!r}; write a name without spaces and quotes.")
    password = secrets.token_urlsafe(24) if password_file is None else _password(password_file)
    click.echo(line(role, name, password, Keys(Settings.from_environ(environ).prefix)))
    if password_file is None:
        click.echo(f"{name}:{password}", err=True)


def _password(file: Path) -> str:
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--password-file {file} cannot be read: {getattr(error, 'strerror', error)}."
        ) from None
    if not text:
        raise ConfigurationError(f"--password-file {file} is empty; write the password into it.")
    return text
