"""Sentinels: they know which of several servers is the master now, and are asked for each connection.

redis-py asks them. Nothing imports this module before such a URL is there.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from qmodal.exception import ConfigurationError
from qmodal.transport.errors import LostError

SENTINEL_PORT = 26379
# What a Sentinel may take to answer; the next one is asked then.
ASK_SECONDS = 0.5
_WRITE = "write redis+sentinel://HOST:PORT,HOST:PORT/MASTER-NAME, with user:password@ of the servers in front"


@dataclass(frozen=True, slots=True)
class Watch:
    """The Sentinels of a URL, the name of the master that they watch, and how to log in to that."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    login: str = field(repr=False)  # as URLs have it, with an @ behind it
    query: str = field(repr=False)
    password: str = field(repr=False)  # of the Sentinels themselves

    def client(self) -> Sentinel:
        """What redis-py asks them with."""
        own: dict[str, Any] = {"password": self.password} if self.password else {}
        limits = {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS}
        return Sentinel(list(self.sentinels), sentinel_kwargs={**limits, **own})

    def master_url(self) -> str:
        """The URL of the master as most of them see it now; LostError if nobody knows one."""
        asked = self.client()
        try:
            host, port = asked.discover_master(self.master)
        except RedisError as error:
            raise LostError(str(error)) from None
        finally:
            for each in asked.sentinels:
                each.close()
        shown = f"[{host}]" if ":" in host else host
        return f"redis://{self.login}{shown}:{port}?{self.query}"


def watch(url: str) -> Watch:
    """What the URL says; raises ConfigurationError."""
    parts = urllib.parse.urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    options = urllib.parse.parse_qsl(parts.query)
    try:
        sentinels = tuple(_place(each) for each in hosts.split(","))
    except ValueError:
        raise ConfigurationError(f"the Redis URL names no Sentinels; {_WRITE}.") from None
    master = urllib.parse.unquote(parts.path.strip("/"))
    if not master or "/" in master:
        raise ConfigurationError(
            f"the Redis URL names no master; {_WRITE}, and ?db=1 for a database."
        )
    return Watch(
        sentinels=sentinels,
        master=master,
        login=login + at,
        query=urllib.parse.urlencode([each for each in options if each[0] != "sentinel_password"]),
        password=dict(options).get("sentinel_password", ""),
    )


def _place(text: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0:
        raise ValueError(text)
    return parts.hostname, parts.port or SENTINEL_PORT


def master_url(url: str) -> str:
    """The URL of the server that is the master now, by that of its Sentinels."""
    return watch(url).master_url()
