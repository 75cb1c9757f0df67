"""Repeats an operation until the server is ready: if the container ended, its inputs would run again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError, ConnectionError, EnqueueError, Error
from qmodal.transport.operation import Op

T = TypeVar("T")
INSIST_SECONDS = 0.5
# Errors of a server that has served us before, and will again: it is unreachable, not ready, takes no
# writes, or has another password for a while. If that lasts, the worker ends the container.
OUTAGES = (ConnectionError, EnqueueError, ConfigurationError)


def insist(
    client: Client, operation: Callable[[], Op[T]], *, lasting: type[Error] | tuple[()] = ()
) -> T:
    """The result of an operation, repeated until there is no outage; other errors are raised.

    `operation` makes it anew for each try. `lasting`: errors that are raised although they are outages.
    """
    while True:
        try:
            return client.run(operation())
        except lasting:
            raise
        except OUTAGES:
            time.sleep(INSIST_SECONDS)
