"""Writes the output of containers to the logs of their apps, at most every 50 ms."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque

from qmodal.client.client import Client
from qmodal.store.history.logs import LogChunk
from qmodal.transport.defects import survive
from qmodal_workers.output.pipes import Pipes
from qmodal_workers.output.redaction import Redaction

WRITE_SECONDS = 0.05
# Bytes that are kept while the server cannot be reached; older ones are dropped.
MOST_UNSENT_BYTES = 8 * 1024 * 1024
CHUNKS_AT_ONCE = 1000


class LogWriter:
    """Writes the output that the `pipes` have read to the logs; owns the `pipes`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._has_output = asyncio.Event()
        self._writing = asyncio.Lock()
        self._unsent: deque[tuple[str, LogChunk]] = deque()
        self._unsent_bytes = 0
        # By app: what was dropped since something could be written.
        self._dropped: Counter[str] = Counter()
        self.redaction = Redaction(client.settings)
        self.pipes = Pipes(self._notify, self.redaction)

    def _notify(self) -> None:
        if not self._has_output.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._has_output.set)

    async def write(self) -> None:
        """Write output as it comes, for ever; one of the worker's loops."""
        while True:
            await self._has_output.wait()
            self._has_output.clear()
            with survive("writing what containers print"):
                await self._write_once()
            await asyncio.sleep(WRITE_SECONDS)
            if self._unsent or self.pipes.is_waiting:
                self._has_output.set()

    async def finish(self, container: str) -> None:
        """Read what is left in the container's pipes and write it; what cannot be written now is kept."""
        done = self._loop.create_future()

        def read() -> None:
            self._loop.call_soon_threadsafe(_resolve, done)

        self.pipes.finish(container, read)
        await done
        await self._write_once()

    async def _write_once(self) -> None:
        async with self._writing:
            chunks = [*self._unsent, *self.pipes.take()]
            self._unsent.clear()
            self._unsent_bytes = 0
            by_app: dict[str, list[LogChunk]] = defaultdict(list)
            for app, dropped in self._dropped.items():
                by_app[app].append(_note(dropped))
            for app, chunk in chunks:
                by_app[app].append(chunk)
            for app, of_app in by_app.items():
                await self._append(app, of_app)

    async def _append(self, app: str, chunks: list[LogChunk]) -> None:
        logs = self._client.logs
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            batch = chunks[start : start + CHUNKS_AT_ONCE]
            is_written = False
            with survive(f"writing the output of {app}"):
                await self._client.aio(logs.append(app, batch))
                is_written = True
            if not is_written:
                self._keep(app, chunks[start:])
                return
            self._dropped.pop(app, None)

    def _keep(self, app: str, chunks: list[LogChunk]) -> None:
        """Keep for later what could not be written, as far as there is room; notes are made again."""
        for chunk in chunks:
            if chunk.container:
                self._unsent.append((app, chunk))
                self._unsent_bytes += len(chunk.text)
        while self._unsent_bytes > MOST_UNSENT_BYTES:
            of, oldest = self._unsent.popleft()
            self._unsent_bytes -= len(oldest.text)
            self._dropped[of] += len(oldest.text)


def _note(dropped: int) -> LogChunk:
    text = f"[{dropped} bytes of output were dropped here: the server could not be reached]\n"
    return LogChunk("", "system", text.encode())


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
