"""Repeats an operation until the server is ready: a container that ends in an outage would run its inputs again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError, ConnectionError, EnqueueError, Error
from qmodal.transport.operation import Op

T = TypeVar("T")
INSIST_SECONDS = 0.5
# What a server says that was ours, and will be again: it is gone, is not ready, takes no writes, or has
# another password for a while. What lasts, its worker ends.
OUTAGES = (ConnectionError, EnqueueError, ConfigurationError)


def insist(
    client: Client, operation: Callable[[], Op[T]], *, lasting: type[Error] | tuple[()] = ()
) -> T:
    """The result of the operation, made anew for each try; raises what no waiting mends.

    `lasting`: what is not waited out here, either.
    """
    while True:
        try:
            return client.run(operation())
        except lasting:
            raise
        except OUTAGES:
            time.sleep(INSIST_SECONDS)
