"""The inputs that a container has claimed and not finished: started one by one, or given back.

Claiming several short inputs at once saves round trips, but nothing may wait behind a busy
container while another is idle: when an input runs longer than 12 ms, what lies behind it is
released. Starting and releasing take the same lock, so an input is never both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from qmodal.exception import Error
from qmodal.store.entries import Claimed
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.slot import Slot

# After an input of that length the worker may have released what was behind it.
LONG_SECONDS = 0.1
LONG_NS = int(LONG_SECONDS * 1e9)
# Several are claimed only if they are much shorter than that together.
RELEASE_NS = 12_000_000
LOOK_SECONDS = 0.01
# What has ended is written, whatever runs now, if that has been running for so long.
SETTLE_NS = 5_000_000
Release = Callable[[list[Claimed]], None]
Split = Callable[[Pack], None]
Fetch = Callable[[], list[Claimed]]


class PrefetchBuffer:
    """Claimed entries in order; `queue` is behind the one in `slot`.

    `release` gives back, `split` takes apart a pack whose running input is long, `settle` writes what
    has ended before, if it is told to, and says whether there is something. `fetch` reads what was
    claimed ahead, once `expect` said that something was. `prepare` does what was planned, by the
    watching thread.
    `clock` gives nanoseconds; `tick` is told when the watching thread looks (0: it need not), so
    that the worker sees when user code does not let it.
    """

    def __init__(
        self,
        slot: Slot,
        release: Release,
        split: Split,
        settle: Callable[[bool], bool],
        fetch: Fetch,
        prepare: Callable[[], None],
        *,
        clock: Callable[[], int],
        tick: Callable[[int], None],
    ) -> None:
        self._slot = slot
        self._release = release
        self._split = split
        self._settle = settle
        self._fetch = fetch
        self._prepare = prepare
        self._clock = clock
        self._tick = tick
        self.lock = threading.Lock()
        self.queue: deque[Claimed] = deque()  # changed under the lock only
        # Of what is claimed ahead: how many entries are planned, whether they were asked for, which came.
        self.planned = 0
        self.is_expecting = self._is_rung = False
        self._ahead: list[Claimed] | None = None
        self._work: Pack | None = None
        self._armed = threading.Event()
        # Free: there is something to do at once. An Event takes ten times as long to be set.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._good_until = 0  # when what is on the shelf is to be looked up again

    @property
    def has_more(self) -> bool:
        """Whether something is claimed behind what runs."""
        return bool(self.queue or self.planned or self.is_expecting or self._ahead)

    @property
    def has_ahead(self) -> bool:
        """Whether anything was or will be claimed ahead since the shelf was filled."""
        return self.planned > 0 or self.is_expecting or self._ahead is not None

    def put(self, claimed: Iterable[Claimed]) -> None:
        """Add what was claimed, behind what is there."""
        with self.lock:
            self.queue.extend(claimed)
            self._good_until = self._clock() + LONG_NS
        if len(self.queue) > 1:
            self._arm()

    def plan(self, count: int, *, is_rung: bool) -> None:
        """So many entries are to be claimed ahead; `is_rung`: by the watching thread, with `prepare`."""
        self.planned, self._is_rung = count, is_rung
        if is_rung:
            self._arm()
            if self._bell.locked():
                self._bell.release()

    def expect(self, ask: Callable[[int], None]) -> bool:
        """Claim what is planned with `ask`; False, and nothing is asked for, if it was called off."""
        with self.lock:
            count = self.planned
            if not count:
                return False
            self.is_expecting, self.planned = True, 0
            ask(count)
        self._arm()
        return True

    def read_ahead(self) -> list[Claimed]:
        """What was claimed ahead, which stays so."""
        with self.lock:
            self._read_ahead()
            return self._ahead or []

    def take_ahead(self) -> list[Claimed] | None:
        """What was claimed ahead and not given back meanwhile; None if nothing was.

        It is not on the shelf. Under the lock, as all that reads it: the release thread may be at it.
        """
        with self.lock:
            self._read_ahead()
            taken, self._ahead = self._ahead, None
            return taken

    def _read_ahead(self) -> None:
        self._is_rung = False
        if self.is_expecting:
            self._ahead = []
            try:
                self._ahead = self._fetch()
            finally:
                self.is_expecting = False

    def start(self) -> Claimed | None:
        """Take the next input to run, None if there is none."""
        with self.lock:
            slot = self._slot
            slot.claimed = claimed = self.queue.popleft() if self.queue else None
            slot.started = self._clock()
            return claimed

    @property
    def is_stale(self) -> bool:
        """Whether the started input was claimed so long ago that it may be somebody else's.

        Or cancelled: what lies behind an input that runs for that long was given back, so this
        process stood still meanwhile.
        """
        return self._slot.started > self._good_until

    def waiting(self) -> list[Claimed]:
        """What is claimed and not started."""
        with self.lock:
            return list(self.queue)

    def refill(self, read: Fetch) -> None:
        """Replace what is claimed by what the server says is held.

        Under the lock: what is being released must not be read as held and started.
        """
        with self.lock:
            self.queue = deque(read())
            self._ahead = None
            self.is_expecting = self._is_rung = False
            self.planned = 0
            self._good_until = self._clock() + LONG_NS
        if len(self.queue) > 1:
            self._arm()

    def release_all(self) -> None:
        """Give everything back that was not started; what cannot be given back stays."""
        with self.lock:
            self.planned = 0
            self._read_ahead()
            unstarted = [*self.queue, *(self._ahead or ())]
            if unstarted:
                self._release(unstarted)
                self.queue.clear()
                self._ahead = None if self._ahead is None else []

    def work_on(self, work: Pack | None) -> None:
        """This pack is being run, or none any more: then nobody is taking it apart either."""
        with self.lock:
            self._work = work
        if work is not None:
            self._arm()

    def _arm(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="release", daemon=True)
            self._thread.start()
        self._armed.set()

    def _watch(self) -> None:
        """Look while something waits; it sleeps without a timer while inputs come one by one."""
        while True:
            self._armed.wait()
            self._armed.clear()
            while self._look(self._clock()):
                self._bell.acquire(timeout=self._pause(self._clock()))
            self._tick(0)

    def _pause(self, now: int) -> float:
        """Seconds until the next look: no later than what lies behind a long input is given back."""
        left = (self._slot.started + RELEASE_NS - now) / 1e9
        return min(LOOK_SECONDS, left + 0.0002) if left > 0 else LOOK_SECONDS

    def _look(self, now: int) -> bool:
        """Whether to look again: something waits behind what runs."""
        work = self._work
        since = work.since if work is not None and work.since else self._slot.started
        is_running = self._slot.claimed is not None
        self._tick(now)
        is_pending = True
        # Refused or not reachable: it is tried again when it looks next.
        with suppress(Error):
            if is_running and self._is_rung and now - since < RELEASE_NS:
                self._prepare()
            is_pending = self._settle(is_running and now - since > SETTLE_NS)
            if is_running and now - since > RELEASE_NS:
                self.release_all()
            if is_running and now - since > LONG_NS and work is not None:
                self._take_apart(work)
        return self.has_more or self._work is not None or is_pending

    def _take_apart(self, work: Pack) -> None:
        with self.lock:
            if self._work is work:
                self._split(work)
