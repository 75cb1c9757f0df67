"""Queue: a first-in, first-out queue on the server, in partitions, which all containers and callers share."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from queue import Empty, Full
from typing import Any, ClassVar

from qmodal.client.client import Client, current
from qmodal.client.deprecation import Removed
from qmodal.client.quick import UNUSUAL, quick_verb
from qmodal.client.verb import Stream, stream_verb, verb
from qmodal.exception import InvalidError, RequestSizeError
from qmodal.resources.ephemeral import EphemeralContext, Twin
from qmodal.resources.manager import ObjectManager
from qmodal.resources.stored import StoredObject, created_at
from qmodal.resources.values import bodies_of, open_body, small_body
from qmodal.store.objects.names import ObjectKind
from qmodal.store.objects.queues import (
    MOST_ITEM_BYTES,
    MOST_ITEMS,
    MOST_PARTITION_BYTES,
    WAIT_SECONDS_AT_ONCE,
    PutItems,
)
from qmodal.store.objects.sealed import ITEM_NUMBER_BYTES, item_place
from qmodal.store.objects.writers import Writer
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op, Pause
from qmodal.types import QueueInfo
from qmodal.wire.signing import FORGED

log = logging.getLogger("qmodal")
LONGEST_TTL_SECONDS = 24 * 3600
# For so long a `get` that is over goes on while it finds nothing but items of somebody else.
FOREIGN_SECONDS = 1.0
# Seconds between two tries to put into a full partition, or two looks of an iteration that waits: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_LOOK = 0.01, 1.0, 0.2


def _ephemeral(client: Any = None, environment_name: str | None = None) -> EphemeralContext[Queue]:
    """A queue that lasts as long as the `with` (or `async with`) block that this begins.

    >>> with qmodal.Queue.ephemeral() as q:
    ...     q.put("a")
    """
    return EphemeralContext(Queue, environment_name)


def _get_now(
    client: Client,
    of: Queue,
    block: bool = True,
    timeout: float | None = None,
    *,
    partition: str | None = None,
) -> Any:
    """As `Queue.get`, for a thread, if there is an item: whoever waits in line has taken all others before."""
    object_id = of._id
    if object_id is None or (timeout is not None and not block):
        return UNUSUAL
    queues = client.queues
    steps = queues.takes.get((object_id, partition))
    if steps is None:
        steps = queues.take_steps(object_id, _checked(partition))
    replies = client.blocking.at_once(steps.packed, 2)
    if replies is None or not replies[0]:
        return UNUSUAL
    signed = replies[1]
    if signed is None:
        return UNUSUAL if block else None
    try:
        body = steps.signer.verify(signed)
    except FORGED as error:
        skip(f"an item of {object_id}", str(error))
        return UNUSUAL
    return open_body(client, body[ITEM_NUMBER_BYTES:])


def _put_now(
    client: Client,
    of: Queue,
    v: Any,
    block: bool = True,
    timeout: float | None = None,
    *,
    partition: str | None = None,
    partition_ttl: int = LONGEST_TTL_SECONDS,
) -> Any:
    """As `Queue.put`, for a thread and a small plain value, into a partition that was put into before."""
    known = client.queues.lately.get((of._id, partition, partition_ttl))
    if known is None or (timeout is not None and not block):
        return UNUSUAL
    body = small_body(v)
    if body is None:
        return UNUSUAL
    signed = known.sign(body)
    writer = known.take()
    replies = client.blocking.at_once(writer.packed(signed), 1)
    if replies is None:
        # It may have been written: whoever writes it again is the same writer.
        began = writer
    elif replies[0] == b"OK":
        known.give(writer)
        return None
    else:
        known.give_back(writer)
        began = None
    put = PutItems(_checked(partition), [signed], int(partition_ttl * 1000))
    return client.run(of._put_sealed(put, block, timeout, began))


class Queue(StoredObject):
    """A queue on the server, in partitions of which each is first-in, first-out; the unnamed one is one of them.

    An item goes to one getter, and those that wait get them in the order in which they came.

    >>> jobs = qmodal.Queue.from_name("jobs", create_if_missing=True)
    >>> jobs.put("a"); jobs.put("b", partition="urgent")
    >>> jobs.get(partition="urgent"), jobs.get(timeout=5)
    ('b', 'a')
    """

    __slots__ = ()
    _kind: ClassVar[ObjectKind] = "queue"
    objects = ObjectManager["Queue"]()
    ephemeral = Twin(_ephemeral)
    delete = Removed("Queue.objects.delete(name)")
    create_deployed = Removed("Queue.objects.create(name)")

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,
    ) -> Queue:
        """The queue of that name, looked up on first use, which raises NotFoundError if there is none.

        Raises InvalidError for a name that none can have.
        """
        return Queue._named(name, environment_name, create=create_if_missing)

    @staticmethod
    def from_id(queue_id: str, client: Any = None) -> Queue:
        """The queue of that id (`qu-...`); asks nothing of the server. Raises InvalidError for another kind."""
        return Queue._identified(queue_id)

    @staticmethod
    def validate_partition_key(partition: str | None) -> bytes:
        """The partition's name as bytes, none for the unnamed one; raises InvalidError unless it has 1 to 64."""
        if partition is None:
            return b""
        try:
            name = partition.encode()
        except UnicodeEncodeError:
            raise InvalidError(f"{partition!r} is no text that a partition key can be.") from None
        if not 0 < len(name) <= 64:
            raise InvalidError("Queue partition key must be between 1 and 64 characters.")
        return name

    @verb
    def hydrate(self) -> Op[Queue]:
        """Find out now, rather than on first use, which object this is; returns itself. Raises NotFoundError."""
        return self._hydrated()

    @verb
    def info(self) -> Op[QueueInfo]:
        """Its name and when it was made."""
        record = yield from self._record()
        return QueueInfo(record.name, created_at(record), None)

    @verb
    def clear(self, *, partition: str | None = None, all: bool = False) -> Op[None]:
        """Remove all items of a partition, or of all of them."""
        if partition is not None and all:
            raise InvalidError("Partition must be null when requesting to clear all.")
        name = _checked(partition)
        object_id = self._id or (yield from self._find())
        yield from current().queues.clear(object_id, None if all else [name])

    @quick_verb(_get_now)
    def get(
        self, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> Op[Any | None]:
        """Remove and return the first item of a partition, waiting for one for up to `timeout` seconds.

        Raises `queue.Empty` if none comes in time. With `block=False` it does not wait: None if there is none.
        """
        values = yield from self._get(1, block, timeout, partition)
        return values[0] if values else None

    @verb
    def get_many(
        self,
        n_values: int,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
    ) -> Op[list[Any]]:
        """Remove and return up to so many items, as soon as there is one; as `get`. `[]` if it does not wait."""
        if n_values < 0:
            raise InvalidError(f"n_values is {n_values}; it must not be negative")
        if not n_values:
            return []
        return (yield from self._get(n_values, block, timeout, partition))

    @quick_verb(_put_now)
    def put(
        self,
        v: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = 24 * 3600,
    ) -> Op[None]:
        """Append an item to a partition, waiting for up to `timeout` seconds while that is full; then `queue.Full`.

        The partition is removed `partition_ttl` seconds (a day at most) after the last put. Raises RequestSizeError
        above 1 MiB.
        """
        yield from self._put("Queue.put", [v], block, timeout, partition, partition_ttl)

    @verb
    def put_many(
        self,
        vs: list[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = 24 * 3600,
    ) -> Op[None]:
        """Append several items at once, all of them or none; as `put`."""
        yield from self._put("Queue.put_many", list(vs), block, timeout, partition, partition_ttl)

    @verb
    def len(self, *, partition: str | None = None, total: bool = False) -> Op[int]:
        """How many items a partition has, or all of them together."""
        if partition is not None and total:
            raise InvalidError("Partition must be None when requesting total length.")
        name = _checked(partition)
        object_id = self._id or (yield from self._find())
        if not total:
            return (yield from current().queues.count(object_id, name))
        return sum((yield from current().queues.partitions(object_id)).values())

    @stream_verb
    def iterate(
        self, *, partition: str | None = None, item_poll_timeout: float = 0.0
    ) -> Stream[Any]:
        """The items of a partition, the first one first, which stay in it.

        Waits up to `item_poll_timeout` seconds for each further one.
        """
        return _Items(self, _checked(partition), item_poll_timeout)

    def _get(
        self, count: int, block: bool, timeout: float | None, partition: str | None
    ) -> Op[list[Any]]:
        name = _checked(partition)
        if not block and timeout is not None:
            _warn_of_timeout("get")
        ends = None if timeout is None else time.monotonic() + timeout
        object_id = self._id or (yield from self._find())
        client = current()
        while True:
            left = WAIT_SECONDS_AT_ONCE if ends is None else ends - time.monotonic()
            if block and left > 0:
                found = yield from client.queues.wait(object_id, name, count, left)
            else:
                found = yield from client.queues.take(object_id, name, count)
            values = list(_opened(client, object_id, name, found))
            if values or not (block or found):
                return values
            # Items of somebody else, which were left out, are passed over for a second longer.
            if block and ((left <= 0 and not found) or left < -FOREIGN_SECONDS):
                raise Empty

    def _put(
        self,
        what: str,
        values: list[Any],
        block: bool,
        timeout: float | None,
        partition: str | None,
        ttl: int,
    ) -> Op[None]:
        name = _checked(partition)
        if not 0 < ttl <= LONGEST_TTL_SECONDS:
            raise InvalidError(
                f"partition_ttl is {ttl}; it must be between 1 and {LONGEST_TTL_SECONDS} seconds"
            )
        if not block and timeout is not None:
            _warn_of_timeout("put")
        if not values:
            return
        object_id = self._id or (yield from self._find())
        client = current()
        signed = client.queues.sign(object_id, name, bodies_of(client, values))
        put = PutItems(name, signed, int(ttl * 1000))
        _check_size(what, put.signed)
        yield from self._put_sealed(put, block, timeout)

    def _put_sealed(
        self, put: PutItems, block: bool, timeout: float | None, began: Writer | None = None
    ) -> Op[None]:
        object_id, queues = self._id or (yield from self._find()), current().queues
        if (yield from queues.put(object_id, put, began)):
            return
        count = len(put.signed)
        ends = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        while True:
            left = LONGEST_PAUSE if ends is None else ends - time.monotonic()
            if not block or left <= 0 or count > MOST_ITEMS:
                raise Full(
                    f"Queue {object_id} has no room for {count} more items in that partition: it holds "
                    f"{MOST_ITEMS} items and {MOST_PARTITION_BYTES >> 20} MiB."
                )
            yield Pause(min(pause, left))
            if (yield from queues.put(object_id, put)):
                return
            pause = min(2 * pause, LONGEST_PAUSE)


def _warn_of_timeout(verb: str) -> None:
    warnings.warn(f"Timeout is ignored for non-blocking {verb}.", UserWarning, stacklevel=2)


def _checked(partition: str | None) -> str:
    if partition is None:
        return ""
    return Queue.validate_partition_key(partition).decode()


def _check_size(what: str, signed: Sequence[bytes]) -> None:
    largest, together = max(map(len, signed)), sum(map(len, signed))
    for size, most in ((largest, MOST_ITEM_BYTES), (together, MOST_PARTITION_BYTES)):
        if size > most:
            raise RequestSizeError(
                f"{what} request is too large: {size} bytes, and {most} are allowed. "
                "Write large values to shared storage and put the place."
            )


def _opened(client: Client, object_id: str, partition: str, items: list[bytes]) -> Iterator[Any]:
    """The values of items; one that was not put here is left out, as there is nobody to give it back to."""
    signer = client.signer.at(item_place(object_id, partition))
    for signed in items:
        try:
            yield open_body(client, signer.verify(signed)[ITEM_NUMBER_BYTES:])
        except FORGED as error:
            skip(f"an item of {object_id}", str(error))


class _Items(Stream[Any]):
    """The items of a partition, page by page, without removing them."""

    __slots__ = ("_ends", "_id", "_last", "_partition", "_pause", "_queue", "_seconds")

    def __init__(self, queue: Queue, partition: str, seconds: float) -> None:
        self._queue = queue
        self._partition = partition
        self._seconds = seconds
        self._id = ""
        self._last = b""  # the item that was read last
        self._ends = 0.0
        self._pause = FIRST_PAUSE

    def __del__(self) -> None:
        if not self._id:
            log.warning(
                "the results of a call to Queue.iterate was not consumed, so the call will never be executed."
            )

    def next(self) -> Op[list[Any] | None]:
        """The next page; None once none has come for so long."""
        client = current()
        queues = client.queues
        if not self._id:
            self._id = self._queue._id or (yield from self._queue._find())
            self._ends = time.monotonic() + self._seconds
        found = yield from queues.peek(self._id, self._partition, self._last)
        left = self._ends - time.monotonic()
        if found:
            self._last = found[-1]
            self._ends, self._pause = time.monotonic() + self._seconds, FIRST_PAUSE
        elif left <= 0:
            return None
        else:
            yield Pause(min(self._pause, left))
            self._pause = min(2 * self._pause, LONGEST_LOOK)
        return list(_opened(client, self._id, self._partition, found))
