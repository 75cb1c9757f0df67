"""This process's inbox in one event loop, and what it writes to the inboxes of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.web.inboxes import RENEW_INBOX_SECONDS, Inboxes, new_inbox_name
from qmodal.telemetry.events import INBOX_TROUBLE, emit
from qmodal.transport.defects import survive
from qmodal.wire.web import Message, open_message

REREAD_SECONDS = 0.2
# Bytes of one write; the credit of a stream is larger, so that one is under way while the next gathers.
WRITE_BYTES = 384 * 1024


class Receiver(Protocol):
    """What messages of one stream are for."""

    def receive(self, message: Message) -> None:
        """Take the message; called in the loop of the inbox."""
        ...

    def lost(self) -> None:
        """Take in that what it writes to is gone."""
        ...


class Inbox:
    """Reads this process's inbox, hands each message to the receiver of its stream, and writes to other inboxes.

    Used in the loop that runs when it is opened. `unknown` gets messages of streams without a receiver.
    """

    def __init__(self, client: Client, unknown: Callable[[Message], None] | None = None) -> None:
        self.name = new_inbox_name()
        self._client = client
        self._inboxes = Inboxes(client.keys)
        self._unknown = unknown
        self._receivers: dict[str, Receiver] = {}
        self._writers: dict[str, _Writer] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._renewed = 0.0  # in the loop's time

    async def open(self) -> None:
        """Make the inbox and begin to read it."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(each) for each in (self._read(), self._renew())]
        await self._client.aio(self._inboxes.make(self.name))
        self._renewed = asyncio.get_running_loop().time()

    @property
    def is_sure(self) -> bool:
        """Whether it is certainly there and read; in a loop that stood still it may be lost meanwhile."""
        if not self._tasks or any(each.done() for each in self._tasks):
            return False
        return asyncio.get_running_loop().time() - self._renewed < 2 * RENEW_INBOX_SECONDS

    async def ensure(self) -> None:
        """See to it that it is there and read, for a loop that runs only now and then."""
        if self.is_sure:
            return
        if any(each.done() for each in self._tasks):  # user code has cancelled all that it found
            await self._end_tasks()
        if not self._tasks:
            await self.open()
            return
        await self._client.aio(self._inboxes.renew(self.name))
        self._renewed = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Read and write nothing any more."""
        self._tasks += (writer.task for writer in self._writers.values())
        await self._end_tasks()
        await self._client.aio(self._inboxes.remove(self.name))

    async def _end_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def add(self, stream: str, receiver: Receiver) -> None:
        """Messages of that stream are for this receiver from now on."""
        self._receivers[stream] = receiver

    def remove(self, stream: str) -> None:
        """Nobody takes messages of that stream any more."""
        self._receivers.pop(stream, None)

    def send(self, target: str, message: Message, sender: Receiver) -> None:
        """Have it written soon, behind what is to be written there; `sender` is told if the target is gone."""
        writer = self._writers.get(target)
        if writer is None:
            writer = _Writer(self._client, self._inboxes, target, lambda: self._ended(target))
            self._writers[target] = writer
        writer.add(message, sender)

    async def flush(self, target: str) -> None:
        """Return when all that is to be written there by now was written, or could not be."""
        writer = self._writers.get(target)
        if writer is not None:
            await writer.flush()

    def _ended(self, target: str) -> None:
        self._writers.pop(target, None)

    async def _read(self) -> None:
        cursor = b"0"
        signer = self._client.signer
        while True:
            try:
                cursor, found = await self._client.aio(self._inboxes.read(self.name, cursor))
            except Error as error:
                self._trouble("the inbox cannot be read", error)
                await asyncio.sleep(REREAD_SECONDS)
                continue
            for signed in found:
                try:
                    message = open_message(signed, signer, self.name)
                except Error as error:  # written by something else than qmodal
                    self._trouble("a message in the inbox was ignored", error)
                    continue
                with survive("taking a message of the inbox"):
                    self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        receiver = self._receivers.get(message.stream)
        if receiver is not None:
            receiver.receive(message)
        elif self._unknown is not None:
            self._unknown(message)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_INBOX_SECONDS)
            try:
                await self._client.aio(self._inboxes.renew(self.name))
                self._renewed = asyncio.get_running_loop().time()
            except Error as error:
                self._trouble("the inbox cannot be renewed", error)

    def _trouble(self, activity: str, error: Error) -> None:
        emit(INBOX_TROUBLE, activity=activity, reason=str(error), inbox=self.name)


class _Writer:
    """Writes to one inbox, in order, what gathers while the write before is under way."""

    def __init__(
        self, client: Client, inboxes: Inboxes, target: str, on_end: Callable[[], None]
    ) -> None:
        self._client = client
        # Called in the step that finds nothing left, so that nothing is added to one that has ended.
        self._on_end = on_end
        self._inboxes = inboxes
        self._target = target
        self._messages: list[tuple[Message, Receiver]] = []
        self._added = self._written = 0  # messages
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []
        self.task = asyncio.create_task(self._run())

    def add(self, message: Message, sender: Receiver) -> None:
        self._messages.append((message, sender))
        self._added += 1

    async def flush(self) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append((self._added, ended))
        await ended

    async def _run(self) -> None:
        try:
            while self._messages:
                await self._write()
                self._tell()
        finally:  # nothing is left, unless user code has cancelled all tasks that it found
            _lose(self._messages)
            self._written = self._added
            self._tell()
            self._on_end()

    def _tell(self) -> None:
        """Let those go on whose messages are written."""
        while self._flushes and self._flushes[0][0] <= self._written:
            _, ended = self._flushes.pop(0)
            if not ended.done():
                ended.set_result(None)

    async def _write(self) -> None:
        written = self._take()
        signed = [message.seal(self._client.signer, self._target) for message, _ in written]
        is_there = False
        try:
            is_there = await self._client.aio(self._inboxes.write(self._target, signed))
        except Error as error:
            activity = "nothing can be written to an inbox"
            emit(INBOX_TROUBLE, activity=activity, reason=str(error), inbox=self._target)
        finally:
            self._written += len(written)
            if not is_there:
                _lose(written)

    def _take(self) -> list[tuple[Message, Receiver]]:
        size = 0
        for at, (message, _) in enumerate(self._messages):
            if size > WRITE_BYTES:
                taken, self._messages = self._messages[:at], self._messages[at:]
                return taken
            size += message.cost
        taken, self._messages = self._messages, []
        return taken


def _lose(messages: Sequence[tuple[Message, Receiver]]) -> None:
    """Tell those whose messages were not written."""
    for receiver in {id(each): each for _, each in messages}.values():
        receiver.lost()
