"""Requests that an operation yields, as values that either driver can carry out.

An operation is a generator: it yields exchanges, receives their replies and returns its result.
The blocking and the asyncio driver run the same generators, so neither API wraps the other.
What a driver is interrupted with (Ctrl-C, a cancelled task) is raised in the operation, which may
still ask for something; most do not.
Named tuples, here and wherever a call makes values: a frozen dataclass takes three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from qmodal.transport.sharing.pending_reply import PendingReply

Command = tuple[Any, ...]
Packed = Command | bytes  # bytes: packed before
Reply = Any
T = TypeVar("T")
# What an outage may last for whoever waits for an answer: a restart, a failover.
PATIENCE_SECONDS = 20.0
Meanwhile = Callable[[], None]


class Mergeable(NamedTuple):
    """A command in such a form that one command can do what several do.

    `merge` makes it of a `kind` and the `values` of those that are of it; its reply is a list with one for
    each, or one for all.
    """

    kind: Hashable
    values: tuple[Any, ...]
    merge: Callable[[Any, Sequence[tuple[Any, ...]]], Command]


class Exchange(NamedTuple):
    """Commands that go out in one write; the replies come back in order.

    `waits`: the last command blocks on the server. An error among the replies before it means
    that it would wait for what nobody will write, so the connection is dropped and not read on.
    With `seconds` it may block for so long; without, for up to 5 s. On a longer wait it is the kernel that
    notices a host that has vanished.
    `expects`: the reply before the blocking one without which waiting is in vain, too; the
    replies then end early.
    `patience`: seconds during which a lost connection is retried; the commands must be safe to
    repeat, which every script is. `loading`: seconds for which a server is waited for that says it
    is loading its data, and up to 20 of them for one that is not ready for another reason; None: as
    `patience`, if that is short, else five minutes.
    `meanwhile` is called between writing and reading, each time that it is written: what it does
    costs no time as long as the server is at work. What it raises, if anything, drops the connection.
    `each`: an error reply that says something of its own command only is a reply like the others.
    `shared`: it belongs to a call; while others are under way, what does not block shares their connection.
    `pending_reply`: in place of a blocking command, what to wait for up to `seconds` once the last reply
    is as expected. Its content is the reply behind the others, which end early without it.
    `mergeable`: for one that is shared, its only command, in a form that can be merged with others.
    """

    commands: tuple[Command, ...]
    waits: bool = False
    expects: bytes | int | None = None
    patience: float = PATIENCE_SECONDS
    meanwhile: Meanwhile | None = None
    loading: float | None = None
    each: bool = False
    shared: bool = False
    pending_reply: PendingReply | None = None
    seconds: float = 0.0
    mergeable: Mergeable | None = None


class Pause(NamedTuple):
    """A wait of `seconds` before the operation goes on."""

    seconds: float


class Later(NamedTuple):
    """A command that may go along with some later write; nobody reads its reply."""

    command: Command


class FindReplyReader(NamedTuple):
    """Asks for the `ReplyReader` that calls share; the answer is empty while too few calls are under way."""


FIND_REPLY_READER = FindReplyReader()


class AtMost(NamedTuple):
    """An operation that is given up after `seconds`; its result and errors are dropped."""

    op: Generator[Any, list[Reply], Any]
    seconds: float


class CarriedError(Exception):
    """Carries `error` out of an operation: StopIteration and its like cannot be raised in a generator.

    Nor of a coroutine, or as something else there: asyncio drivers raise `substitute` instead.
    """

    def __init__(self, error: BaseException, substitute: Exception) -> None:
        super().__init__(error)
        self.error = error
        self.substitute = substitute


Effect = Exchange | Pause | Later | AtMost | FindReplyReader
Op = Generator[Effect, list[Reply], T]


def ask(
    *commands: Command,
    patience: float = PATIENCE_SECONDS,
    loading: float | None = None,
    shared: bool = False,
) -> Op[list[Reply]]:
    """Send the commands in one write and return their replies."""
    return (yield Exchange(commands, patience=patience, loading=loading, shared=shared))


def ask_shared(*commands: Command) -> Op[list[Reply]]:
    """As `ask`, for what belongs to a call and is done soon: it may share a connection with others."""
    return (yield Exchange(commands, shared=True))


def ask_each(commands: Iterable[Command]) -> Op[list[Reply]]:
    """As `ask`, for commands that have nothing to do with each other: the error of one is its reply."""
    listed = tuple(commands)
    return (yield Exchange(listed, each=True)) if listed else []


def ask_one(*command: Any) -> Op[Reply]:
    """Send one command and return its reply."""
    return (yield Exchange((command,)))[0]
