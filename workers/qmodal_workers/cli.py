"""`qmodal worker`: offer this machine to the pools."""

from __future__ import annotations

import click

from qmodal.cli.options import log_json, log_level, metrics_port
from qmodal_workers.service import GRACE_SECONDS, KEPT_TEMPLATES, serve


@click.command()
@click.option(
    "--max-containers",
    type=click.IntRange(min=1),
    help="How many containers this worker runs at most; 16 for each CPU if not given.",
)
@click.option("--label", "labels", multiple=True, help="A label of this machine; may be repeated.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_SECONDS,
    show_default=True,
    help="Seconds that running inputs get to finish after SIGTERM.",
)
@click.option(
    "--templates",
    type=click.IntRange(min=0),
    default=KEPT_TEMPLATES,
    show_default=True,
    help="Of how many deployed apps it keeps the imported code at hand while nothing of them runs.",
)
@metrics_port
@log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
@log_level
def worker(
    max_containers: int | None,
    labels: tuple[str, ...],
    grace: float,
    templates: int,
    metrics_port: int | None,
    *,
    log_json: bool,
    insecure: bool,
    log_level: str,
) -> None:
    """Run containers on this machine until SIGTERM or Ctrl-C; a second one does not wait."""
    serve(
        max_containers,
        labels,
        grace,
        templates=templates,
        insecure=insecure,
        metrics_port=metrics_port,
        log_json=log_json,
        log_level=log_level,
    )
