"""`qmodal key show`: the line with which a second machine joins."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from qmodal.cli.echo import echo
from qmodal.exception import ConfigurationError

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.transport.operation import Op


@click.group()
def key() -> None:
    """Show what a second machine needs."""


@key.command()
@click.option(
    "--publishing",
    is_flag=True,
    help="The variables of a machine that deploys: with the private publishing key.",
)
def show(publishing: bool) -> None:
    """Print the line that starts a worker on a second machine. It holds the secrets: keep it safe.

    Whoever has the signing key can call all functions and read their results. Whoever has the publishing key, too,
    can run code on all machines of this installation; without one the signing key is enough for that.
    """
    from qmodal.client.client import current

    client = current()
    url = client.run(reachable_url(client))
    signing_key = (client.settings.signing_key or b"").hex()
    if client.settings.insecure:
        echo("This installation runs with --insecure: its key is known to all.", err=True)
    line = f"QMODAL_REDIS_URL={shlex.quote(url)} QMODAL_SIGNING_KEY={signing_key}"
    if client.settings.prefix != "qmodal":
        line += f" QMODAL_PREFIX={client.settings.prefix}"
    if publishers := client.settings.publishers:
        line += f" QMODAL_PUBLISHERS={','.join(each.hex() for each in publishers)}"
    else:
        echo("No publishing key is set: whoever has the signing key may publish.", err=True)
    if not publishing:
        echo(f"{line} qmodal worker")
        return
    client.publisher.check()
    if client.settings.publishing_key is not None:
        line += f" QMODAL_PUBLISHING_KEY={client.settings.publishing_key.hex()}"
    echo(line)


def reachable_url(client: Client) -> Op[str]:
    """The server's URL as other machines may use it; ConfigurationError if they cannot reach it."""
    from qmodal.cli.commands.services.up import reachable
    from qmodal.client.discovery import is_near
    from qmodal.store.server import listens_on

    url = client.settings.redis_url or ""
    if not is_near(url):
        return url
    port, addresses = yield from listens_on()
    address = _outside(addresses)
    if not port or address is None:
        raise ConfigurationError(
            "the server only takes connections from this machine; start it as `qmodal up --bind "
            "ADDRESS`, or set QMODAL_REDIS_URL to an address that others can reach."
        )
    return f"redis://{_credentials(url)}{reachable(address)}:{port}"


def _outside(addresses: list[str]) -> str | None:
    """An address that is not this machine's own; a dash in front means that it is optional."""
    names = [address.removeprefix("-") for address in addresses]
    outside = [name for name in names if not name.startswith("127.") and name != "::1"]
    return outside[0] if outside else None


def _credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return ""
    return f"{parts.username or ''}:{parts.password}@"
