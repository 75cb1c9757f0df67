"""`qmodal autoscaler`: decide how many containers each pool has."""

from __future__ import annotations

import click

from qmodal_autoscaler.service import serve


@click.command()
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
def autoscaler(*, insecure: bool) -> None:
    """Scale pools until SIGTERM or Ctrl-C. Several may run: one leads, the others stand by."""
    serve(insecure=insecure)


if __name__ == "__main__":
    autoscaler()
