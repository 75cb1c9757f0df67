"""An exception of a container as bytes, and those bytes as an exception the caller can catch."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    RemoteError,
    SerializationError,
)
from qmodal.wire.plain import pack, unpack

TEXT_LIMIT = 64 * 1024
OBJECT_LIMIT = 1024 * 1024

_NOTE = "Remote traceback (container "
_LOCAL_ERROR = "Could not deserialize remote exception due to local error: "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What travels: always the texts; the object only if the sender could rebuild it."""

    type: str
    module: str
    text: str
    traceback: str
    origin: str
    pickle: bytes = b""
    unpicklable: str = ""
    unbuildable: str = ""

    @property
    def full_type(self) -> str:
        """The type's name as one imports it."""
        return f"{self.module}.{self.type}"

    @property
    def note(self) -> str:
        """What is printed below the exception at the caller."""
        return f"{_NOTE}{self.origin}):\n{self.traceback}"


def describe(exc: BaseException) -> str:
    """Type and message on one line, also for an exception whose `__str__` fails."""
    text = "<its text cannot be made: __str__ raised>"
    # What user code raises while it describes itself has no reader; the type is still worth telling.
    with suppress(Exception):
        text = f"{exc!s}"
    return _trimmed(f"{type(exc).__name__}: {text}" if text else type(exc).__name__)


def dump_exception(exc: BaseException, *, origin: str, plain_only: bool) -> bytes:
    """The bytes of what user code raised in container `origin`; raises nothing itself."""
    report = _Report(
        type=str(type(exc).__qualname__),
        module=str(type(exc).__module__),
        text=describe(exc),
        traceback=_remote_traceback(exc, origin),
        origin=origin,
    )
    return pack(asdict(report if plain_only else _with_object(report, exc)))


def load_exception(packed: bytes, *, plain_only: bool) -> BaseException:
    """The exception to raise at the caller, with the remote traceback as a note.

    It has the original type where that can be rebuilt here. Else it is SerializationError or
    ExecutionError, which say why not, or RemoteError when only text may or did travel.
    """
    try:
        report = _report(packed)
    except DeserializationError as reason:
        return ExecutionError(f"{_LOCAL_ERROR}{describe(reason)}")
    if report.unpicklable:
        refused = f"Failed to serialize exception {report.text} of type {report.full_type}: "
        return _annotated(SerializationError(f"{refused}{report.unpicklable}"), report)
    if report.unbuildable:
        return _unbuildable(report, report.unbuildable)
    if plain_only or not report.pickle:
        return _annotated(RemoteError(report.text), report)
    try:
        return _annotated(_loaded(report.pickle), report)
    except DeserializationError as reason:
        return _unbuildable(report, str(reason))


def _with_object(report: _Report, exc: BaseException) -> _Report:
    """The report with the exception itself, if this side can rebuild it; else with the reason."""
    try:
        pickle = _dumped(exc)
    except SerializationError as reason:
        return replace(report, unpicklable=str(reason))
    try:
        copy = _loaded(pickle)
    except DeserializationError as reason:
        return replace(report, unbuildable=str(reason))
    if type(copy) is not type(exc):
        return replace(report, unbuildable=f"its pickle makes a {type(copy).__name__}")
    return replace(report, pickle=pickle)


# SystemExit is caught beside Exception because an exception's own `__reduce__` or `__init__` may call
# sys.exit, which must end neither the container nor the caller.
def _dumped(exc: BaseException) -> bytes:
    from qmodal.wire import pickled

    try:
        pickle = pickled.dumps(exc)
    except (Exception, SystemExit) as reason:
        raise SerializationError(describe(reason)) from reason
    if len(pickle) > OBJECT_LIMIT:
        raise SerializationError(f"its pickle is {len(pickle)} bytes, the limit {OBJECT_LIMIT}")
    return pickle


def _loaded(pickle: bytes) -> BaseException:
    from qmodal.wire import pickled

    try:
        error = pickled.loads(pickle)
    except (Exception, SystemExit) as reason:
        raise DeserializationError(describe(reason)) from reason
    if not isinstance(error, BaseException):
        raise DeserializationError(f"its pickle makes a {type(error).__name__}, no exception")
    return error


def _report(packed: bytes) -> _Report:
    loaded = unpack(packed)
    names = {field.name: bytes if field.name == "pickle" else str for field in fields(_Report)}
    if type(loaded) is not dict or any(type(loaded.get(n)) is not t for n, t in names.items()):
        raise DeserializationError("these bytes hold no exception")
    return _Report(**{name: loaded[name] for name in names})


def _unbuildable(report: _Report, reason: str) -> ExecutionError:
    return ExecutionError(
        f"{_LOCAL_ERROR}{reason}\n"
        f"The exception was {report.full_type}; this process needs that type, in an importable "
        f"module, and able to be rebuilt from its args.\n{report.note}",
    )


def _annotated(error: BaseException, report: _Report) -> BaseException:
    # An exception that passes through several containers keeps one note: the newest contains the others.
    with suppress(Exception):  # its notes are user code, too
        kept = [note for note in getattr(error, "__notes__", ()) if not note.startswith(_NOTE)]
        # Not add_note: it fails on exceptions that refuse new attributes.
        object.__setattr__(error, "__notes__", [*kept, report.note])
    return error


def _remote_traceback(exc: BaseException, origin: str) -> str:
    """The printed traceback with its causes: without our frames above the user's, files by origin."""
    text = describe(exc)
    with suppress(Exception):  # user code again: notes, messages and source files of its own making
        printed = traceback.TracebackException.from_exception(exc, compact=True)
        for part in _chain(printed):
            _localize(part.stack, origin)
        text = "".join(printed.format())
    return _trimmed(text)


def _chain(
    printed: traceback.TracebackException | None,
) -> Iterator[traceback.TracebackException]:
    pending = [printed]
    while pending:
        part = pending.pop()
        if part is not None:
            yield part
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]


def _localize(stack: traceback.StackSummary, origin: str) -> None:
    own = _own_folders()
    ours = 0
    while ours < len(stack) and stack[ours].filename.startswith(own):
        ours += 1
    if ours < len(stack):
        del stack[:ours]
    for frame in stack:
        _ = frame.line  # read from the file under its real name, before that changes
        frame.filename = f"{origin}:{frame.filename}"


def _own_folders() -> tuple[str, ...]:
    workers = getattr(sys.modules.get("qmodal_workers"), "__file__", None)
    folders = [Path(__file__).parent.parent, *([Path(workers).parent] if workers else [])]
    return tuple(f"{folder}{os.sep}" for folder in folders)


def _trimmed(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    half = TEXT_LIMIT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
