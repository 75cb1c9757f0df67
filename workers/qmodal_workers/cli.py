"""`qmodal worker`: offer this machine to the pools."""

from __future__ import annotations

import click


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
    default=25.0,
    show_default=True,
    help="Seconds that running inputs get to finish after SIGTERM.",
)
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
def worker(
    max_containers: int | None, labels: tuple[str, ...], grace: float, *, insecure: bool
) -> None:
    """Run containers on this machine until SIGTERM or Ctrl-C; a second one does not wait."""
    import os
    from dataclasses import replace

    from qmodal.cli.streams import open_missing
    from qmodal.client.client import Client, resolve
    from qmodal.config import Settings
    from qmodal.embedded.credentials import withdraw
    from qmodal.exception import ConfigurationError
    from qmodal_workers.agent.session import WorkerOptions, cpus
    from qmodal_workers.worker import run

    open_missing()  # before anything is forked
    try:
        settings = Settings.from_environ(os.environ)
        settings = replace(settings, insecure=settings.insecure or insecure)
        if settings.redis_url is None or settings.signing_key is None:
            settings = resolve(settings)
        withdraw(settings)  # before anything is forked
        options = WorkerOptions(
            max_containers=max_containers or 16 * cpus(), labels=labels, grace=grace
        )
        run(Client(settings), options)
    except ConfigurationError as error:
        click.echo(f"qmodal worker: {error}", err=True)
        raise SystemExit(2) from None
