"""Options that several commands take, each spelled and explained once."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qmodal.exception import InvalidError
from qmodal.spec.needs.labels import check_label
from qmodal.spec.needs.sizes import parse_size

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


if TYPE_CHECKING:
    from click import ParamType as ParamType
else:

    class ParamType(click.ParamType):
        """A type of an option's values; that of click 8.1 does not let itself be subscripted."""

        def __class_getitem__(cls, _value: object) -> type:
            return cls


class Moment(ParamType[int]):
    """A moment in the past, in ms since 1970: as so long ago (`15m`), or as a date with or without a time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment; a usage error says what can be given."""
        if isinstance(value, int):
            return value
        ago = re.fullmatch(r"(\d{1,9})\s*(s|min|m|h|d)", value)
        if ago is not None:
            return max(0, round((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000))
        try:
            return max(0, round(datetime.fromisoformat(value).timestamp() * 1000))
        except (ValueError, OverflowError, OSError):
            text = f"{value!r} is no time; give 90s, 15m, 2h or 7d ago, or a date such as 2026-01-31T12:00"
            self.fail(text, param, ctx)


class Size(ParamType[int]):
    """An amount of memory, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes; a usage error says how they are written."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except InvalidError as error:
            self.fail(str(error), param, ctx)


class Label(ParamType[str]):
    """A label of a box."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The label; a usage error says what one looks like."""
        try:
            return check_label(value)
        except InvalidError as error:
            self.fail(str(error), param, ctx)


as_module = click.option(
    "-m", "as_module", is_flag=True, help="The reference is a module, not a file."
)
environment = click.option("-e", "--env", "environment", help="The app's environment.")
listed_name = click.option("-n", "--name", help="What lists call the app.")
timestamps = click.option(
    "--timestamps", is_flag=True, help="Put the time in front of each line of output."
)
labels = click.option(
    "--labels/--no-labels",
    default=None,
    help="Begin lines with function and call; by default on a terminal, if several calls print.",
)
quiet = click.option(
    "-q", "--quiet", is_flag=True, help="Do not say what is declared and not done here."
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
metrics_port = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve metrics for Prometheus on this port (QMODAL_METRICS_PORT).",
)
log_json = click.option(
    "--log-json", is_flag=True, help="Write the log as an object of JSON on each line."
)
log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="The least level of what is logged.",
)
app = click.option("--app", "app", metavar="NAME|ID", help="Of this app only.")
function = click.option(
    "--function", metavar="NAME", help="Of this function only: f, Cls, or Cls.method."
)
since = click.option(
    "--since", type=Moment(), default=0, help="Not before: 15m, 2h, 7d ago, or a date and time."
)
until = click.option(
    "--until", type=Moment(), help="Not after: 15m, 2h, 7d ago, or a date and time."
)
