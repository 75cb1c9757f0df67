"""A worker as a service: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmodal.config import Settings
    from qmodal_workers.agent.session import WorkerOptions

GRACE_SECONDS = 25.0
KEPT_TEMPLATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The options of `qmodal worker`; `memory` in bytes, None: all that there is."""

    cpus: float | None = None
    memory: int | None = None
    max_containers: int | None = None
    labels: tuple[str, ...] = ()
    grace: float = GRACE_SECONDS
    templates: int = KEPT_TEMPLATES
    gpus: str | None = None
    insecure: bool = False
    metrics_port: int | None = None
    log_json: bool = False
    log_level: str = "info"


def serve(options: ServiceOptions = ServiceOptions()) -> None:
    """Run containers on this machine; exits with 2, and says why, if it cannot with these options and settings."""
    from qmodal.client.client import Client
    from qmodal.client.streams import open_missing
    from qmodal.exception import ConfigurationError
    from qmodal_workers.worker import run

    open_missing()  # before anything is forked
    try:
        settings = _settings(options)
        run(
            Client(settings),
            _worker_options(options, settings),
            options.metrics_port or settings.metrics_port,
            log_json=options.log_json,
            log_level=options.log_level,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal worker: {error}\n")
        raise SystemExit(2) from None


def _settings(options: ServiceOptions) -> Settings:
    """The settings of the environment, checked; raises ConfigurationError."""
    import os
    from dataclasses import replace

    from qmodal.client.client import resolve
    from qmodal.config import Settings
    from qmodal.embedded.credentials import receiving, withdraw
    from qmodal.embedded.folder import check_home

    settings = Settings.from_environ(os.environ)
    settings = replace(settings, insecure=settings.insecure or options.insecure)
    if settings.redis_url is None or settings.signing_key is None:
        settings = resolve(settings)
    check_home(settings.home)  # where it unpacks the code of apps
    withdraw(settings)  # before anything is forked
    return receiving(settings)  # nothing that runs here may publish


def _worker_options(options: ServiceOptions, settings: Settings) -> WorkerOptions:
    """What the worker is to be on this machine; raises ConfigurationError."""
    from qmodal_workers.agent.box.machine import machine
    from qmodal_workers.agent.box.offered import offered
    from qmodal_workers.agent.session import WorkerOptions
    from qmodal_workers.devices.offered import GpuOption

    have = machine()
    if options.cpus is not None and options.cpus > have.cpus:
        sys.stderr.write(
            f"qmodal worker: --cpus offers {options.cpus:g} CPUs, and this process may use {have.cpus:g}: "
            "containers that compute at once will share them\n"
        )
    return WorkerOptions(
        offered=offered(
            have, cpus=options.cpus, memory=options.memory, max_containers=options.max_containers
        ),
        templates=options.templates,
        gpus=GpuOption.parse(settings.gpus if options.gpus is None else options.gpus),
        labels=options.labels,
        grace=options.grace,
    )
