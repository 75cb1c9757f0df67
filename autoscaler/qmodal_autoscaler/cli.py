"""`qmodal autoscaler`: decide how many containers each pool has."""

from __future__ import annotations

import click


@click.command()
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
def autoscaler(*, insecure: bool) -> None:
    """Scale pools until SIGTERM or Ctrl-C. Several may run: one leads, the others stand by."""
    import asyncio
    import logging
    import os
    from dataclasses import replace

    from qmodal.client.client import Client, resolve
    from qmodal.config import Settings
    from qmodal.embedded.credentials import withdraw
    from qmodal.exception import ConfigurationError
    from qmodal_autoscaler.process import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.from_environ(os.environ)
        settings = replace(settings, insecure=settings.insecure or insecure)
        settings = resolve(settings)
        withdraw(settings)
        asyncio.run(run(Client(settings)))
    except ConfigurationError as error:
        click.echo(f"qmodal autoscaler: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    autoscaler()
