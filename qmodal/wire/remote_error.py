"""An exception of a container as bytes, and those bytes as an exception the caller can catch."""

from __future__ import annotations

import os
import re
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    InvalidError,
    RemoteError,
    SerializationError,
    TimeoutError,
)
from qmodal.wire.foreign import (
    NO_TEXT,
    ForeignError,
    describe,
    formatted,
    module_and_name,
    touch,
    type_name,
)
from qmodal.wire.plain import pack, unpack

OBJECT_LIMIT = 1024 * 1024

# Where a bundle of the user's files is unpacked (`source.bundle`): in a folder that is named by its digest. A file may
# have been renamed for it (`source.loader`).
_UNPACKED = re.compile("^.*/code/[0-9a-f]{64}/(?:qmodal_user_)?")
_ADDRESS = re.compile("0x[0-9a-fA-F]+")
_SAY_WHAT_TO_CHANGE = (InvalidError, ExecutionError, TimeoutError)
_NOTE = "Remote traceback (container "
_ORIGIN = re.compile('File "ta-[^":]*:')
_LOCAL_ERROR = "Could not deserialize remote exception due to local error: "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """An exception as it travels: always its texts, its object only if the sender could rebuild it."""

    type: str
    module: str
    text: str
    traceback: str
    origin: str
    about: str = ""
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
        about = f", {self.about}" if self.about else ""
        return f"{_NOTE}{self.origin}{about}):\n{self.traceback}"


def dump_exception(exc: BaseException, *, origin: str, plain_only: bool, about: str = "") -> bytes:
    """The bytes of what user code raised in container `origin`; `about` says what it ran there.

    Raises nothing itself; what interrupts it, as a time limit does, passes.
    """
    trace = formatted(exc, partial(_localize, origin))
    report = _report_of(exc, describe(exc), trace, origin, about)
    return pack(asdict(report if plain_only else _with_object(report, exc)))


def dump_type(exc: BaseException, *, origin: str, about: str = "") -> bytes:
    """As `dump_exception`, of one that cannot be looked at: its type, and nothing that runs user code."""
    text = f"{type_name(exc)}: {NO_TEXT}"
    return pack(asdict(_report_of(exc, text, f"{text}\n", origin, about)))


def _report_of(exc: BaseException, text: str, trace: str, origin: str, about: str) -> _Report:
    module, name = module_and_name(type(exc))
    return _Report(type=name, module=module, text=text, traceback=trace, origin=origin, about=about)


def load_exception(packed: bytes, *, plain_only: bool, where: str = "") -> BaseException:
    """The exception to raise at the caller, with the remote traceback as a note, which says `where` it was raised.

    It has the original type where that can be rebuilt here. Else it is SerializationError or
    ExecutionError, which say why not, or RemoteError when only text may or did travel.
    """
    try:
        report = _report(packed)
    except DeserializationError as reason:
        return ExecutionError(f"{_LOCAL_ERROR}{describe(reason)}")
    if where:
        report = replace(report, about=", ".join(filter(None, (report.about, where))))
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
        return replace(report, unbuildable=f"its pickle makes a {type_name(copy)}")
    if not _says_the_same(describe(copy), report.text):
        return replace(report, unbuildable=f"its pickle makes another text, {describe(copy)!r}")
    return replace(report, pickle=pickle)


def _says_the_same(text: str, original: str) -> bool:
    """Whether the texts are equal, but for addresses, and for the order in which sets are printed."""
    if text == original:
        return True
    return sorted(_ADDRESS.sub("", text)) == sorted(_ADDRESS.sub("", original))


def _dumped(exc: BaseException) -> bytes:
    from qmodal.wire import pickled

    try:
        pickle = touch(pickled.dumps, exc)
    except ForeignError as foreign:
        raise SerializationError(str(foreign)) from foreign.reason
    if len(pickle) > OBJECT_LIMIT:
        raise SerializationError(f"its pickle is {len(pickle)} bytes, the limit {OBJECT_LIMIT}")
    return pickle


def _loaded(pickle: bytes) -> BaseException:
    from qmodal.wire import pickled

    try:
        error = touch(pickled.loads, pickle)
    except ForeignError as foreign:
        raise DeserializationError(str(foreign)) from foreign.reason
    if not issubclass(type(error), BaseException):
        raise DeserializationError(f"its pickle makes a {type_name(error)}, no exception")
    found: BaseException = error
    return found


def _report(packed: bytes) -> _Report:
    loaded = unpack(packed)
    names = {field.name: bytes if field.name == "pickle" else str for field in fields(_Report)}
    if type(loaded) is dict:
        loaded.setdefault("about", "")  # of a container that is older
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
    with suppress(ForeignError):
        touch(_annotate, error, report.note)
    return error


def _annotate(error: BaseException, note: str) -> None:
    # An exception that passes through several containers keeps one note: the newest contains the others.
    kept = [each for each in getattr(error, "__notes__", ()) if not each.startswith(_NOTE)]
    # Not add_note: it fails on exceptions that refuse new attributes.
    object.__setattr__(error, "__notes__", [*kept, note])


def is_remote(note: object) -> bool:
    """Whether a note on an exception is the one that says where it was raised."""
    return type(note) is str and note.startswith(_NOTE)


def said_once(note: str, shown: str) -> str:
    """The note; without its remote traceback if that is in `shown`, where the container has printed it."""
    heading, found, trace = note.partition("):\n")
    if not (found and heading.startswith(_NOTE)):
        return note
    text = _ORIGIN.sub('File "', trace).strip()
    return f"{heading}), shown above" if text and text in shown else note


def printed(exc: BaseException) -> str:
    """The printed traceback with its causes, without our frames above the user's."""
    return formatted(exc, _without_ours)


def explained(exc: BaseException) -> str:
    """As `printed`; of an error of ours that says what to change, and came through no code of the user's, its line."""
    # By its type: `isinstance` would also ask a property `__class__`, which is user code.
    if issubclass(type(exc), _SAY_WHAT_TO_CHANGE) and exc.__cause__ is None:
        frames = traceback.extract_tb(exc.__traceback__)
        if all(frame.filename.startswith(_own_folders()) for frame in frames):
            return f"{describe(exc)}\n"
    return printed(exc)


def note_on(error: BaseException, text: str) -> None:
    """Add a note to an exception, if it lets us."""
    with suppress(ForeignError):
        touch(_add, error, text)


def _add(error: BaseException, text: str) -> None:
    object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), text])


def _without_ours(stack: traceback.StackSummary) -> None:
    """Leave out our frames, and name the user's files as he does: below the folder that they were packed from."""
    own = _own_folders()
    kept = [frame for frame in stack if not frame.filename.startswith(own)]
    stack[:] = kept or stack
    for frame in stack:
        _ = frame.line  # read from the file under its real name, before that changes
        frame.filename = _UNPACKED.sub("", frame.filename)


def _localize(origin: str, stack: traceback.StackSummary) -> None:
    """As `_without_ours`; what is not the user's is named by its container."""
    _without_ours(stack)
    for frame in stack:
        if Path(frame.filename).is_absolute():
            frame.filename = f"{origin}:{frame.filename}"


def _own_folders() -> tuple[str, ...]:
    workers = getattr(sys.modules.get("qmodal_workers"), "__file__", None)
    folders = [Path(__file__).parent.parent, *([Path(workers).parent] if workers else [])]
    return tuple(f"{folder}{os.sep}" for folder in folders)
