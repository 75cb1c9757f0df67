"""The metrics of an autoscaler: of itself, and of the cluster as long as it leads.

Only who leads by the server's word shows the cluster, so one target has it and nothing is counted twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qmodal.client.client import Client
from qmodal.store.history.figures import Figures, ServerFigures
from qmodal.telemetry.metrics_server import (
    Families,
    LoopReader,
    MetricsServer,
    MetricsSource,
    gauge,
    redis_up,
)
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of
from qmodal_autoscaler.control.leader_loop import LeaderTerm
from qmodal_autoscaler.metrics.facts import ClusterFacts, LeaderView
from qmodal_autoscaler.metrics.families import cluster_families
from qmodal_autoscaler.metrics.function_text import Counted, function_text
from qmodal_autoscaler.metrics.rounds import RoundTimes

# Pools whose oldest input is looked for.
MOST_BACKLOGGED = 1000


@dataclass(frozen=True, slots=True)
class _Scrape:
    """What one scrape has read; `facts` only if this autoscaler leads."""

    server: ServerFigures
    facts: ClusterFacts | None
    oldest: dict[str, int]
    counted: Counted


class AutoscalerMetrics(MetricsSource):
    """The metrics of one autoscaler, whose id is `name`; made in its loop."""

    def __init__(self, client: Client, name: str, pool_labels: int | None = None) -> None:
        self._pool_labels = pool_labels
        self._client = client
        self._name = name
        self._figures = Figures(client.keys)
        self._reader = LoopReader(asyncio.get_running_loop())
        self._view: LeaderView | None = None
        self._rounds = RoundTimes()

    def serve(self, port: int) -> MetricsServer:
        """The server on that port, started; raises ConfigurationError."""
        server = MetricsServer(port, self)
        server.start()
        return server

    async def lead(self, term: LeaderTerm) -> None:
        """Lead for that term, and show what its leader knows meanwhile."""
        self._view = LeaderView(
            term.nodes, term.catalog, term.wanted, term.waiting, self._pool_labels
        )
        term.on_judged, term.on_placed = self._view.judged, self._view.placed
        term.on_round = self._rounds.add
        try:
            await term.run()
        finally:
            self._view = None

    def families(self) -> tuple[Families, bytes]:
        """As `MetricsSource.families`."""
        scrape = self._reader.ask(self._scrape)
        facts = None if scrape is None else scrape.facts
        found = [
            redis_up(is_up=scrape is not None),
            gauge("qmodal_autoscaler_leads", "Whether this autoscaler leads.", facts is not None),
        ]
        if scrape is None or facts is None:
            return found, b""
        found += [
            self._rounds.family(),
            *cluster_families(facts, scrape.server, scrape.oldest),
        ]
        return found, function_text(scrape.counted)

    def is_ready(self) -> bool:
        """Whether the server answers, so that this autoscaler leads or could."""
        return self._reader.ask(lambda: self._client.aio(self._figures.server())) is not None

    async def _scrape(self) -> _Scrape:
        statistics = self._client.statistics
        server = await self._client.aio(self._figures.server())
        if self._view is None or server.leader != self._name:
            return _Scrape(server, None, {}, {})
        facts = self._view.facts()
        pools = [pool for each in facts.functions.values() for pool in each.backlogged]

        def rest() -> Op[tuple[dict[str, int], Counted]]:
            series = yield from statistics.series()
            oldest, counted = yield from all_of(
                self._figures.oldest_waiting(pools[:MOST_BACKLOGGED]), statistics.read(series)
            )
            return oldest, counted

        oldest, counted = await self._client.aio(rest())
        return _Scrape(server, facts, oldest, counted)
