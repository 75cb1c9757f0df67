"""A control process: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from dataclasses import replace

from qmodal.client.client import Client
from qmodal.client.discovery import discovered
from qmodal.config import Settings
from qmodal.embedded.credentials import withdraw
from qmodal.exception import ConfigurationError, ConnectionError, Error
from qmodal.services.control import rq_version
from qmodal.store.server import ping
from qmodal.telemetry.events import CONTROL_TROUBLE, emit
from qmodal.telemetry.log_lines import begin_log

# While there is no server to be reached.
ASK_SECONDS, ASK_AGAIN_SECONDS = 2.0, 1.0
# `qmodal up` starts it with what people wait for; to import rq takes half a second of a processor, and nothing waits for it.
BEGIN_SECONDS = 1.0
# What a job under way has to end; hosts kill after 30 s, and a job that is cut off is done again.
STOP_SECONDS = 20.0


def serve(
    *, insecure: bool = False, metrics_port: int | None = None, log_json: bool = False
) -> None:
    """Start the calls of schedules and do chores until SIGTERM or Ctrl-C.

    Exits with 2, and says why, if it cannot with these settings. Several may run.
    """
    begin_log(as_json=log_json)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        if refused := rq_version.refusal():
            raise ConfigurationError(refused)
        settings = Settings.from_environ(os.environ)
        settings = discovered(replace(settings, insecure=settings.insecure or insecure))
        withdraw(settings)
        client = Client(settings)
        if _answered(client, stop) and not stop.wait(BEGIN_SECONDS):
            _run(client, stop, metrics_port or settings.metrics_port)
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal control: {error}\n")
        raise SystemExit(2) from None
    except Error as error:
        sys.stderr.write(f"qmodal control: {error}\n")
        raise SystemExit(1) from None


def _answered(client: Client, stop: threading.Event) -> bool:
    """Wait for a server that is not there yet, and check it; False if that was ended by a signal."""
    while not stop.is_set():
        try:
            client.run(ping(patience=ASK_SECONDS))
        except ConnectionError as error:
            emit(CONTROL_TROUBLE, activity="waiting for the server", reason=str(error))
            stop.wait(ASK_AGAIN_SECONDS)
        else:
            return True
    return False


def _run(client: Client, stop: threading.Event, metrics_port: int | None) -> None:
    # rq reads the start of its keys when it is imported.
    os.environ["RQ_KEY_PREFIX"] = client.keys.rq
    from qmodal.services.control.process import ControlProcess

    name = "ct-" + secrets.token_hex(6)
    process = ControlProcess(client, name)
    process.run(stop, metrics_port, STOP_SECONDS)
