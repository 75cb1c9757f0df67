"""How a command ends that failed: its exit code, and what is said on standard error."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from qmodal.cli.echo import echo
from qmodal.exception import AuthError, ConfigurationError, ConnectionError, Error, clause
from qmodal.wire.foreign import ForeignError, chain, describe, touch

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
# What a command without its arguments raises to show its usage; click 8.1 shows that by itself.
_USAGE: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
# A server that nobody finds is as a rule a wrong address.
_OF_SETTINGS = (ConfigurationError, AuthError, ConnectionError)
_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_REMOTE = "Remote traceback"
# What stands between us and the user's code: a command's way in, an import's, a coroutine's.
_BETWEEN = (f"{Path(click.__file__).parent}{os.sep}", f"{os.sep}asyncio{os.sep}", "<frozen ")


def exit_code_of(failure: Error | click.ClickException | click.Abort) -> int:
    """Say what failed, and return the exit code for it."""
    match failure:
        case click.UsageError() if isinstance(failure, _USAGE):
            echo(failure.format_message(), err=True)
            return MISUSED
        case click.UsageError():
            _say(f"{clause(failure.format_message())}{_hint(failure)}")
            return failure.exit_code
        case click.ClickException():
            _say(failure.format_message())
            return failure.exit_code
        case click.Abort() if isinstance(failure.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        case click.Abort():
            echo("Aborted.", err=True)
            return FAILED
        case _:
            _show_error(failure)
            return MISUSED if isinstance(failure, _OF_SETTINGS) else FAILED


def show_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An excepthook: the traceback of user code, without the frames that are ours."""
    shown = None
    if not _wants_everything():
        with suppress(ForeignError):
            shown = touch(user_traceback, error)
    if shown is None:
        sys.__excepthook__(kind, error, trace)
    else:
        echo(shown, nl=False, err=True)


def user_traceback(error: BaseException) -> str | None:
    """The printed traceback without our frames and without those above the user's.

    None if that leaves nothing that says where it happened: then the mistake is ours.
    """
    printed = traceback.TracebackException.from_exception(error, compact=True)
    parts = list(chain(printed))
    for part in parts:
        _cut(part.stack)
        # Its type says that there are only texts; what is in an exception may be anything.
        notes: Any = getattr(part, "__notes__", None)
        if type(notes) is list:
            part.__notes__ = [_said_once(note) for note in notes]
    is_placed = any(part.stack or getattr(part, "filename", None) for part in parts)
    return "".join(printed.format()) if is_placed or _is_remote(error) else None


def _is_remote(error: BaseException) -> bool:
    return any(note.startswith(_REMOTE) for note in getattr(error, "__notes__", ()))


def _show_error(failure: Error) -> None:
    if _wants_everything():
        sys.__excepthook__(type(failure), failure, failure.__traceback__)
        return
    try:
        _say(touch(_text_of, failure))
    except ForeignError:  # it is of a class of the user's
        _say(describe(failure))


def _text_of(failure: Error) -> str:
    # The notes hold the remote traceback, the one place that says which line of a function failed.
    return "\n".join([str(failure), *map(_said_once, getattr(failure, "__notes__", ()))])


def _said_once(note: str) -> str:
    """The note; without a remote traceback that stands on the screen already, where its container has printed it."""
    if not (note.startswith(_REMOTE) and _is_one_screen()):
        return note
    from qmodal.client.process import state
    from qmodal.wire.remote_error import said_once

    return said_once(note, state.shown)


def _is_one_screen() -> bool:
    """Whether what containers print goes where errors go."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or something else in their place
        return False


def _say(text: str) -> None:
    echo(f"Error: {text}", err=True)


def _hint(failure: click.UsageError) -> str:
    context = failure.ctx
    return f" (see {context.command_path} --help)" if context is not None else ""


def _wants_everything() -> bool:
    return os.environ.get("QMODAL_TRACEBACK", "").lower() not in ("", "0", "false")


def _cut(stack: traceback.StackSummary) -> None:
    above = 0
    while above < len(stack) and _is_above(stack[above].filename):
        above += 1
    stack[:] = [frame for frame in stack[above:] if not frame.filename.startswith(_OURS)]


def _is_above(filename: str) -> bool:
    # The installed `qmodal` program is a file of that name without an ending.
    return (
        filename.startswith(_OURS)
        or any(part in filename for part in _BETWEEN)
        or Path(filename).name == "qmodal"
    )
