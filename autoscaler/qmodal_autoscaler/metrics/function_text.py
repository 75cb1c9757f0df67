"""Statistics of functions in the text format of Prometheus.

Written here and not by prometheus_client, which takes ten times as long: two hundred functions are fifteen thousand
lines, and each of them would have its labels checked and escaped anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qmodal.store.history.statistics import (
    BOUNDS,
    BUCKETS,
    ENDS,
    OUTCOMES,
    Series,
    bucket_of,
    sum_of,
)

Counted = Mapping[Series, Mapping[str, int]]
# Name, meaning, and what the fields of a function are: the label with its value, if there is one, and the field.
_COUNTERS = (
    (
        "qmodal_inputs_total",
        "Inputs that have ended, by outcome.",
        [(f',outcome="{outcome}"', outcome, 1) for outcome in OUTCOMES],
    ),
    (
        "qmodal_retries_total",
        "Further attempts that inputs were given after an error or a timeout.",
        [("", "retries", 1)],
    ),
    (
        "qmodal_redeliveries_total",
        "Inputs that were taken back from containers that had died.",
        [("", "redeliveries", 1)],
    ),
    ("qmodal_container_starts_total", "Containers that were started.", [("", "starts", 1)]),
    (
        "qmodal_container_ends_total",
        "Containers that have ended, by how.",
        [(f',how="{how}"', f"end:{how}", 1) for how in ENDS],
    ),
    (
        "qmodal_container_alive_seconds_total",
        "Seconds that containers had a process.",
        [("", "alive", 1_000_000)],
    ),
    (
        "qmodal_container_busy_seconds_total",
        "Seconds that containers ran at least one input.",
        [("", "busy", 1_000_000)],
    ),
)
_HISTOGRAMS = (
    (
        "qmodal_queue_wait_seconds",
        "From the submit of an input to the start of its last attempt.",
        "wait",
    ),
    ("qmodal_run_seconds", "What attempts took in user code.", "run"),
    ("qmodal_end_to_end_seconds", "From the submit of an input to its outcome.", "total"),
    (
        "qmodal_container_start_seconds",
        "From the assignment of a container until it was ready.",
        "start",
    ),
)
_ENDS = [*(f"{bound / 1e6:g}" for bound in BOUNDS), "+Inf"]
# Names of all of these, for tests and for who writes dashboards.
FUNCTION_METRICS = (*(name for name, *_ in _COUNTERS), *(name for name, *_ in _HISTOGRAMS))


def function_text(counted: Counted) -> bytes:
    """All statistics of these functions as text."""
    known = [(_labels(series), counts) for series, counts in counted.items()]
    lines: list[str] = []
    for name, meaning, fields in _COUNTERS:
        lines += (f"# HELP {name} {meaning}", f"# TYPE {name} counter")
        for labels, counts in known:
            for label, field, unit in fields:
                count = counts.get(field, 0)
                lines.append(f"{name}{{{labels}{label}}} {count if unit == 1 else count / unit}")
    for name, meaning, histogram in _HISTOGRAMS:
        lines += (f"# HELP {name} {meaning}", f"# TYPE {name} histogram")
        for labels, counts in known:
            lines += _histogram(name, labels, histogram, counts)
    return ("\n".join(lines) + "\n").encode() if known else b""


def _histogram(name: str, labels: str, histogram: str, counts: Mapping[str, int]) -> Iterable[str]:
    total, lines = 0, []
    for end, field in zip(_ENDS, _BUCKETS[histogram], strict=True):
        total += counts.get(field, 0)
        lines.append(f'{name}_bucket{{{labels},le="{end}"}} {total}')
    lines.append(f"{name}_sum{{{labels}}} {counts.get(sum_of(histogram), 0) / 1e6}")
    lines.append(f"{name}_count{{{labels}}} {total}")
    return lines


_BUCKETS = {
    histogram: [bucket_of(histogram, number) for number in range(BUCKETS)]
    for _, _, histogram in _HISTOGRAMS
}


def _labels(series: Series) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(series._fields, series, strict=True)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
