"""The entries that a container has claimed and not started, and those that it claims ahead.

Claiming several short inputs at once saves round trips, but nothing may wait behind a busy
container while another is idle: when an input runs longer than 12 ms, what lies behind it is
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

# After an input of that length the worker may have released what was behind it.
LONG_SECONDS = 0.1
LONG_NS = int(LONG_SECONDS * 1e9)
Stage = Literal["empty", "planned", "asked", "read"]


class PrefetchBuffer:
    """Claimed entries in order: `queue` is behind the entry in `slot`, and behind that the prefetch.

    The prefetch is at one `stage`: `empty`; `planned`, when `count` entries are to be claimed;
    `asked`, once that claim was sent; `read`, once its answer was, even if nothing of it is left.
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
        self._good_until = 0  # when what is in the queue is to be looked up again

    @property
    def has_more(self) -> bool:
        """Whether something is claimed, or will be, behind what runs."""
        return bool(self.queue or self.is_coming or self._prefetched)

    @property
    def is_coming(self) -> bool:
        """Whether a prefetch was planned and its answer is not read."""
        return self.stage in ("planned", "asked")

    @property
    def is_for_background(self) -> bool:
        """Whether the release thread is to claim and read the prefetch."""
        return self._is_background and self.is_coming

    @property
    def is_stale(self) -> bool:
        """Whether the started entry was claimed so long ago that it may be somebody else's.

        Or cancelled: what lies behind an input that runs for that long was given back, so this
        process stood still meanwhile.
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
        """What is claimed and not started, without the prefetch."""
        with self.lock:
            return list(self.queue)

    def put(self, claimed: Iterable[Claimed]) -> None:
        """Add what was claimed, behind what is there."""
        with self.lock:
            self.queue.extend(claimed)
            self._good_until = self.clock() + LONG_NS

    def refill(self, read: Callable[[], list[Claimed]]) -> None:
        """Replace everything by what the server says is held.

        Under the lock: what is being released must not be read as held and started.
        """
        with self._calling():
            self.queue = deque(read())
            self._prefetched = []
            self.stage = "empty"
            self._good_until = self.clock() + LONG_NS

    def plan(self, count: int, *, is_background: bool) -> None:
        """So many entries are to be claimed; `is_background`: by the release thread, if it comes first."""
        if self.stage == "empty":
            self.count, self._is_background = count, is_background
            self.stage = "planned"

    def ask(self, ask: Callable[[int], None]) -> bool:
        """Claim what is planned with `ask`; False, and nothing is asked for, if nothing is planned."""
        with self._calling():
            if self.stage != "planned":
                return False
            self.stage = "asked"
            ask(self.count)
        return True

    def read(self) -> list[Claimed]:
        """The prefetch, which stays here; waits for the answer if it was asked for."""
        with self._calling():
            self._read()
            return self._prefetched

    def take(self) -> list[Claimed] | None:
        """The prefetch, less what was given back meanwhile; None if there was none.

        It is in nobody's hands but the caller's then.
        """
        if self.stage == "empty":  # as it stays: nobody else plans
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
        """Give everything back that was not started; what cannot be given back stays."""
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
        """The lock, for steps that call something else under it."""
        with self.lock:
            self._caller = threading.get_ident()
            try:
                yield
            finally:
                self._caller = 0

    def check_order(self) -> None:
        """Fail unless this thread may take the claim lock: that one is taken before this one's."""
        assert self._caller != threading.get_ident(), "the claim lock is taken before the buffer's"
