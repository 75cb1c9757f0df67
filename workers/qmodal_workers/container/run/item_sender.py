"""Sends the items of a generator while it goes on, in batches that grow while the server is behind.

A thread of its own sends. The generator's thread only puts items, and waits where it has to. An
interrupt may raise in it there at any moment, so it shares no lock with the sending thread.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import Error, InputCancellation, SerializationError
from qmodal.functions.submission import LARGEST_PAYLOAD
from qmodal.store.results.items import Emission, Verdict
from qmodal.transport.errors import StreamGoneError
from qmodal.wire.item import Item
from qmodal.wire.outcome import INLINE_BYTES
from qmodal.wire.payload import dump_value
from qmodal.wire.signing import digest_of, mac_of
from qmodal_workers.container.process.signals import unsignalled
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.until_ready import OUTAGES

MOST_UNSENT = 256
MOST_UNSENT_BYTES = 8 * 1024 * 1024
BATCH = 100
BATCH_BYTES = 1024 * 1024
# An item that took longer to make is on the server before the generator goes on.
SLOW_SECONDS = 0.002
REPEAT_SECONDS = 0.5
# How long items that were made before an interruption are still sent, if their reader makes room.
ABANDON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Made:
    """An item to be sent; its `payload`, if any, goes into a key of its own."""

    signed: bytes
    payload: bytes | None

    @property
    def size(self) -> int:
        return len(self.signed) + len(self.payload or b"")


class ItemSender:
    """Sends the items of one attempt; `count` were made, `sent` of them are on the server.

    `verdict` is CLOSED when nobody reads, and STALE when the entry is not this container's any more, or
    the items cannot be stored (`check` says which).
    """

    def __init__(
        self, client: Client, attempt: Attempt, *, pool: str, container: str, plain_only: bool
    ) -> None:
        self._client = client
        self._pool = pool
        self._container = container
        self._attempt = attempt
        self._plain_only = plain_only
        self._request = mac_of(attempt.claimed.envelope)
        # Queues of the same kind as the thread, whatever user code has put in place of both.
        self._queue: queue.SimpleQueue[_Made | None] = queue.SimpleQueue()
        self._moved: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wake: Callable[[], Any] | None = None
        self._thread: threading.Thread | None = None
        self._resumed = 0.0
        self._put_bytes = 0
        self._sent_bytes = 0
        self._is_slow = False
        self._is_over = False
        self._has_said = False
        self._failure: Error | None = None
        self.count = 0
        self.sent = 0
        self.verdict: Verdict = "OK"

    def put(self, value: Any) -> None:
        """Take the next item; afterwards look at `must_wait`. Raises as `dump_value` does."""
        if self.verdict != "OK":
            self.count += 1
            return
        form, payload = dump_value(value, plain_only=self._plain_only)
        made = self._sealed(form, payload)
        self._is_slow = time.monotonic() - self._resumed > SLOW_SECONDS
        self._put_bytes += made.size
        self._queue.put(made)
        self.count += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="items", daemon=True)
            with unsignalled():
                self._thread.start()

    def _sealed(self, form: str, payload: bytes) -> _Made:
        envelope, apart, digest = self._attempt.envelope, None, None
        if len(payload) > LARGEST_PAYLOAD:
            raise SerializationError(
                f"an item takes {len(payload)} bytes, and the limit is {LARGEST_PAYLOAD}; "
                "write it to shared storage and yield the place."
            )
        if len(payload) > INLINE_BYTES:
            payload, apart, digest = b"", payload, digest_of(payload)
        item = Item(self.count, self._attempt.claimed.entry, form, payload, digest)
        signed = item.seal(
            self._client.signer, call=envelope.call, index=envelope.first, request=self._request
        )
        return _Made(signed, apart)

    @property
    def must_wait(self) -> bool:
        """Whether the generator may not go on yet."""
        if self.verdict != "OK" or self.sent >= self.count:
            return False
        if self._is_slow:  # so is the first one, as `_resumed` is 0 until then
            return True
        unsent = self._put_bytes - self._sent_bytes
        return self.count - self.sent > MOST_UNSENT or unsent > MOST_UNSENT_BYTES

    def wait(self) -> None:
        """Wait while `must_wait`; then the generator goes on."""
        while self.must_wait:
            self._moved.get()
        self.resume()

    def resume(self) -> None:
        """Take in that the generator goes on: the time that its next item takes begins."""
        while not self._moved.empty():
            self._moved.get()
        self._resumed = time.monotonic()

    def wake_with(self, wake: Callable[[], Any] | None) -> None:
        """Have the sending thread call `wake` whenever `must_wait` may have changed; None: call nothing."""
        self._wake = wake

    @property
    def is_sending(self) -> bool:
        """Whether something is not on the server yet, and still wanted."""
        return self.verdict == "OK" and self.sent < self.count

    def finish(self) -> None:
        """Wait until everything is on the server, or nobody wants it; raises as `check`."""
        while self.is_sending:
            self._moved.get()
        if self._failure is not None:
            raise self._failure

    def check(self) -> None:
        """Raise if the generator has to end: its items cannot be stored, or its entry is not ours any more."""
        if self._failure is not None:
            raise self._failure
        if self.verdict == "STALE":
            raise InputCancellation

    def stop(self, seconds: float = ABANDON_SECONDS) -> None:
        """Send what is left for so long, and no more."""
        self._wake = None
        ends = time.monotonic() + seconds
        while self.verdict == "OK" and self.sent < self.count and time.monotonic() < ends:
            try:
                self._moved.get(timeout=max(0.0, ends - time.monotonic()))
            except Empty:
                break
        self._is_over = True
        self._queue.put(None)

    def _send_all(self) -> None:
        try:
            while not self._is_over and self.verdict == "OK":
                self._send(self._next_batch())
        except BaseException:
            self.verdict = "STALE"  # else the generator would wait for us until its time is up
            self._has_moved()
            raise

    def _next_batch(self) -> list[_Made]:
        batch: list[_Made] = []
        made = self._queue.get()
        size = 0
        while made is not None:
            batch.append(made)
            size += made.size
            if len(batch) >= BATCH or size > BATCH_BYTES:
                break
            try:
                made = self._queue.get_nowait()
            except Empty:
                break
        return batch

    def _send(self, batch: list[_Made]) -> None:
        """Repeat until the batch is stored, or the attempt is over; it may be empty at the end."""
        emission = self._emission([made.signed for made in batch])
        end = emission.first + len(batch)
        stored = 0
        while not self._is_over and self.verdict == "OK" and self.sent < end:
            try:
                for made in batch[stored:]:
                    self._store(emission.first + stored, made)
                    stored += 1
                self._emit(emission, batch)
            except StreamGoneError:
                self.verdict = "STALE"
            except OUTAGES as error:  # they may pass, and the attempt has its time limit
                self._say(error)
                time.sleep(REPEAT_SECONDS)
            except Error as error:
                self._failure, self.verdict = error, "STALE"
        self._has_moved()

    def _emission(self, signed: list[bytes]) -> Emission:
        claimed, envelope, _ = self._attempt
        return Emission(
            pool=self._pool,
            container=self._container,
            lane=claimed.lane,
            entry=claimed.entry,
            call=envelope.call,
            index=envelope.first,
            first=self.sent,
            signed=signed,
        )

    def _say(self, error: Error) -> None:
        """Print, once, why the generator waits."""
        if not self._has_said:
            self._has_said = True
            with suppress(Exception):  # user code has put something else in the place of stderr
                sys.stderr.write(f"qmodal: items cannot be stored yet, and wait: {error}\n")

    def _store(self, number: int, made: _Made) -> None:
        if made.payload is not None:
            envelope = self._attempt.envelope
            items = self._client.items
            self._client.run(items.store(envelope.call, envelope.first, number, made.payload))

    def _emit(self, emission: Emission, batch: list[_Made]) -> None:
        done = self.sent - emission.first
        rest = replace(emission, first=self.sent, signed=emission.signed[done:])
        made, verdict = self._client.run(self._client.items.emit(rest))
        if made > self.sent:
            self._sent_bytes += sum(each.size for each in batch[done : made - emission.first])
            self.sent = made
            self._has_moved()
        if verdict == "FULL":
            self._client.run(self._client.items.wait_for_room(emission.call))
        else:
            self.verdict = verdict

    def _has_moved(self) -> None:
        self._moved.put(None)
        wake = self._wake
        if wake is not None:
            wake()
