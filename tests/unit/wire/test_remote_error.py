"""What a caller sees of an exception that user code raised in a container."""

from __future__ import annotations

import contextlib
import sys
import traceback
import types
from functools import partial
from pathlib import Path
from typing import Any, Never

import pytest

from qmodal.exception import (
    ExecutionError,
    FunctionTimeoutError,
    InvalidError,
    RemoteError,
    SerializationError,
)
from qmodal.wire.foreign import ForeignError, describe, touch
from qmodal.wire.plain import pack, unpack
from qmodal.wire.remote_error import dump_exception, explained, load_exception

ORIGIN = "ta-box-1"


class TwoArgumentsError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


class LockedError(Exception):
    def __reduce__(self) -> Never:
        raise RuntimeError("no pickle today")


class ExitingError(Exception):
    def __reduce__(self) -> Never:
        sys.exit(3)


class ExitsOnLoadError(Exception):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.__dict__.setdefault("made", True)

    def __setstate__(self, state: Any) -> Never:
        sys.exit(3)


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class NotesFailError(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes")


class NotAnErrorError(Exception):
    def __reduce__(self) -> Any:
        return (int, ())


class OtherTypeError(Exception):
    def __reduce__(self) -> Any:
        return (ValueError, ("changed",))


class SealedError(Exception):
    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(name)


def raised(error: BaseException) -> BaseException:
    with contextlib.suppress(BaseException):
        raise error
    return error


def sent(error: BaseException, *, plain_only: bool = False) -> BaseException:
    packed = dump_exception(raised(error), origin=ORIGIN, plain_only=plain_only)
    return load_exception(packed, plain_only=plain_only)


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        KeyError("k"),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(1),
        FunctionTimeoutError("slow"),
        ExceptionGroup("many", [ValueError("a"), TypeError("b")]),
        SealedError(4),
        ValueError("\ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_original_type_and_text_arrive_with_the_remote_traceback(error: BaseException) -> None:
    arrived = sent(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.__traceback__ is None
    text = printed(arrived)
    assert f'File "{ORIGIN}:{__file__}"' in text
    assert "in raised" in text
    assert "raise error" in text


def test_it_can_be_caught_by_its_type() -> None:
    with pytest.raises(ValueError, match="boom"):
        raise sent(ValueError("boom"))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            LockedError("x"),
            SerializationError,
            "Failed to serialize exception LockedError: x of type .*RuntimeError: no pickle today",
        ),
        (ExitingError("x"), SerializationError, "Failed to serialize exception .*SystemExit"),
        (
            ValueError("x" * 3_000_000),
            SerializationError,
            "Failed to serialize exception .*its pickle is 30000",
        ),
        (
            TwoArgumentsError("a", "b"),
            ExecutionError,
            r"Could not deserialize remote exception due to local error: TypeError.*'second'",
        ),
        (ExitsOnLoadError("x"), ExecutionError, "due to local error: SystemExit"),
        (NotAnErrorError("x"), ExecutionError, "makes a int, no exception"),
        (OtherTypeError("x"), ExecutionError, "makes a ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_that_cannot_travel_says_why_and_keeps_the_traceback(
    error: BaseException, kind: type[BaseException], text: str
) -> None:
    arrived = sent(error)
    assert type(arrived) is kind
    with pytest.raises(kind, match=f"(?s){text}"):
        raise arrived
    assert f'File "{ORIGIN}:' in printed(arrived)
    assert len(printed(arrived)) < 200_000


def test_a_type_that_is_missing_here_is_an_execution_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("only_remote")
    error = type("OnlyRemoteError", (Exception,), {"__module__": "only_remote"})
    vars(module)["OnlyRemoteError"] = error
    monkeypatch.setitem(sys.modules, "only_remote", module)
    packed = dump_exception(raised(error("far away")), origin=ORIGIN, plain_only=False)
    monkeypatch.delitem(sys.modules, "only_remote")
    arrived = load_exception(packed, plain_only=False)
    assert type(arrived) is ExecutionError
    assert "due to local error: ModuleNotFoundError: No module named 'only_remote'" in str(arrived)
    assert "OnlyRemoteError: far away" in str(arrived)


def test_plain_only_sends_and_accepts_text_alone() -> None:
    arrived = sent(ValueError("boom"), plain_only=True)
    assert type(arrived) is RemoteError
    assert str(arrived) == "ValueError: boom"
    assert f'File "{ORIGIN}:' in printed(arrived)
    pickled = dump_exception(ValueError("boom"), origin=ORIGIN, plain_only=False)
    assert unpack(pickled)["pickle"]
    assert type(load_exception(pickled, plain_only=True)) is RemoteError


@pytest.mark.parametrize("error", [SpeechlessError("x"), NotesFailError("x")])
def test_an_exception_that_cannot_describe_itself_still_travels(error: Exception) -> None:
    packed = dump_exception(raised(error), origin=ORIGIN, plain_only=False)
    assert type(error).__name__ in unpack(packed)["text"]
    assert isinstance(load_exception(packed, plain_only=False), Exception)
    assert type(error).__name__ in describe(error)


def test_causes_are_part_of_the_traceback() -> None:
    try:
        try:
            raised_first = KeyError("first")
            raise raised_first
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as second:
        packed = dump_exception(second, origin=ORIGIN, plain_only=False)
    text = load_exception(packed, plain_only=False).__notes__[0]
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("second")


def test_frames_of_qmodal_above_the_users_are_left_out() -> None:
    scope: dict[str, Any] = {}
    ours = f"{sys.modules['qmodal.wire.plain'].__file__}"
    exec(compile("def call(f, x):\n    return f(x)", ours, "exec"), scope)
    with pytest.raises(ValueError, match="x") as caught:
        scope["call"](raise_it, ValueError("x"))
    error = caught.value.with_traceback(caught.tb.tb_next)
    text = unpack(dump_exception(error, origin=ORIGIN, plain_only=True))["traceback"]
    assert "in raise_it" in text
    assert "plain.py" not in text


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_a_user_has_to_change_is_a_line_unless_it_came_through_the_users_code(
    is_ours: bool,
) -> None:
    scope: dict[str, Any] = {}
    file = f"{sys.modules['qmodal.wire.plain'].__file__}" if is_ours else __file__
    exec(compile("def call(error):\n    raise error", file, "exec"), scope)
    for made in (InvalidError("return an app"), KeyError("x")):
        with pytest.raises(type(made)) as caught:
            scope["call"](made)
        text = explained(caught.value.with_traceback(caught.tb.tb_next))
        if is_ours and isinstance(made, InvalidError):
            assert text == "InvalidError: return an app\n"
        else:
            assert text.startswith("Traceback")


def test_a_note_says_what_ran_and_where() -> None:
    packed = dump_exception(
        raised(ValueError("boom")), origin=ORIGIN, plain_only=False, about="f, attempt 2 of 3"
    )
    arrived = load_exception(packed, plain_only=False, where="input 4 of fc-1")
    heading = arrived.__notes__[0].partition("\n")[0]
    assert heading == f"Remote traceback (container {ORIGIN}, f, attempt 2 of 3, input 4 of fc-1):"


def test_a_report_of_an_older_container_is_read() -> None:
    report = unpack(dump_exception(raised(ValueError("boom")), origin=ORIGIN, plain_only=False))
    del report["about"]
    arrived = load_exception(pack(report), plain_only=False)
    assert type(arrived) is ValueError


def test_the_users_files_have_their_own_names_and_our_frames_are_left_out(tmp_path: Path) -> None:
    code = tmp_path / "code" / ("0" * 64) / "shop" / "cart.py"
    code.parent.mkdir(parents=True)
    code.write_text("def fill(act):\n    return act()\n")
    scope: dict[str, Any] = {}
    exec(compile(code.read_text(), str(code), "exec"), scope)
    through_ours = partial(touch, raise_it, ValueError("boom"))
    with pytest.raises(ForeignError) as caught:
        scope["fill"](through_ours)
    text = printed(sent(caught.value))
    assert '  File "shop/cart.py", line 2, in fill\n    return act()\n' in text
    assert str(tmp_path) not in text
    assert "foreign.py" not in text


def raise_it(error: Exception) -> Never:
    raise error


def test_a_second_hop_keeps_one_note_with_both_tracebacks() -> None:
    twice = sent(sent(ValueError("boom")))
    assert len(twice.__notes__) == 1
    assert twice.__notes__[0].count("Remote traceback (container") == 2


def test_the_users_own_notes_arrive() -> None:
    error = ValueError("boom")
    error.add_note("look here")
    assert "look here" in sent(error).__notes__


def test_a_long_traceback_is_cut_in_its_middle() -> None:
    def deep(n: int) -> Never:
        if n:
            (deep if n % 2 else shallow)(n - 1)
        raise ValueError("bottom " + "x" * 100)

    def shallow(n: int) -> Never:
        deep(n)

    with pytest.raises(ValueError, match="bottom") as caught:
        deep(400)
    packed = dump_exception(caught.value, origin="ta-" + "x" * 200, plain_only=True)
    text = unpack(packed)["traceback"]
    assert len(text) < 66_000
    assert text.startswith("Traceback")
    assert "characters left out" in text
    assert text.endswith("x\n")


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xc1", pack(3), pack({}), pack({"type": 1}), pack({"pickle": "text"})],
)
def test_garbage_is_an_execution_error_too(packed: bytes) -> None:
    arrived = load_exception(packed, plain_only=False)
    assert type(arrived) is ExecutionError
    assert str(arrived).startswith("Could not deserialize remote exception due to local error: ")
