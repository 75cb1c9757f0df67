"""`qmodal autoscaler`: decide how many containers each pool has."""

from __future__ import annotations

from typing import Any

import click

from qmodal.cli.options import log_json, metrics_port
from qmodal_autoscaler.service import SHORTAGE_SECONDS, serve


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
@click.option(
    "--on-shortage",
    metavar="COMMAND",
    help="Run this program, without a shell, while containers wait for room that no box has; what is wanted is JSON on "
    "its standard input.",
)
@click.option(
    "--on-shortage-every",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=SHORTAGE_SECONDS,
    show_default=True,
    help="Not again before so many seconds have passed.",
)
@log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
def autoscaler(**given: Any) -> None:
    """Scale pools until SIGTERM or Ctrl-C. Several may run: one leads, the others stand by."""
    serve(**given)


if __name__ == "__main__":
    autoscaler()
