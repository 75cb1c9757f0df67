"""The release thread: looks after what waits behind the running input while user code goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

# Between two looks, unless something is due before.
LOOK_SECONDS = 0.01


class ReleaseThread:
    """Calls `look` while that says that there is something to look after; sleeps until `arm` otherwise.

    `look` gets the time; `pause` says how many seconds the next look may wait. `clock` gives
    monotonic nanoseconds. `tick` is told when it looks (0: it need not), so that the worker sees
    when user code does not let it.
    """

    def __init__(
        self,
        look: Callable[[int], bool],
        pause: Callable[[int], float],
        *,
        clock: Callable[[], int],
        tick: Callable[[int], None],
    ) -> None:
        self._look = look
        self._pause = pause
        self._clock = clock
        self._tick = tick
        self._armed = threading.Event()
        # Free: look at once. An Event takes ten times as long to be set.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """There is something to look after; it sleeps without a timer while inputs come one by one."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="release", daemon=True)
            self._thread.start()
        self._armed.set()

    def ring(self) -> None:
        """There is something to do at once."""
        self.arm()
        if self._bell.locked():
            self._bell.release()

    def _watch(self) -> None:
        while True:
            self._armed.wait()
            self._armed.clear()
            while self._is_needed(self._clock()):
                self._bell.acquire(timeout=self._pause(self._clock()))
            self._tick(0)

    def _is_needed(self, now: int) -> bool:
        self._tick(now)
        return self._look(now)
