"""The stack of a session of tests: a private server with an autoscaler and a worker, used by the whole process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.embedded.stack import start_private

# A test must never reach what these name.
_ELSEWHERE = (
    "QMODAL_REDIS_URL",
    "QMODAL_REDIS_URL_FILE",
    "REDIS_URL",
    "QMODAL_SIGNING_KEY",
    "QMODAL_SIGNING_KEY_FILE",
)


@dataclass(frozen=True, slots=True)
class SessionStack:
    """A running stack: its server's URL, and the variables with which other programs use it."""

    url: str
    environ: dict[str, str]


@contextmanager
def session_stack(home: Path) -> Iterator[SessionStack]:
    """A stack that all apps of this process run on meanwhile; it keeps nothing but in `home`."""
    environ = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    settings = Settings.from_environ(environ | {"QMODAL_HOME": str(home)})
    with start_private(settings) as stack:
        settings = stack.settings
        client = Client(settings, stack=stack)
        before = clients.use(client)
        try:
            yield SessionStack(stack.url, _environ(settings))
        finally:
            client.close()
            clients.use(before)


def _environ(settings: Settings) -> dict[str, str]:
    """With the key that publishes, so that programs that a test starts may deploy."""
    key = settings.publishing_key
    return settings.to_environ() | ({} if key is None else {"QMODAL_PUBLISHING_KEY": key.hex()})
