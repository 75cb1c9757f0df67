"""Values with their units and colours, about as Grafana writes and colours them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

COLOURS = {
    "green": "#73bf69",
    "light-green": "#96d98d",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "purple": "#b877d9",
    "dark-purple": "#8f3bb8",
    "text": "#9fa7b3",
}
# Of series that have none of their own.
PALETTE = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"),
    *("#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"),
)
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "percentunit": ((0.01, "%"),),
    "celsius": ((1, " °C"),),
    "watt": ((1e3, " kW"), (1, " W")),
    "reqps": ((1e3, " K req/s"), (1, " req/s")),
    "suffix:/s": ((1, "/s"),),
    "short": ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")),
}


def text_of(value: float, field: Mapping[str, Any]) -> str:
    """The value as the field shows it: mapped, or with its unit and its decimals."""
    mapped = _mapped(value, field.get("mappings", ()))
    return mapped["text"] if mapped else number(value, field["unit"], field.get("decimals"))


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """The value with its unit; about three digits where nobody says how many decimals."""
    if value == 0 and unit != "percentunit":
        return "0"
    scales = SCALES[unit]
    scale, name = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    scaled = value / scale
    if decimals is None:
        # 0.05, 0.5, 1.5, 15
        text = f"{scaled:.2f}" if abs(scaled) < 1 else f"{scaled:.{1 if abs(scaled) < 10 else 0}f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{name}"
    return f"{scaled:.{decimals}f}{name}"


def colour_of(value: float, field: Mapping[str, Any]) -> str | None:
    """The colour that thresholds or mappings give the value; None if it has none."""
    mapped = _mapped(value, field.get("mappings", ()))
    name = mapped["color"] if mapped else "transparent"
    if not mapped:
        for step in field.get("thresholds", {}).get("steps", ()):
            if step["value"] is None or value >= step["value"]:
                name = step["color"]
    return None if name == "transparent" else COLOURS[name]


def ticks(low: float, high: float, unit: str) -> list[float]:
    """Round values for an axis with that unit, six at most above zero."""
    rough = max(high - low, 1e-9) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power, 2 * power, 5 * power, 10 * power]
    if unit == "bytes":
        steps = [2.0**each for each in range(64)]
    if unit == "s" and rough > 1:
        steps = [2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 86400, 7 * 86400]
    step = next(each for each in steps if each >= rough)
    return [step * each for each in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _mapped(value: float, mappings: Iterable[Mapping[str, Any]]) -> dict[str, str] | None:
    for each in mappings:
        found: dict[str, str] | None = each["options"].get(f"{value:g}")
        if found is not None:
            return found
    return None


def named(legend: str, labels: Mapping[str, str]) -> str:
    """The name of a series: its legend with its labels, or all that it has."""
    if not legend:
        return ", ".join(labels.values())
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
