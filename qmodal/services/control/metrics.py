"""The metrics of a control process; imported only where a port for them was given."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.control.chores.book import BOOK
from qmodal.services.control.figures import LATE_BOUNDS, ControlFigures
from qmodal.services.control.jobs.backlog import QUEUES, Backlog, backlogs
from qmodal.services.control.schedules.plan import overdue
from qmodal.services.control.ticker import Ticker, View
from qmodal.store.history.chores import ChoreRecord
from qmodal.store.server import ping
from qmodal.telemetry.metrics_server import (
    ANSWER_SECONDS,
    Families,
    MetricsServer,
    MetricsSource,
    gauge,
    redis_up,
)

_LABELS = ("environment", "app", "function")


class ControlMetrics(MetricsSource):
    """The metrics of one control process: of itself, and of all schedules and chores as it has seen them last."""

    def __init__(self, client: Client, figures: ControlFigures, ticker: Ticker) -> None:
        self._client = client
        self._figures = figures
        self._ticker = ticker

    def serve(self, port: int) -> MetricsServer:
        """The server on that port, started; raises ConfigurationError."""
        server = MetricsServer(port, self)
        server.start()
        return server

    def families(self) -> tuple[Families, bytes]:
        """As `MetricsSource.families`."""
        found = [redis_up(is_up=self.is_ready())]
        ticker = self._ticker
        found += _of_process(self._figures, ticker.view)
        found += _of_schedules(ticker.view, ticker.now())
        try:
            found += _of_chores(self._client.run(self._client.chores.all()))
            found += _of_queues(self._client.run(backlogs(self._client.keys)))
        except Error:
            pass  # `qmodal_redis_up` says it
        return found, b""

    def is_ready(self) -> bool:
        """Whether the server answers, without which nothing can be started."""
        try:
            self._client.run(ping(patience=ANSWER_SECONDS))
        except Error:
            return False
        return True


def _of_process(figures: ControlFigures, view: View) -> Iterator[Metric]:
    yield gauge(
        "qmodal_control_first",
        "Whether this control process looks for due slots first.",
        view.is_first,
    )
    with figures.lock:
        buckets, seconds = list(figures.buckets), figures.seconds
        late, failed = figures.late, figures.failed_jobs
    total, added = 0, []
    ends = [*(f"{bound:g}" for bound in LATE_BOUNDS), "+Inf"]
    for end, count in zip(ends, buckets, strict=True):
        total += count
        added.append((end, float(total)))
    lateness = HistogramMetricFamily(
        "qmodal_schedule_lateness_seconds",
        "From the moment of a slot to its call, of slots that this process has started.",
    )
    lateness.add_metric((), added, seconds)
    yield lateness
    yield _counter(
        "qmodal_schedule_late_slots", "Of these, slots that were more than 5 s late.", late
    )
    yield _counter("qmodal_control_failed_jobs", "Jobs that have failed in this process.", failed)


def _of_schedules(view: View, now: int) -> Iterator[Metric]:
    last = _gauges(
        "qmodal_schedule_last_run_timestamp_seconds", "When the last slot became a call."
    )
    next_one = _gauges("qmodal_schedule_next_run_timestamp_seconds", "The next slot.")
    waiting = _gauges("qmodal_schedule_overdue_seconds", "How long a slot has waited to be a call.")
    paused = _gauges("qmodal_schedule_paused", "Whether the schedule is paused.")
    for schedule, waited in overdue(view.schedules, now):
        labels, run = schedule.names, schedule.notes.run
        if run is not None:
            last.add_metric(labels, run.at / 1000)
        following = schedule.cadence.next(max(schedule.deployed, run.slot if run else 0))
        if following is not None and not schedule.notes.is_paused:
            next_one.add_metric(labels, following / 1000)
        waiting.add_metric(labels, waited / 1000)
        paused.add_metric(labels, float(schedule.notes.is_paused))
    yield from (last, next_one, waiting, paused)


def _of_chores(records: dict[str, ChoreRecord]) -> Iterator[Metric]:
    good = _gauges("qmodal_chore_last_success_timestamp_seconds", "When it went well.", "chore")
    took = _gauges("qmodal_chore_duration_seconds", "What it took the last time.", "chore")
    every = _gauges("qmodal_chore_interval_seconds", "How often it is done.", "chore")
    for name, chore in BOOK.items():
        every.add_metric((name,), float(chore.every))
        record = records.get(name)
        if record is not None:
            good.add_metric((name,), record.good / 1000)
            took.add_metric((name,), record.seconds)
    yield from (good, took, every)


def _of_queues(found: dict[str, Backlog]) -> Iterator[Metric]:
    jobs = _gauges("qmodal_control_jobs", "Jobs of rq, by queue and state.", "queue", "state")
    for queue in QUEUES:
        jobs.add_metric((queue, "waiting"), float(found[queue].waiting))
        jobs.add_metric((queue, "failed"), float(found[queue].failed))
    yield jobs


def _gauges(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, labels=labels or _LABELS)


def _counter(name: str, what: str, value: int) -> Metric:
    return CounterMetricFamily(name, what, value=float(value))
