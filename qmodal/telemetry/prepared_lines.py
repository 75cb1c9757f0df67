"""Lines of an event that happens very often: made from a template, which is made once from the table of events.

They are the lines that `emit` leads to, without a record of logging for each, which takes several times as long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from string import Formatter
from typing import Any

from qmodal.telemetry.events import Event
from qmodal.telemetry.printable import printable

# A line from the values of the event's fields, in the order that was agreed on.
Render = Callable[[tuple[Any, ...]], str]


def prepared_line(event: Event, names: Sequence[str], *, as_json: bool = False) -> Render:
    """What renders lines of the event from its fields, whose values are given in the order of `names`.

    Text in them is shown so that it neither ends the line nor changes how a terminal shows it, and None as "-"; in
    JSON they are as they are. Raises TypeError if `names` are not the event's fields.
    """
    if len(names) != len(event.fields) or event.fields != set(names):
        raise TypeError(f"{event.name} has the fields {sorted(event.fields)}, not {list(names)}")
    message = _message(event, names)
    return _json(event, names, message) if as_json else _people(event, message)


def _message(event: Event, names: Sequence[str]) -> Render:
    """The event's line: its template for `%` takes half of the time of that for `format`."""
    template, places = "", list[int]()
    for text, name, spec, _ in Formatter().parse(event.line):
        template += text.replace("%", "%%")
        if name is not None:
            template += f"%{spec or 's'}"
            places.append(names.index(name))
    chosen = itemgetter(*places)

    def message(values: tuple[Any, ...]) -> str:
        line: str = template % chosen([_shown(each) for each in values])
        return line

    return message


def _people(event: Event, message: Render) -> Render:
    level = logging.getLevelName(event.level)
    moment = _moments("%Y-%m-%d %H:%M:%S,{:03d}", time.localtime)

    def people(values: tuple[Any, ...]) -> str:
        return f"{moment()} {level} {message(values)}\n"

    return people


def _json(event: Event, names: Sequence[str], message: Render) -> Render:
    import json  # who writes lines for people has no use for it

    fixed = {"level": logging.getLevelName(event.level).lower(), "event": event.name}
    parts = [f'"{name}": %s' for name in names] + [json.dumps(fixed)[1:-1]]
    template = "{" + ", ".join(parts) + ', "time": "%s", "message": %s}\n'
    moment = _moments("%Y-%m-%dT%H:%M:%S.{:03d}Z", time.gmtime)
    text = json.encoder.encode_basestring_ascii
    plain: dict[type, Callable[[Any], str]] = {str: text, int: repr, float: repr, type(None): _null}

    def as_json(values: tuple[Any, ...]) -> str:
        fields = [plain[type(each)](each) for each in values]
        return template % (*fields, moment(), text(message(values)))

    return as_json


def _moments(form: str, parts_of: Callable[[float], time.struct_time]) -> Callable[[], str]:
    """What says the time, to the millisecond; what is the same for a second is made once in it."""
    known, template = -1, ""

    def moment() -> str:
        nonlocal known, template
        now = time.time()
        second = int(now)
        if second != known:
            known, template = second, time.strftime(form, parts_of(now))
        return template.format(int((now - second) * 1000))

    return moment


def _null(_: None) -> str:
    return "null"


def _shown(value: Any) -> Any:
    if type(value) is not str:
        return "-" if value is None else value
    if value.isascii() and value.isprintable():  # nearly always
        return value
    return printable(value.encode("ascii", "backslashreplace").decode())
