"""`qmodal worker`: offer this machine to the pools."""

from __future__ import annotations

from typing import Any

import click

from qmodal.cli.options import Label, Size, log_json, log_level, metrics_port
from qmodal_workers.service import GRACE_SECONDS, KEPT_TEMPLATES, ServiceOptions, serve


@click.command()
@click.option(
    "--cpus",
    type=click.FloatRange(min=0.1),
    help="CPUs that it offers; all that there are by default.",
)
@click.option(
    "--memory",
    type=Size(),
    help="Memory that it offers, as 24GiB or in MiB; all that there is by default.",
)
@click.option(
    "--max-containers",
    type=click.IntRange(min=1),
    help="How many containers it runs at most; by default as many as its CPUs and memory carry.",
)
@click.option(
    "--label",
    "labels",
    type=Label(),
    multiple=True,
    help="A label of this machine, as zone=a; may be repeated.",
)
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
@click.option(
    "--gpus",
    help="GPUs that it offers: all that are found, if not given; a number of these; their UUIDs; none; or, without a "
    "driver that lists them, what there is: 4xA100.",
)
@metrics_port
@log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
@log_level
def worker(**given: Any) -> None:
    """Run containers on this machine until SIGTERM or Ctrl-C; a second one does not wait."""
    serve(ServiceOptions(**given))
