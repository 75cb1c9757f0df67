"""The metrics of a gateway; imported only where a port for them was given."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from qmodal.client.client import Client
from qmodal.services.gateway.figures import GatewayFigures, Times
from qmodal.store.history.statistics import BOUNDS
from qmodal.store.server import ping
from qmodal.telemetry.metrics_server import (
    ANSWER_SECONDS,
    Families,
    LoopReader,
    MetricsServer,
    MetricsSource,
    gauge,
    redis_up,
)

_LABELS = ("environment", "app", "function")
_ENDS = [*(f"{bound / 1e6:g}" for bound in BOUNDS), "+Inf"]


class GatewayMetrics(MetricsSource):
    """The metrics of one gateway; made in its loop."""

    def __init__(self, client: Client, figures: GatewayFigures) -> None:
        self._client = client
        self._figures = figures
        self._reader = LoopReader(asyncio.get_running_loop())

    def serve(self, port: int) -> MetricsServer:
        """The server on that port, started; raises ConfigurationError."""
        server = MetricsServer(port, self)
        server.start()
        return server

    def families(self) -> tuple[Families, bytes]:
        """As `MetricsSource.families`."""
        figures = self._reader.ask(self._copied)
        found = [redis_up(is_up=self.is_ready())]
        return ([*found, *_families(figures)] if figures is not None else found), b""

    def is_ready(self) -> bool:
        """Whether the server answers, without which no request can be."""
        return self._reader.ask(self._ping) is not None

    async def _copied(self) -> GatewayFigures:
        return copy.deepcopy(self._figures)

    async def _ping(self) -> bool:
        await self._client.aio(ping(patience=ANSWER_SECONDS))
        return True


def _families(figures: GatewayFigures) -> Iterator[Metric]:
    yield gauge(
        "qmodal_gateway_requests_in_flight",
        "Requests and websockets that are under way.",
        figures.in_flight,
    )
    yield gauge(
        "qmodal_gateway_streams_open",
        "Of these, responses and websockets that have begun.",
        figures.streams,
    )
    requests = CounterMetricFamily(
        "qmodal_gateway_requests",
        "Requests that are over, by the class of their status.",
        labels=(*_LABELS, "code"),
    )
    for labels, count in figures.requests.items():
        requests.add_metric(labels, count)
    yield requests
    first = HistogramMetricFamily(
        "qmodal_gateway_time_to_first_byte_seconds",
        "From a request to the beginning of its response.",
        labels=_LABELS,
    )
    for function, times in figures.first_bytes.items():
        first.add_metric(function, _added_up(times), times.total)
    yield first


def _added_up(times: Times) -> list[tuple[str, float]]:
    total, found = 0, []
    for end, count in zip(_ENDS, times.buckets, strict=True):
        total += count
        found.append((end, float(total)))
    return found
