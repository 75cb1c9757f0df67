"""The HTTP server that a process is scraped from: `/metrics`, `/healthz` and `/readyz` on a port of their own.

It runs in threads beside the loop of the process, so that a server that does not answer, or a loop that is busy, never
holds up a scrape: what is asked of the loop has a second. Imported only where a port was given, as
`http.server` and prometheus_client take some mebibytes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from qmodal.exception import ConfigurationError, Error

T = TypeVar("T")
log = logging.getLogger("qmodal")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What a scrape waits for the process's loop, and for the server behind it.
ANSWER_SECONDS = 1.0
# A client that sends or reads nothing for so long is let go.
SILENT_SECONDS = 10.0
Families = Iterable[Metric]


class LoopReader:
    """Asks the loop of the process from another thread, for ANSWER_SECONDS at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What the coroutine returns; None if that raises an Error or takes too long."""
        asked = question()
        try:
            answer = asyncio.run_coroutine_threadsafe(asked, self._loop)
        except RuntimeError:  # the loop was closed
            asked.close()
            return None
        try:
            return answer.result(ANSWER_SECONDS)
        except (TimeoutError, concurrent.futures.CancelledError, Error):
            answer.cancel()
        except Exception:
            log.exception("a scrape has failed")
        return None


class MetricsSource:
    """What a process has to show; subclasses say more, and `text` what is too much for `families`."""

    def families(self) -> tuple[Families, bytes]:
        """The metrics now, and others as text already; called by one thread at a time."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the process does its work."""
        raise NotImplementedError


class MetricsServer:
    """Listens on a port of all addresses from its start to `close`."""

    def __init__(self, port: int, source: MetricsSource) -> None:
        self._source = source
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._scraping = threading.Lock()
        try:
            self._server = _Server(("", port), _handler(self))
        except OSError as error:
            raise ConfigurationError(
                f"nothing can listen on port {port} for metrics ({error.strerror}); choose another "
                "--metrics-port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def metrics(self) -> bytes:
        """All metrics as text; one scrape at a time, as each asks the server."""
        with self._scraping:
            families, text = self._source.families()
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Collected(families))
            return generate_latest(self._registry) + generate_latest(registry) + text

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and content for a path."""
        match path.partition("?")[0]:
            case "/metrics":
                return 200, CONTENT_TYPE, self.metrics()
            case "/healthz":
                return 200, "text/plain", b"ok\n"
            case "/readyz":
                is_ready = self._source.is_ready()
                return (200, "text/plain", b"ok\n") if is_ready else (503, "text/plain", b"no\n")
            case _:
                return 404, "text/plain", b"There are /metrics, /healthz and /readyz.\n"


class _Collected(Collector):
    """Metrics that were collected already, for the library to format."""

    def __init__(self, families: Families) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """These."""
        yield from self._families


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_client: object) -> None:
        """Say nothing of clients that leave."""


def _handler(metrics: MetricsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout: ClassVar[float | None] = SILENT_SECONDS

        def do_GET(self) -> None:  # the library's name
            status, kind, content = metrics.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_message: object) -> None:
            """Nobody reads that Prometheus was here."""

    return Handler


def redis_up(*, is_up: bool) -> Metric:
    """Whether the server answers this process."""
    return gauge(
        "qmodal_redis_up", "Whether the server has answered this scrape within a second.", is_up
    )


def gauge(name: str, what: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, what, value=float(value))
