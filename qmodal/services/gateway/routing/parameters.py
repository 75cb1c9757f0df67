"""The parameters of a class in a query, and what is answered where they are missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from qmodal.exception import InvalidError
from qmodal.services.gateway.exchange.responses import RefusedError, as_json
from qmodal.spec.parameters import ParameterSpec, bind, encode

_INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*(\.0*)?")
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
# What a parameter may be at the most, and then is refused by `encode`.
_MOST_DIGITS = 40
_MISSING = ("missing", "Field required")
_NO_INTEGER = (
    "int_parsing",
    "Input should be a valid integer, unable to parse string as an integer",
)
_LARGE_INTEGER = (
    "int_parsing_size",
    "Unable to parse input string as an integer, exceeded maximum size",
)
_NO_BOOLEAN = ("bool_parsing", "Input should be a valid boolean, unable to interpret input")


class _WrongError(Exception):
    """A text that stands for no value of the type; carries a type of error and a sentence."""


def read_parameters(specs: Sequence[ParameterSpec], query: bytes) -> tuple[dict[str, Any], bytes]:
    """The parameters' values in the query, defaults filled in, and their bytes in a pool's identity.

    The last value of a name counts. Raises RefusedError (422, as FastAPI words it).
    """
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    values: dict[str, Any] = {}
    wrong = []
    for spec in specs:
        try:
            if spec.name in given:
                values[spec.name] = _READERS[spec.kind](given[spec.name])
            elif spec.required:
                raise _WrongError(*_MISSING)
        except _WrongError as error:
            wrong.append(_detail(spec.name, given.get(spec.name), *error.args))
    if wrong:
        raise RefusedError(as_json(422, {"detail": wrong}))
    return _bound(specs, values)


def _bound(
    specs: Sequence[ParameterSpec], values: Mapping[str, Any]
) -> tuple[dict[str, Any], bytes]:
    try:
        bound = bind(specs, (), values)
        return bound, encode(bound) if bound else b""
    except (InvalidError, TypeError, ValueError) as error:
        names = ", ".join(values)
        raise RefusedError(
            as_json(422, {"detail": [_detail(names, None, "value_error", str(error))]})
        ) from None


def _detail(name: str, text: str | None, kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["query", name], "msg": message, "input": text}


def _integer(text: str) -> int:
    text = text.strip()
    if _INTEGER.fullmatch(text) is None:
        raise _WrongError(*_NO_INTEGER)
    digits = text.partition(".")[0]
    if len(digits) > _MOST_DIGITS:
        raise _WrongError(*_LARGE_INTEGER)
    value = int(digits)
    if not -(2**63) <= value < 2**63:
        raise _WrongError(*_LARGE_INTEGER)
    return value


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise _WrongError(*_NO_BOOLEAN)


_READERS: dict[str, Any] = {
    "int": _integer,
    "str": str,
    "bool": _boolean,
    "bytes": lambda text: text.encode(),
}
