"""What a gateway reads in the head of a request, and which of its headers a container gets."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from qmodal.services.gateway.exchange.responses import refusal
from qmodal.services.gateway.options import Network
from qmodal.wire.web import Address, Header

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._+/=-]{1,128}")
_HOST = re.compile(rb"[A-Za-z0-9._~-]+(:[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{0,5})?")
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade"})
_MOST_PEERS = 1000
_prefix = secrets.token_hex(5)
_counter = itertools.count(1)


def new_request_id() -> bytes:
    """An id that no other request has."""
    return f"{_prefix}{next(_counter):08x}".encode()


class Head:
    """The head of a request as far as a gateway acts on it.

    `headers` are for the container. `length` is the content-length; `client` and `scheme` are those that a trusted
    proxy has named, else those of the connection.
    """

    __slots__ = (
        "client",
        "forwarded",
        "has_host",
        "headers",
        "host",
        "is_chunked",
        "is_trusted",
        "key",
        "length",
        "named",
        "request_id",
        "scheme",
        "secret",
        "trace",
        "trace_state",
    )

    def __init__(self, client: Address | None, scheme: str, *, is_trusted: bool) -> None:
        self.headers: list[Header] = []
        self.client = client
        self.scheme = scheme
        self.is_trusted = is_trusted
        self.host = self.request_id = b""
        self.has_host = False
        self.length: int | None = None
        self.is_chunked = False
        self.key = self.secret = b""
        self.named: list[bytes] = []  # headers of the connection, which `connection` names
        self.forwarded: dict[bytes, bytes] = {}
        self.trace = self.trace_state = b""  # of W3C

    @property
    def has_body(self) -> bool:
        """Whether a body follows, which may be empty."""
        return self.is_chunked or bool(self.length)


def read_head(scope: Any, proxies: Proxies) -> Head:
    """Read it; raises RefusedError for a head that means different things to different readers."""
    client = scope["client"]
    head = Head(client, scope["scheme"], is_trusted=proxies.has(client))
    kept = head.headers
    for header in scope["headers"]:
        name = header[0]
        read = _SPECIAL.get(name)
        if read is not None:
            read(head, header)
        # WSGI and CGI cannot tell a dash from an underscore: `x_real_ip` would pass for `x-real-ip`.
        elif b"_" not in name or name.replace(b"_", b"-") not in _SPECIAL:
            kept.append(header)
    _check(head, is_newest=scope["http_version"] == "1.1")
    if not head.request_id:
        head.request_id = new_request_id()
    kept.append((b"x-request-id", head.request_id))
    if head.named:
        head.headers = [header for header in kept if header[0] not in head.named]
    if head.forwarded:
        proxies.apply(head)
    return head


def _check(head: Head, *, is_newest: bool) -> None:
    if is_newest and not head.host:
        raise refusal(400, "The request has no Host header.", closes=True)
    if head.is_chunked and not is_newest:  # other readers would not know where it ends
        raise refusal(400, "A request of HTTP/1.0 has no chunked body.", closes=True)


class Proxies:
    """The proxies whose word counts about who the client is; no other's does."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._known: dict[str, bool] = {}

    def has(self, client: Address | None) -> bool:
        """Whether that is the address of one."""
        if not self._networks or client is None:
            return False
        return self._has(client[0])

    def _has(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MOST_PEERS:
                self._known.clear()
            known = self._known[address] = self._is_in(address)
        return known

    def _is_in(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def apply(self, head: Head) -> None:
        """Believe what a trusted proxy says about the client; raises RefusedError for a bad host."""
        told = head.forwarded
        if b"x-forwarded-proto" in told:
            proto = told[b"x-forwarded-proto"].rpartition(b",")[2].strip().lower()
            if proto in (b"http", b"https"):
                secure = "wss" if head.scheme.startswith("ws") else "https"
                usual = "ws" if head.scheme.startswith("ws") else "http"
                head.scheme = secure if proto == b"https" else usual
        if b"x-forwarded-for" in told:
            # From the right: what is left of the last proxy that we trust, anybody may have written.
            for each in reversed(told[b"x-forwarded-for"].split(b",")):
                address = each.strip().decode("latin-1")
                head.client = (address, 0)
                if not self._has(address):
                    break
        if b"x-forwarded-host" in told:
            head.host = _checked_host(told[b"x-forwarded-host"].rpartition(b",")[2].strip())
            rest = [header for header in head.headers if header[0] != b"host"]
            head.headers = [(b"host", head.host), *rest]


@lru_cache(maxsize=1000)
def _checked_host(host: bytes) -> bytes:
    if _HOST.fullmatch(host) is None:
        raise refusal(400, "The Host header is not a host name.", closes=True)
    return host.lower()


def _host(head: Head, header: Header) -> None:
    if head.has_host:
        raise refusal(400, "The request has two Host headers.", closes=True)
    head.has_host = True
    if header[1]:
        head.host = _checked_host(header[1])
    head.headers.append(header)


def _length(head: Head, header: Header) -> None:
    value = header[1]
    if not value.isdigit() or len(value) > 18 or head.length is not None:
        raise refusal(400, "The Content-Length is not a number, or there are several.", closes=True)
    head.length = int(value)
    head.headers.append(header)


def _encoding(head: Head, header: Header) -> None:
    if header[1].strip().lower() != b"chunked":
        raise refusal(501, "The body is encoded in a way that is not known here.", closes=True)
    head.is_chunked = True


def _connection(head: Head, header: Header) -> None:
    for each in header[1].lower().split(b","):
        name = each.strip()
        if name not in _USUAL_CONNECTION and name not in _SPECIAL:
            head.named.append(name)


def _request_id(head: Head, header: Header) -> None:
    if _REQUEST_ID.fullmatch(header[1]) is not None:
        head.request_id = header[1]


def _forwarded(head: Head, header: Header) -> None:
    if head.is_trusted:
        name, value = header
        before = head.forwarded.get(name)
        head.forwarded[name] = value if before is None else before + b"," + value
        head.headers.append(header)


def _key(head: Head, header: Header) -> None:
    head.key = header[1]
    head.headers.append(header)


def _secret(head: Head, header: Header) -> None:
    head.secret = header[1]


def _trace(head: Head, header: Header) -> None:
    head.trace = header[1]
    head.headers.append(header)


def _trace_state(head: Head, header: Header) -> None:
    head.trace_state = header[1]
    head.headers.append(header)


def _dropped(head: Head, header: Header) -> None:
    """What is for the gateway alone."""


_SPECIAL: dict[bytes, Callable[[Head, Header], None]] = {
    b"host": _host,
    b"content-length": _length,
    b"transfer-encoding": _encoding,
    b"connection": _connection,
    b"x-request-id": _request_id,
    b"modal-key": _key,
    b"modal-secret": _secret,
    b"traceparent": _trace,
    b"tracestate": _trace_state,
    **dict.fromkeys(
        [
            *(b"forwarded", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto"),
            *(b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"),
        ],
        _forwarded,
    ),
    **dict.fromkeys(
        [
            *(b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer"),
            *(b"upgrade", b"expect"),
        ],
        _dropped,
    ),
}
