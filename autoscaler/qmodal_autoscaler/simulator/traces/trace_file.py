"""Traces from files: CSV or JSON lines, an input a line, as people export them from their logs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qmodal.exception import InvalidError
from qmodal_autoscaler.simulator.traces.trace import Arrival, in_order

COLUMNS = ("arrival", "service", "pool")
DEFAULT_POOL = "pool"


def read_arrivals(path: Path) -> tuple[Arrival, ...]:
    """The inputs of a file, in the order of their arrival, from moment 0 on; raises InvalidError.

    A line has `arrival` and `service` in seconds and, if there are several pools, `pool`. A name that
    ends with `.jsonl` or `.ndjson` means an object of JSON a line, any other CSV with a line of headings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"the trace {path} cannot be read: {error}") from error
    is_json = path.suffix in (".jsonl", ".ndjson")
    rows = _json_rows(text, path) if is_json else _csv_rows(text, path)
    arrivals = in_order([_arrival(row, f"{path}, line {line}") for line, row in rows])
    if not arrivals:
        raise InvalidError(f"the trace {path} has no inputs")
    first = arrivals[0].at
    return tuple(each._replace(at=each.at - first) for each in arrivals)


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
        except ValueError as error:
            raise InvalidError(f"{path}, line {line}: not an object of JSON: {error}") from error
        if not isinstance(value, dict):
            raise InvalidError(f"{path}, line {line}: not an object of JSON")
        yield line, value


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    missing = set(COLUMNS[:2]) - set(reader.fieldnames or ())
    if missing:
        wanted = ",".join(COLUMNS)
        raise InvalidError(
            f"{path}: its first line has to name the columns {wanted} (pool may miss)"
        )
    for row in reader:
        yield reader.line_num, row


def _arrival(row: Mapping[str, Any], where: str) -> Arrival:
    at, service = (_seconds(row, name, where) for name in COLUMNS[:2])
    return Arrival(at, service, str(row.get("pool") or DEFAULT_POOL))


def _seconds(row: Mapping[str, Any], name: str, where: str) -> float:
    try:
        seconds = float(row[name])
    except (KeyError, TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InvalidError(f"{where}: {name} has to be seconds, 0 or more: {row.get(name)!r}")
    return seconds
