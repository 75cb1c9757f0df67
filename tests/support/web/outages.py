"""The server of the running program, looked at from the side, and made to stand still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from qmodal.client.client import current


@contextmanager
def plain() -> Iterator[redis.Redis]:
    """A plain client of the server."""
    with redis.Redis.from_url(current().settings.redis_url or "") as made:
        yield made


def server_pid() -> int:
    """The process of the server."""
    with plain() as server:
        about: dict[str, int] = server.info("server")
    return about["process_id"]


@contextmanager
def standing_still() -> Iterator[None]:
    """The server stands still."""
    pid = server_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def calls() -> set[str]:
    """The calls that the server knows."""
    with plain() as server:
        keys = server.scan_iter("*:call:fc-*", count=1000)
        return {key.decode().split(":call:")[1].split(":")[0] for key in keys}


def inboxes() -> set[str]:
    """The inboxes that are there."""
    with plain() as server:
        return {key.decode() for key in server.scan_iter("*:inbox:*", count=1000)}
