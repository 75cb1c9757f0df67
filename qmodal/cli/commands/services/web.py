"""`qmodal web`: serve the web functions of all apps over HTTP."""

from __future__ import annotations

from typing import Any

import click

from qmodal.cli.options import log_json, metrics_port


@click.command()
@click.option(
    "--host",
    metavar="ADDR",
    help="The address to listen on; 127.0.0.1, or 0.0.0.0 where PORT is set.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="The TCP port; PORT, or 8000.")
@click.option("--url", metavar="URL", help="Where others reach it (QMODAL_WEB_URL).")
@click.option(
    "--trusted-proxies",
    metavar="ADDR[,ADDR]",
    help="Addresses or networks of proxies that may say who the client is and which scheme it uses.",
)
@click.option("--access-log", is_flag=True, default=None, help="Write a line for each request.")
@metrics_port
@log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
@click.option("--fd", type=click.IntRange(min=0), hidden=True, help="An inherited socket.")
def web(
    host: str | None,
    port: int | None,
    url: str | None,
    trusted_proxies: str | None,
    fd: int | None,
    *,
    insecure: bool,
    **reporting: Any,
) -> None:
    """Serve web functions over HTTP until SIGTERM or Ctrl-C. Several may run."""
    from qmodal.services.gateway.options import Reporting
    from qmodal.services.gateway.service import serve

    serve(
        host=host,
        port=port,
        url=url,
        trusted_proxies=trusted_proxies,
        reporting=Reporting(**reporting),
        insecure=insecure,
        fd=fd,
    )
