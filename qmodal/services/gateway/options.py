"""The settings of a gateway, from its environment and its command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from qmodal.exception import ConfigurationError

GIB = 1024**3
_OFF = frozenset({"", "0", "false", "no", "off"})
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What a gateway says of itself, as far as the command line tells."""

    access_log: bool | None = None
    log_json: bool = False
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Limits of a gateway; sizes are in bytes and times in seconds.

    `queue`: so many requests of a pool may wait. `redirect_after`: how long a response may take to begin before the
    client is sent to a result page. `body_timeout`: the longest silence in the middle of a request's body.
    `patience`: how long a request waits for a server that does not answer. `grace`: what a stop leaves to requests.
    """

    max_body: int = 4 * GIB
    queue: int = 1000
    redirect_after: float = 150.0
    body_timeout: float = 60.0
    patience: float = 20.0
    grace: float = 25.0
    trusted_proxies: tuple[Network, ...] = ()
    access_log: bool = False
    log_json: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> GatewayOptions:
        """The options that these variables spell; ConfigurationError names the one that is wrong."""
        default = cls()
        trusted = environ.get("QMODAL_WEB_TRUSTED_PROXIES", "")
        return cls(
            max_body=int(_number(environ, "QMODAL_WEB_MAX_BODY", default.max_body)),
            queue=int(_number(environ, "QMODAL_WEB_QUEUE", default.queue)),
            redirect_after=_number(environ, "QMODAL_WEB_REDIRECT_SECONDS", default.redirect_after),
            body_timeout=_number(environ, "QMODAL_WEB_BODY_SECONDS", default.body_timeout),
            trusted_proxies=networks(trusted, "QMODAL_WEB_TRUSTED_PROXIES"),
            access_log=environ.get("QMODAL_WEB_ACCESS_LOG", "").strip() not in _OFF,
        )

    def changed(
        self, *, trusted_proxies: str | None, access_log: bool | None, log_json: bool = False
    ) -> GatewayOptions:
        """The same with what the command line gives, if it does; raises ConfigurationError."""
        trusted, log = self.trusted_proxies, self.access_log
        if trusted_proxies is not None:
            trusted = networks(trusted_proxies, "--trusted-proxies")
        if access_log is not None:
            log = access_log
        return replace(self, trusted_proxies=trusted, access_log=log, log_json=log_json)


def networks(listed: str, source: str) -> tuple[Network, ...]:
    """The networks of a list with commas, such as `10.0.0.0/8,::1`; raises ConfigurationError."""
    found = []
    for text in listed.split(","):
        if not text.strip():
            continue
        try:
            found.append(ip_network(text.strip(), strict=False))
        except ValueError:
            raise ConfigurationError(
                f"{source} has {text.strip()!r}, which is no address; write addresses or networks, "
                "such as 127.0.0.1,10.0.0.0/8"
            ) from None
    return tuple(found)


def _number(environ: Mapping[str, str], variable: str, default: float) -> float:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{variable} is {text!r}; write a number above 0, or unset it")
    return value
