"""Options that several commands take, each spelled and explained once."""

from __future__ import annotations

import click

as_module = click.option(
    "-m", "as_module", is_flag=True, help="The reference is a module, not a file."
)
environment = click.option("-e", "--env", "environment", help="The app's environment.")
listed_name = click.option("-n", "--name", help="What lists call the app.")
timestamps = click.option(
    "--timestamps", is_flag=True, help="Put the time in front of each line of output."
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
metrics_port = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve metrics for Prometheus on this port (QMODAL_METRICS_PORT).",
)
log_json = click.option(
    "--log-json", is_flag=True, help="Write the log as an object of JSON on each line."
)
