"""The table of error replies, row by row, as they arrive over a connection."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable

import pytest

from qmodal.exception import (
    ConfigurationError,
    EnqueueError,
    Error,
    InternalFailure,
    RequestSizeError,
    ResourceExhaustedError,
)
from qmodal.transport.connection import LOST, Address, Connection
from qmodal.transport.errors import (
    NoRoomError,
    ReplyAction,
    StreamGoneError,
    first_error,
    in_vain,
    judge,
    to_exception,
)
from qmodal.transport.sockets.login import refused
from qmodal.transport.waiting import not_ready, unreachable

ROWS = [
    ("NOSCRIPT No matching script. Please use EVAL.", ReplyAction.LOAD),
    ("READONLY You can't write against a read only replica.", ReplyAction.RECONNECT),
    ("LOADING Redis is loading the dataset in memory", ReplyAction.LOADING),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", None),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL.", ReplyAction.WAIT),
    ("NOGROUP No such key 'x' or consumer group 'g'", ReplyAction.GONE),
    ("-NOGROUP No such key 'x' script: f_1, on @user_script:1.", ReplyAction.GONE),
    ("UNBLOCKED the stream key no longer exists", ReplyAction.GONE),
    ("UNBLOCKED force unblock from blocking operation, instance state changed", None),
    ("OOM command not allowed when used memory > 'maxmemory'.", ReplyAction.FULL),
    ("OOM command not allowed when used memory > 'maxmemory'. script: 1", ReplyAction.FULL),
    ("MISCONF Redis is configured to save RDB snapshots", ReplyAction.REFUSED),
    ("NOREPLICAS Not enough good replicas to write.", None),
    ("ERR max number of clients reached", None),
    ("ERR max number of clients + cluster connections reached", None),
    ("ERR Protocol error: invalid bulk length", ReplyAction.TOO_LARGE),
    ("DENIED Redis is running in protected mode", ReplyAction.DENIED),
    ("NOAUTH Authentication required.", ReplyAction.DENIED),
    ("WRONGPASS invalid username-password pair or user is disabled.", ReplyAction.DENIED),
    ("NOPERM this user has no permissions to run the 'get' command", ReplyAction.DENIED),
    ("ERR ACL failure in script: User x has no permissions", ReplyAction.DENIED),
    ("ERR The user executing the script can't run this command", ReplyAction.DENIED),
    ("MOVED 3999 127.0.0.1:6381", ReplyAction.REDIRECT),
    ("ASK 3999 127.0.0.1:6381", ReplyAction.REDIRECT),
    ("TRYAGAIN Multiple keys request during rehashing of slot", None),
    ("CLUSTERDOWN Hash slot not served", None),
    ("ERR unknown command 'x'", ReplyAction.BROKEN),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", ReplyAction.FOREIGN),
    ("BUSYGROUP Consumer Group name already exists", ReplyAction.BROKEN),
    ("ERR user_script:3: attempt to index a nil value", ReplyAction.BROKEN),
]


def arriving(text: str) -> Exception:
    """The error as our connection gives it to us when a server answers with this text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, text))
        thread.start()
        line = Connection(Address(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        try:
            (reply,) = line.exchange([(b"PING",)])
        except LOST as error:
            reply = error
        line.close()
        thread.join()
    assert isinstance(reply, Exception)
    return reply


def _answer(listener: socket.socket, text: str) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.recv(1000)
        peer.sendall(f"-{text}\r\n".encode())


@pytest.mark.parametrize(("text", "verdict"), ROWS, ids=lambda value: str(value)[:24])
def test_an_error_reply_means(text: str, verdict: ReplyAction | None) -> None:
    assert judge(arriving(text)) is (verdict or ReplyAction.RECONNECT)


@pytest.mark.parametrize(
    ("verdict", "kind", "advice"),
    [
        (ReplyAction.GONE, StreamGoneError, "x"),
        (ReplyAction.REFUSED, EnqueueError, "nothing was accepted"),
        (ReplyAction.FULL, NoRoomError, "nothing was accepted"),
        (ReplyAction.TOO_LARGE, RequestSizeError, "proto-max-bulk-len"),
        (ReplyAction.DENIED, ConfigurationError, "Check the user and password in QMODAL_REDIS_URL"),
        (ReplyAction.REDIRECT, ConfigurationError, "point QMODAL_REDIS_URL at a single server"),
        (ReplyAction.BROKEN, InternalFailure, "Redis answered: x"),
    ],
)
def test_what_repeating_does_not_mend_becomes_an_exception(
    verdict: ReplyAction, kind: type[Error], advice: str
) -> None:
    error = to_exception(ValueError("x"), verdict)
    assert type(error) is kind
    assert advice in str(error)


SENTENCES: list[Callable[[Exception], Exception]] = [
    lambda error: to_exception(error, ReplyAction.DENIED),
    lambda error: to_exception(error, ReplyAction.REDIRECT),
    refused,
    lambda error: to_exception(error, ReplyAction.TOO_LARGE),
    lambda error: unreachable(Address("redis://host"), error),
    lambda error: not_ready(Address("redis://host"), error, 1.0),
]


@pytest.mark.parametrize("made", SENTENCES)
def test_an_answer_that_is_a_sentence_does_not_end_ours(
    made: Callable[[Exception], Exception],
) -> None:
    text = str(made(ValueError("Authentication required.")))
    assert "Authentication required" in text
    assert re.search(r"\.\s*[.;,)]", text) is None


def test_the_first_error_counts() -> None:
    first, second = ValueError(), KeyError()
    assert first_error([b"OK", first, None, second]) is first
    assert first_error([b"OK", None, []]) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOREPLICAS Not enough good replicas to write.", EnqueueError),
        ("CLUSTERDOWN Hash slot not served", ConfigurationError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", ConfigurationError),
        ("LOADING Redis is loading the dataset in memory", type(None)),
        ("BUSY Redis is busy running a script.", type(None)),
    ],
)
def test_what_was_waited_out_in_vain_comes_to(text: str, kind: type[object]) -> None:
    assert type(in_vain(arriving(text))) is kind


def test_a_full_server_is_an_exhausted_resource() -> None:
    assert issubclass(NoRoomError, ResourceExhaustedError)
