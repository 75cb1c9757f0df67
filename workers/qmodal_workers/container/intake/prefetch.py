"""The entries that a container has claimed and not started, the prefetched ones included.

Claiming several short inputs at once saves round trips, but nothing may wait behind a busy
container while another is idle: when an input runs longer than 12 ms, the entries behind it are
released. Starting and releasing take the same lock, so an input is never both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from qmodal.store.entries import Claimed
from qmodal_workers.container.run.slot import Slot

# After an input of this length the worker may have released the entries behind it.
LONG_SECONDS = 0.1
LONG_NS = int(LONG_SECONDS * 1e9)
Stage = Literal["empty", "planned", "asked", "read"]


class PrefetchBuffer:
    """Claimed entries in order: the one in `slot` runs, those in `queue` follow, then the prefetch.

    The prefetch is at one `stage`: `empty`; `planned`, when `count` entries are to be claimed;
    `asked`, once the claim was sent; `read`, once its answer was read, even if no entry of it is left.
    Only the thread that runs inputs plans and takes; it and the release thread do the other steps,
    under the lock.

    `fetch` reads the answer to the claim that was sent, `release` gives entries back; both are
    called under the lock. `clock` gives monotonic nanoseconds.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        fetch: Callable[[], list[Claimed]],
        release: Callable[[list[Claimed]], None],
        clock: Callable[[], int],
    ) -> None:
        self._slot = slot
        self._fetch = fetch
        self._release = release
        self.clock = clock
        self.lock = threading.Lock()
        self._caller = 0  # the thread that calls something else under the lock
        self.queue: deque[Claimed] = deque()  # changed under the lock only
        self.stage: Stage = "empty"
        self.count = 0
        self._is_background = False
        self._prefetched: list[Claimed] = []
        self._good_until = 0  # an entry that starts later has to be looked up on the server first

    @property
    def has_more(self) -> bool:
        """Whether entries are claimed, or will be, behind the one that runs."""
        return bool(self.queue or self.is_coming or self._prefetched)

    @property
    def is_coming(self) -> bool:
        """Whether a prefetch is planned or asked for, and its answer is not read yet."""
        return self.stage in ("planned", "asked")

    @property
    def is_for_background(self) -> bool:
        """Whether the release thread is to claim and read the prefetch."""
        return self._is_background and self.is_coming

    @property
    def is_stale(self) -> bool:
        """Whether the entry in the slot was claimed so long ago that it may be somebody else's, or cancelled.

        Entries behind an input that runs for that long are released, so this process stood still
        meanwhile.
        """
        return self._slot.started > self._good_until

    def start(self) -> Claimed | None:
        """Put the next entry into the slot; None if there is none."""
        with self.lock:
            slot = self._slot
            slot.claimed = claimed = self.queue.popleft() if self.queue else None
            slot.started = self.clock()
            return claimed

    def waiting(self) -> list[Claimed]:
        """The entries that are claimed and not started, without the prefetch."""
        with self.lock:
            return list(self.queue)

    def put(self, claimed: Iterable[Claimed]) -> None:
        """Add claimed entries at the end of the queue."""
        with self.lock:
            self.queue.extend(claimed)
            self._good_until = self.clock() + LONG_NS

    def refill(self, read: Callable[[], list[Claimed]]) -> None:
        """Replace queue and prefetch by the entries that `read` returns, which the server says are held.

        It is called under the lock: an entry that is just being released must not be read as held.
        """
        with self._calling():
            self.queue = deque(read())
            self._prefetched = []
            self.stage = "empty"
            self._good_until = self.clock() + LONG_NS

    def plan(self, count: int, *, is_background: bool) -> None:
        """Plan to claim so many entries; `is_background`: by the release thread, if that comes first."""
        if self.stage == "empty":
            self.count, self._is_background = count, is_background
            self.stage = "planned"

    def ask(self, ask: Callable[[int], None]) -> bool:
        """Send the planned claim with `ask(count)`; False, and nothing is sent, if none is planned."""
        with self._calling():
            if self.stage != "planned":
                return False
            self.stage = "asked"
            ask(self.count)
        return True

    def read(self) -> list[Claimed]:
        """The entries of the prefetch, which stay in the buffer; waits for the answer if it was asked for."""
        with self._calling():
            self._read()
            return self._prefetched

    def take(self) -> list[Claimed] | None:
        """Remove and return the prefetch, without what was released meanwhile; None if there was none."""
        if self.stage == "empty":  # and so it stays: only this thread plans
            return None
        with self._calling():
            self._read()
            if self.stage != "read":
                return None
            taken, self._prefetched = self._prefetched, []
            self.stage = "empty"
            return taken

    def _read(self) -> None:
        if self.stage == "asked":
            try:
                self._prefetched = self._fetch()
            finally:
                self.stage = "read"

    def release_all(self) -> None:
        """Release all entries that were not started; if that raises, they stay."""
        with self._calling():
            if self.stage == "planned":
                self.stage = "empty"
            self._read()
            unstarted = [*self.queue, *self._prefetched]
            if unstarted:
                self._release(unstarted)
                self.queue.clear()
                self._prefetched = []

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Hold the lock while one of the callables is called, for `check_order`."""
        with self.lock:
            self._caller = threading.get_ident()
            try:
                yield
            finally:
                self._caller = 0

    def check_order(self) -> None:
        """Fail if this thread holds the buffer's lock: the claim lock is taken before it."""
        assert self._caller != threading.get_ident(), "the claim lock is taken before the buffer's"
