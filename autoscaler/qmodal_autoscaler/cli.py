"""`qmodal autoscaler`: decide how many containers each pool has."""

from __future__ import annotations

import click

from qmodal.cli.options import log_json, metrics_port
from qmodal_autoscaler.service import serve


@click.command()
@metrics_port
@click.option(
    "--pool-labels",
    metavar="[N]",
    type=click.IntRange(1, 10_000),
    is_flag=False,
    flag_value=100,
    help="Tell the first N (100) pools of a class apart in metrics, by their parameters.",
)
@log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
def autoscaler(
    metrics_port: int | None, pool_labels: int | None, *, log_json: bool, insecure: bool
) -> None:
    """Scale pools until SIGTERM or Ctrl-C. Several may run: one leads, the others stand by."""
    serve(insecure=insecure, metrics_port=metrics_port, pool_labels=pool_labels, log_json=log_json)


if __name__ == "__main__":
    autoscaler()
