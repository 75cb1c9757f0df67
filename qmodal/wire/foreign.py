"""The one door to objects of user code, which may raise anything when they are touched.

To describe, print, pickle or rebuild an object runs its methods. What these raise, SystemExit,
KeyboardInterrupt and the like included, is a ForeignError here: it fails one input or one call, and
never the process. What interrupts this process meanwhile passes as it is.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Adapt = Callable[[traceback.StackSummary], None]

TEXT_LIMIT = 64 * 1024
NO_TEXT = "<its text cannot be made: __str__ raised>"

# Read from where Python keeps them: a class, or its metaclass, may have a property of that name.
_NAME = type.__dict__["__name__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_BASES = type.__dict__["__mro__"].__get__
_NAMES = type.__dict__["__dict__"].__get__
_FLAGS = type.__dict__["__flags__"].__get__
_TRACEBACK = vars(BaseException)["__traceback__"].__get__
_CAUSE = vars(BaseException)["__cause__"].__get__
_CONTEXT = vars(BaseException)["__context__"].__get__
_MEMBERS = vars(BaseExceptionGroup)["exceptions"].__get__
_HEAP_TYPE = 1 << 9

# Of an exception's class these may lead a traceback's printing on without end.
_LED_BY = frozenset(
    {
        "__cause__",
        "__context__",
        "__getattribute__",
        "__notes__",
        "__suppress_context__",
        "__traceback__",
        "exceptions",
    }
)


class ForeignError(Exception):
    """User code raised `reason`, of any type, while one of its objects was described, pickled or rebuilt."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return describe(self.reason)


def touch(act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `act` returns, which runs user code. Raises ForeignError, and what interrupts this process."""
    try:
        return act(*args, **kwargs)
    except BaseException as error:
        if is_interruption(error):
            raise
        raise ForeignError(error) from error


def is_interruption(error: BaseException) -> bool:
    """Whether a signal has raised it, as Ctrl-C does, and not the code that it was raised in.

    An exception says nothing of that, but its traceback does: a handler of Python's leads to it, or
    there was no `raise` where it came from.
    """
    handlers = list(_handlers())
    last: TracebackType | None = None
    following: TracebackType | None = _TRACEBACK(error)
    while following is not None:
        code = following.tb_frame.f_code
        if any(code is handler for handler in handlers):
            return True
        last, following = following, following.tb_next
    return type(error) is KeyboardInterrupt and not (last and _is_raising(last))


def _handlers() -> Iterator[CodeType]:
    """The code of all handlers of signals, whatever kinds of callables they are."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while type(handler) is partial:
            handler = handler.func
        if type(handler) is MethodType:
            handler = handler.__func__
        elif type(handler) is not FunctionType:
            handler = getattr_static(type(handler), "__call__", None)
        if type(handler) is FunctionType:
            yield handler.__code__


def _is_raising(trace: TracebackType) -> bool:
    """Whether a `raise` stands where it came from."""
    from opcode import opmap

    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]


def type_name(value: object) -> str:
    """The name of its type."""
    name: str = _NAME(type(value))
    return name


def module_and_name(kind: type) -> tuple[str, str]:
    """Where a type is to be found, as far as it says so."""
    try:
        module = _MODULE(kind)
    except AttributeError:
        module = None
    return module if type(module) is str else "?", _QUALNAME(kind)


def describe(error: BaseException) -> str:
    """Type and message on one line, also for an exception whose `__str__` fails."""
    try:
        text = touch(_text, error)
    except ForeignError:
        text = NO_TEXT
    return trimmed(f"{type_name(error)}: {text}" if text else type_name(error))


def _text(error: BaseException) -> str:
    # Joined, it is no text of a class of its own, which would be user code again.
    return "".join([str(error)])


def formatted(error: BaseException, adapt: Adapt) -> str:
    """The printed traceback with its causes; `adapt` may change the stacks.

    What user code does not let us tell of it is left out.
    """
    # Before all: an interruption passes here, while `traceback` takes it for a text that fails.
    text = describe(error)
    for make in (_with_causes, _alone):
        try:
            return trimmed(touch(make, error, text, adapt))
        except ForeignError:
            continue
    return f"{text}\n"


def _with_causes(error: BaseException, _text: str, adapt: Adapt) -> str:
    if not all(map(_is_straight, map(type, _related(error)))):
        return _alone(error, _text, adapt)
    printed = traceback.TracebackException(type(error), error, _TRACEBACK(error), compact=True)
    for part in chain(printed):
        adapt(part.stack)
    return "".join(printed.format())


def _alone(error: BaseException, text: str, adapt: Adapt) -> str:
    stack = traceback.extract_tb(_TRACEBACK(error))
    adapt(stack)
    return "".join(["Traceback (most recent call last):\n", *stack.format(), text, "\n"])


def _related(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that its traceback tells of, each once."""
    pending: list[Any] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [_CAUSE(one), _CONTEXT(one)]
        if issubclass(type(one), BaseExceptionGroup):
            pending += _MEMBERS(one)


def _is_straight(kind: type) -> bool:
    """Whether what a traceback's printing follows is what Python keeps, and no code of the class."""
    return not any(
        _FLAGS(base) & _HEAP_TYPE and not _LED_BY.isdisjoint(_NAMES(base)) for base in _BASES(kind)
    )


def chain(
    printed: traceback.TracebackException | None,
) -> Iterator[traceback.TracebackException]:
    """All parts of what is printed of an exception: causes, contexts, members of groups."""
    pending = [printed]
    while pending:
        part = pending.pop()
        if part is not None:
            yield part
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]


def trimmed(text: str) -> str:
    """The text, or its beginning and its end."""
    if len(text) <= TEXT_LIMIT:
        return text
    half = TEXT_LIMIT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
