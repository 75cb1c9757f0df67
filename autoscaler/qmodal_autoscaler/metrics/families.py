"""Facts of a cluster and figures of its server as metric families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qmodal.spec.needs.needs import MEBIBYTE, Needs
from qmodal.store.history.figures import ServerFigures
from qmodal.store.history.statistics import Series
from qmodal.store.watch.reasons import SAID_BY_LEADERS
from qmodal.telemetry.metrics_server import gauge
from qmodal_autoscaler.metrics.facts import Changes, ClusterFacts, FunctionFacts, Labels
from qmodal_autoscaler.metrics.pool_labels import OTHER

_LABELS = Series._fields
# Shapes of containers that wait, which are told apart.
MOST_SHAPES = 50
_STATES = ("starting", "ready", "draining")


def cluster_families(
    facts: ClusterFacts, server: ServerFigures, oldest: Mapping[str, int]
) -> Iterator[Metric]:
    """All that a leader shows beside the statistics of functions."""
    yield gauge("qmodal_pools", "Active pools.", facts.pools)
    yield _waiting(facts.waiting)
    yield gauge("qmodal_boxes", "Boxes that were not given up.", facts.boxes)
    yield gauge("qmodal_box_slots", "Containers that all boxes together may run.", facts.slots)
    yield _wanted(facts.wanted)
    yield gauge("qmodal_dead_letters", "Entries that were set aside.", server.dead)
    yield from _server_families(server.server)
    labels = (*_LABELS, "pool") if facts.has_pools else _LABELS
    yield from _function_families(facts.functions, labels, server.now, oldest)
    yield _changes(facts.changes)


def _waiting(pools: Mapping[str, int]) -> Metric:
    found = GaugeMetricFamily(
        "qmodal_pools_waiting",
        "Pools that want more containers than they have, by the reason for which they do not get them.",
        labels=("reason",),
    )
    # All that a leader may say, so that a reason that is over is 0 and not gone.
    for kind in SAID_BY_LEADERS:
        found.add_metric((kind,), pools.get(kind, 0))
    return found


def _wanted(wanted: Mapping[Needs, int]) -> Metric:
    """What the fleet lacks; beyond so many shapes the rest has one series, whose labels say so."""
    found = GaugeMetricFamily(
        "qmodal_wanted",
        "Containers that wait for room, by what each needs (cpu in CPUs, memory in MiB; empty: nothing is declared).",
        labels=("gpu", "cpu", "memory"),
    )
    shapes: Counter[tuple[str, str, str]] = Counter()
    for needs, count in wanted.items():
        memory = "" if needs.memory is None else str(needs.memory // MEBIBYTE)
        cpu = "" if needs.cpu is None else f"{needs.cpu:g}"
        shapes[" or ".join(map(str, needs.gpus)), cpu, memory] += count
    listed = shapes.most_common(MOST_SHAPES)
    for labels, count in listed:
        found.add_metric(labels, count)
    rest = shapes.total() - sum(count for _, count in listed)
    if rest:
        found.add_metric((OTHER,) * 3, rest)
    return found


def _changes(changes: Mapping[Series, Changes]) -> Metric:
    found = CounterMetricFamily(
        "qmodal_scaling_changes",
        "Containers that this leader has placed or let go, by the reason for it.",
        labels=(*_LABELS, "direction", "reason"),
    )
    for series, each in changes.items():
        for (direction, reason), count in sorted(each.items()):
            found.add_metric((*series, direction, reason), count)
    return found


def _function_families(
    functions: Mapping[Labels, FunctionFacts],
    labels: Labels,
    now: float,
    oldest: Mapping[str, int],
) -> Iterator[Metric]:
    running = GaugeMetricFamily("qmodal_running_inputs", "Inputs that run.", labels=labels)
    waiting = GaugeMetricFamily("qmodal_waiting_inputs", "Inputs that wait.", labels=labels)
    delayed = GaugeMetricFamily(
        "qmodal_delayed_inputs", "Inputs whose next attempt is not due yet.", labels=labels
    )
    age = GaugeMetricFamily(
        "qmodal_oldest_waiting_input_age_seconds",
        "How long the input has waited that was put in line first of those that wait; 0 without any.",
        labels=labels,
    )
    containers = GaugeMetricFamily(
        "qmodal_containers", "Containers, by state.", labels=(*labels, "state")
    )
    desired = GaugeMetricFamily(
        "qmodal_desired_containers",
        "Containers that the autoscaler wants, by the reason for it.",
        labels=(*labels, "reason"),
    )
    pause = GaugeMetricFamily(
        "qmodal_pool_crash_backoff_seconds",
        "How long the next start is put off after failed ones, by what the last was due to; 0 while one is tried.",
        labels=(*labels, "reason"),
    )
    for series, each in functions.items():
        running.add_metric(series, each.running)
        waiting.add_metric(series, each.waiting)
        delayed.add_metric(series, each.delayed)
        since = min((oldest[pool] for pool in each.backlogged if pool in oldest), default=now)
        age.add_metric(series, max(0.0, now - since) / 1000)
        for state in _STATES:
            containers.add_metric((*series, state), each.containers[state])
        for reason, count in sorted(each.desired.items()):
            desired.add_metric((*series, reason), count)
        for reason, seconds in sorted(each.backoffs.items()):
            pause.add_metric((*series, reason), seconds)
    yield from (running, waiting, delayed, age, containers, desired, pause)


def _server_families(fields: Mapping[str, str]) -> Iterator[Metric]:
    yield gauge(
        "qmodal_redis_memory_used_bytes", "Memory of the server.", _number(fields, "used_memory")
    )
    yield gauge(
        "qmodal_redis_memory_max_bytes",
        "What the server's memory is limited to; 0: it is not.",
        _number(fields, "maxmemory"),
    )
    yield gauge(
        "qmodal_redis_clients", "Connections to the server.", _number(fields, "connected_clients")
    )
    yield gauge(
        "qmodal_redis_append_only",
        "Whether the server has an append-only file, so that calls survive its restart.",
        fields.get("aof_enabled") == "1",
    )
    yield gauge(
        "qmodal_redis_writes_ok",
        "Whether the server could write its files when it last tried.",
        all(fields.get(name, "ok") == "ok" for name in _WRITES),
    )
    policy = GaugeMetricFamily(
        "qmodal_redis_maxmemory_policy",
        "What the server does when its memory is full; any but noeviction loses calls.",
        labels=("policy",),
    )
    policy.add_metric((fields.get("maxmemory_policy", "unknown"),), 1)
    yield policy


_WRITES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


def _number(fields: Mapping[str, str], name: str) -> float:
    text = fields.get(name, "")
    return float(text) if text.isdigit() else 0.0
