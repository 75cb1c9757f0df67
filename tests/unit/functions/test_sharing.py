"""What operations that share a connection put into one command."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from qmodal.transport.operation import Command, Exchange, Mergeable, Reply
from qmodal.transport.sharing.deferred import MOST_DEFERRED, take_later
from qmodal.transport.sharing.pending_exchange import MOST_MERGED, PendingExchange, merged


def test_deletions_that_were_put_off_become_one_command() -> None:
    later: deque[Command] = deque(
        [(b"UNLINK", "a", "b"), (b"PEXPIRE", "c", 1), (b"UNLINK", "d"), (b"XADD", "e")]
    )
    assert take_later(later) == [(b"PEXPIRE", "c", 1), (b"XADD", "e"), (b"UNLINK", "a", "b", "d")]
    assert not later


def test_no_more_is_taken_than_goes_along_with_a_write() -> None:
    later: deque[Command] = deque((b"UNLINK", str(n)) for n in range(MOST_DEFERRED + 1))
    assert len(take_later(later)) == 1
    assert list(later) == [(b"UNLINK", str(MOST_DEFERRED))]


def merge(parts: Sequence[tuple[Any, ...]]) -> Command:
    return (b"MANY", *(value for (value,) in parts))


def pending(kind: str | None, value: int, ended: list[Any]) -> PendingExchange:
    """One of that kind, or one that stands alone; how it ended comes behind its value."""

    def done(result: list[Reply] | Exception) -> None:
        ended.append((value, result))

    if kind is None:
        return PendingExchange(Exchange(((b"ONE", value),)), done)
    return PendingExchange(Exchange((), mergeable=Mergeable(kind, (value,), merge)), done)


def commands(batch: list[PendingExchange]) -> list[Command]:
    return [command for each in batch for command in each.request.commands]


def test_commands_of_one_kind_go_out_as_one() -> None:
    kinds = ["a", None, "b", "a", "b", "a"]
    batch = merged([pending(kind, n, []) for n, kind in enumerate(kinds)])
    assert commands(batch) == [(b"MANY", 0, 3, 5), (b"ONE", 1), (b"MANY", 2, 4)]


def test_no_command_stands_for_too_many() -> None:
    batch = merged([pending("a", n, []) for n in range(2 * MOST_MERGED + 1)])
    assert [len(each) - 1 for each in commands(batch)] == [MOST_MERGED, MOST_MERGED, 1]


def test_each_has_its_own_reply_or_the_one_of_all() -> None:
    for reply, each in (([b"x", b"y"], [b"x", b"y"]), (b"POOL", [b"POOL", b"POOL"])):
        ended: list[Any] = []
        (one,) = merged([pending("a", n, ended) for n in range(2)])
        assert one.take(reply)
        one.answered()
        assert ended == [(0, [each[0]]), (1, [each[1]])]


def test_a_lost_connection_fails_each_of_them() -> None:
    ended: list[Any] = []
    error = ConnectionError()
    (one,) = merged([pending("a", n, ended) for n in range(2)])
    one.end(error)
    assert ended == [(0, error), (1, error)]
