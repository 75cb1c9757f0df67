"""A worker as a service: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import sys

GRACE_SECONDS = 25.0
KEPT_TEMPLATES = 8


def serve(
    max_containers: int | None = None,
    labels: tuple[str, ...] = (),
    grace: float = GRACE_SECONDS,
    *,
    templates: int = KEPT_TEMPLATES,
    insecure: bool = False,
    metrics_port: int | None = None,
    log_json: bool = False,
    log_level: str = "info",
) -> None:
    """Run containers on this machine; exits with 2, and says why, if it cannot with these settings."""
    import os
    from dataclasses import replace

    from qmodal.client.client import Client, resolve
    from qmodal.client.streams import open_missing
    from qmodal.config import Settings
    from qmodal.embedded.credentials import receiving, withdraw
    from qmodal.embedded.folder import check_home
    from qmodal.exception import ConfigurationError
    from qmodal_workers.agent.session import WorkerOptions, cpus
    from qmodal_workers.worker import run

    open_missing()  # before anything is forked
    try:
        settings = Settings.from_environ(os.environ)
        settings = replace(settings, insecure=settings.insecure or insecure)
        if settings.redis_url is None or settings.signing_key is None:
            settings = resolve(settings)
        check_home(settings.home)  # where it unpacks the code of apps
        withdraw(settings)  # before anything is forked
        options = WorkerOptions(
            max_containers=max_containers or 16 * cpus(),
            templates=templates,
            labels=labels,
            grace=grace,
        )
        run(
            Client(receiving(settings)),  # nothing that runs here may publish
            options,
            metrics_port or settings.metrics_port,
            log_json=log_json,
            log_level=log_level,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal worker: {error}\n")
        raise SystemExit(2) from None
