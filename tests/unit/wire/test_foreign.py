"""The door to objects of user code: what it lets through, and what it makes of the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Never

import pytest

from qmodal.wire.foreign import (
    NO_TEXT,
    ForeignError,
    describe,
    formatted,
    module_and_name,
    touch,
    type_name,
)
from qmodal.wire.payload import dump_value, load_value
from tests.programs import hostile

NUMBER = signal.SIGUSR1


class AlarmError(Exception):
    pass


def raises(*_: object) -> Never:
    raise AlarmError


class Ringer:
    def __call__(self, *_: object) -> Never:
        raise SystemExit(1)

    def ring(self, *_: object) -> Never:
        raise KeyboardInterrupt


def as_it_is(stack: traceback.StackSummary) -> None:
    """Change nothing."""


def raised(error: BaseException) -> BaseException:
    with contextlib.suppress(BaseException):
        raise error
    return error


@pytest.mark.parametrize("kind", hostile.KINDS.values())
def test_whatever_is_raised_behind_it_is_a_foreign_error(kind: type[BaseException]) -> None:
    def fail(text: str, *, more: int) -> Never:
        raise kind(text, more)

    with pytest.raises(ForeignError, match=kind.__name__) as caught:
        touch(fail, "a", more=1)
    assert type(caught.value.reason) is kind
    assert caught.value.reason.args == ("a", 1)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (raises, AlarmError),
        (partial(raises, 1), AlarmError),
        (Ringer(), SystemExit),
        (Ringer().ring, KeyboardInterrupt),
        (partial(partial(Ringer().ring)), KeyboardInterrupt),
    ],
)
def test_what_a_signals_handler_raises_passes(
    handler: Callable[..., Any], kind: type[BaseException]
) -> None:
    before = signal.signal(NUMBER, handler)
    try:
        with pytest.raises(kind):
            touch(os.kill, os.getpid(), NUMBER)
    finally:
        signal.signal(NUMBER, before)


def test_ctrl_c_passes() -> None:
    """Also in the middle of a value that is rebuilt."""
    with pytest.raises(KeyboardInterrupt):
        touch(os.kill, os.getpid(), signal.SIGINT)

    class Slow:
        def __reduce__(self) -> Any:
            return os.kill, (os.getpid(), signal.SIGINT)

    form, payload = dump_value(Slow(), plain_only=False)
    with pytest.raises(KeyboardInterrupt):
        load_value(form, payload, plain_only=False)


class Meta(type):
    @property
    def __name__(cls) -> Never:  # type: ignore[override]
        raise SystemExit

    @property
    def __module__(cls) -> Never:  # type: ignore[override]
        raise SystemExit


class NamelessError(Exception, metaclass=Meta):
    pass


def test_names_of_types_are_read_past_their_metaclass() -> None:
    assert type_name(NamelessError()) == "NamelessError"
    assert module_and_name(NamelessError)[1] == "NamelessError"
    assert describe(NamelessError("x")) == "NamelessError: x"


class Text(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise SystemExit

    __str__ = __bool__ = __format__ = __len__  # type: ignore[assignment]


class SubtleError(Exception):
    def __str__(self) -> str:
        return Text("subtle")


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_an_exception_that_cannot_be_asked_anything_is_described_by_its_type(kind: str) -> None:
    error = raised(hostile.HostileError(kind))
    assert describe(error) == f"HostileError: {NO_TEXT}"
    told = formatted(error, as_it_is)
    assert "in raised" in told
    assert told.endswith(f"HostileError: {NO_TEXT}\n")


def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    assert describe(SubtleError()) == "SubtleError: subtle"


def test_causes_and_groups_are_told_if_they_are_pythons_own() -> None:
    def fails() -> Never:
        try:
            raise ExceptionGroup("many", [ValueError("a"), KeyError("b")])
        except ExceptionGroup as group:
            raise asyncio.CancelledError("last") from group

    with pytest.raises(asyncio.CancelledError) as caught:
        fails()
    told = formatted(caught.value, as_it_is)
    for text in (
        "many (2 sub-exceptions)",
        "ValueError: a",
        "direct cause",
        "CancelledError: last",
    ):
        assert text in told


def test_causes_without_end_are_not_followed() -> None:
    told = formatted(raised(hostile.EndlessError("first")), as_it_is)
    assert "in raised" in told
    assert told.endswith("EndlessError: first\n")
