"""The release thread: looks after the entries behind the running input while user code goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qmodal_workers.container.process.signals import unsignalled

# Between two looks, unless something is due before.
LOOK_SECONDS = 0.01


class ReleaseThread:
    """Calls `look(now)` again and again until it returns False, then sleeps until the next `arm`.

    `pause(now)` says how many seconds the next look may wait. `clock` gives monotonic nanoseconds.
    `tick` gets the time of each look, and 0 before it sleeps, so that the worker sees when user code
    keeps this thread from running.
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
        # Released: look at once. It takes a tenth of the time that setting an Event takes.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """Wake the thread, as there is something to look after; the first time starts it."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="release", daemon=True)
            with unsignalled():
                self._thread.start()
        self._armed.set()

    def ring(self) -> None:
        """Have the thread look at once."""
        self.arm()
        if self._bell.locked():
            self._bell.release()

    def _watch(self) -> None:
        while True:
            self._armed.wait()
            self._armed.clear()
            while self._look_now(self._clock()):
                self._bell.acquire(timeout=self._pause(self._clock()))
            self._tick(0)

    def _look_now(self, now: int) -> bool:
        self._tick(now)
        return self._look(now)
