"""An autoscaler as a service: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from qmodal.client.discovery import discovered
from qmodal.config import Settings
from qmodal.embedded.credentials import withdraw
from qmodal.exception import ConfigurationError
from qmodal.telemetry.log_lines import begin_log
from qmodal.transport.sockets.endpoint import plain_endpoint

# Between two runs of the command of `--on-shortage`.
SHORTAGE_SECONDS = 60.0


def serve(
    *,
    insecure: bool = False,
    metrics_port: int | None = None,
    pool_labels: int | None = None,
    on_shortage: str | None = None,
    on_shortage_every: float = SHORTAGE_SECONDS,
    log_json: bool = False,
) -> None:
    """Scale pools; exits with 2, and says why, if it cannot with these settings."""
    begin_log(as_json=log_json)
    try:
        settings = Settings.from_environ(os.environ)
        settings = discovered(replace(settings, insecure=settings.insecure or insecure))
        withdraw(settings)
        if settings.redis_url is not None and plain_endpoint(settings.redis_url) is not None:
            _import_asyncio_without_tls()
        _run(
            settings,
            metrics_port or settings.metrics_port,
            pool_labels,
            None if on_shortage is None else (on_shortage, on_shortage_every),
        )
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal autoscaler: {error}\n")
        raise SystemExit(2) from None


def _import_asyncio_without_tls() -> None:
    """Import asyncio as a Python that was built without OpenSSL has it, which is a mebibyte less.

    Only here: containers are forked from what a worker has imported, and user code may need TLS.
    """
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # to import it is an ImportError now
    __import__("asyncio")
    del sys.modules["ssl"]


def _run(
    settings: Settings,
    metrics_port: int | None,
    pool_labels: int | None,
    on_shortage: tuple[str, float] | None,
) -> None:
    # Not before asyncio is there as we want it.
    import asyncio

    from qmodal.client.client import Client
    from qmodal_autoscaler.process import AutoscalerOptions, run

    command = None
    if on_shortage is not None:
        from qmodal_autoscaler.control.shortage_command import ShortageCommand

        command = ShortageCommand.parse(*on_shortage)
    options = AutoscalerOptions(metrics_port, pool_labels, command)
    asyncio.run(run(Client(settings), options))
