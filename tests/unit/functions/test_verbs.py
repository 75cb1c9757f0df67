"""Verbs: what they keep of the method they are made of, and how both of their forms behave."""

from __future__ import annotations

import asyncio
import inspect
import pydoc
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.process import state
from qmodal.client.verb import Stream, Verb, stream_verb, verb
from qmodal.exception import AsyncUsageWarning, ConfigurationError, ExecutionError
from qmodal.functions.function import Function
from qmodal.output.logs import LogVerbs
from qmodal.transport.operation import Op

IS_STRIPPED = sys.flags.optimize > 1

app = qmodal.App("verbs")


@app.function()
def double(x: int) -> int:
    return 2 * x


class Numbers(Stream[int]):
    """Pages of numbers; the second one is empty."""

    def __init__(self, closed: list[bool]) -> None:
        self._pages: list[list[int]] = [[1, 2], [], [3]]
        self._closed = closed

    def next(self) -> Op[list[int] | None]:
        yield from ()
        return self._pages.pop(0) if self._pages else None

    def close(self) -> Op[None]:
        yield from ()
        self._closed.append(True)
        raise ConfigurationError("the server is away")


class Thing:
    """Something with verbs."""

    def __init__(self) -> None:
        self.closed: list[bool] = []

    @verb
    def add(self, left: int, *, right: int = 1) -> Op[int]:
        """The sum."""
        yield from ()
        return left + right

    @verb
    def twice(self, number: int) -> Op[int]:
        """The number, twice."""
        return (yield from self.add.op(number, right=number))

    @stream_verb
    def count(self, *, start: int = 0) -> Stream[int]:
        """The numbers."""
        return Numbers(self.closed)


class Driver:
    """Runs operations that ask nothing."""

    def run(self, op: Op[Any]) -> Any:
        try:
            next(op)
        except StopIteration as done:
            return done.value
        raise AssertionError("it asks something")

    async def aio(self, op: Op[Any]) -> Any:
        return self.run(op)


@pytest.fixture
def thing(monkeypatch: pytest.MonkeyPatch) -> Thing:
    """A thing, with a client that needs no server."""
    monkeypatch.setattr(state, "client", Driver())
    return Thing()


async def listed(stream: Any) -> list[int]:
    return [each async for each in stream]


def test_both_forms_do_the_same(thing: Thing) -> None:
    assert thing.add(1, right=2) == asyncio.run(thing.add.aio(1, right=2)) == 3
    assert thing.twice(4) == 8
    assert list(thing.count()) == asyncio.run(listed(thing.count.aio())) == [1, 2, 3]


def test_a_stream_that_nobody_reads_on_is_closed(thing: Thing) -> None:
    for number in thing.count():
        assert number == 1
        break
    assert thing.closed == [True]

    async def first() -> int:
        stream = thing.count.aio()
        number = await anext(stream)
        await stream.aclose()
        return number

    assert asyncio.run(first()) == 1
    assert thing.closed == [True, True]


@pytest.mark.parametrize("use", [lambda t: t.add(1), lambda t: list(t.count())])
def test_blocking_a_running_loop_warns_the_line_that_does_so(
    thing: Thing, use: Callable[[Thing], Any]
) -> None:
    async def program() -> None:
        use(thing)

    with pytest.warns(AsyncUsageWarning, match="blocks the event loop") as caught:
        asyncio.run(program())
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Function, "remote"),
        (Function, "remote_gen"),
        (Function, "map"),
        (Function, "spawn_map"),
        (Function, "update_autoscaler"),
        (qmodal.FunctionCall, "get"),
        (qmodal.App, "deploy"),
        (LogVerbs, "tail"),
    ],
)
def test_a_verb_has_the_name_and_the_docstring_of_its_method(owner: type, name: str) -> None:
    made = getattr(owner, name)
    assert made.__name__ == name
    assert made.__qualname__.endswith(f".{name}")
    assert len(inspect.getdoc(made) or "") > 20 or IS_STRIPPED


def test_a_verb_of_an_object_can_be_asked_what_it_is(thing: Thing) -> None:
    assert str(inspect.signature(thing.add)) == "(left: 'int', *, right: 'int' = 1) -> 'int'"
    assert inspect.getdoc(thing.add) == (None if IS_STRIPPED else "The sum.")
    for name in ("remote", "remote_gen", "map", "for_each"):
        assert inspect.getdoc(getattr(double, name)) == inspect.getdoc(getattr(Function, name))
    assert thing.count.__name__ == "count"
    assert repr(thing.add) == "<verb Thing.add>"
    assert repr(qmodal.App.lookup) == "<verb _lookup>"
    assert qmodal.App.lookup.__name__ == "lookup"
    assert (inspect.getdoc(Verb) or "").startswith("A verb with its object") or IS_STRIPPED


def test_what_the_program_forgot_comes_before_a_server_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "client", None)
    monkeypatch.setattr(clients, "resolve", lambda settings: settings)
    monkeypatch.delenv("QMODAL_REDIS_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(ExecutionError, match="hydrated"):
        double.remote(1)
    with pytest.raises(ExecutionError, match="hydrated"):
        next(double.remote_gen(1))
    with pytest.raises(ExecutionError, match="hydrated"):
        list(double.map([1]))


@app.cls()
class Shop:
    """A shop."""

    @qmodal.method()
    def price(self, name: str, *, count: int = 1) -> float:
        """What so many of them cost."""
        return 0.0


SIGNATURES: dict[str, tuple[Any, str]] = {
    "a call has the function's parameters and its result": (double.remote, "(x: 'int') -> 'int'"),
    "a spawn gives a call of it": (double.spawn, "(x: 'int') -> 'FunctionCall[int]'"),
    "a method's are without self": (
        Shop().price.remote,
        "(name: 'str', *, count: 'int' = 1) -> 'float'",
    ),
    "that of a class has self": (
        qmodal.Dict.get,
        "(self, key: 'Any', default: 'Any' = None) -> 'Any'",
    ),
    "streams are iterated": (qmodal.Queue.iterate, "-> 'Iterator[Any]'"),
    "work is done": (Function.for_each, "-> 'None'"),
    "of a function that is not here all is possible": (
        Function.from_name("a", "f").remote,
        "(*args: 'P.args', **kwargs: 'P.kwargs') -> 'R'",
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_what_a_caller_passes_and_gets(name: str) -> None:
    found, text = SIGNATURES[name]
    assert str(inspect.signature(found)).endswith(text)


@pytest.mark.parametrize("name", ["Function.map", "double.map", "qmodal.FunctionCall.get"])
def test_help_shows_the_signature(name: str) -> None:
    found = eval(name)
    first = pydoc.render_doc(found, renderer=pydoc.TextDoc()).splitlines()[2]
    assert re.sub(".\b", "", first) == f"{name.rpartition('.')[2]}{inspect.signature(found)}"


def test_a_handle_is_named_and_documented_as_what_it_stands_for() -> None:
    assert (double.__name__, double.__module__) == ("double", __name__)
    assert double.__wrapped__(2) == 4
    price = Shop().price
    assert (Shop.__name__, price.__name__) == ("Shop", "price")
    if not IS_STRIPPED:
        assert (Shop.__doc__, price.__doc__) == ("A shop.", "What so many of them cost.")
        assert "runs elsewhere" in str(Function.__doc__)


def test_a_verb_of_a_class_can_be_called_with_its_object(thing: Thing) -> None:
    assert Thing.add(thing, 1, right=2) == 3


def test_dir_shows_the_public_names() -> None:
    assert dir(qmodal) == sorted(qmodal.__all__)
