"""The command that an operator has run while containers wait for room that no box has."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress

from qmodal.exception import ConfigurationError
from qmodal.telemetry.events import (
    SHORTAGE_BEGAN,
    SHORTAGE_ENDED,
    SHORTAGE_FAILED,
    SHORTAGE_OUTPUT,
    emit,
)
from qmodal.telemetry.printable import printable

LIMIT_SECONDS = 60.0
# How long what it has started may go on after it was asked to end, and what it has printed may take to arrive.
END_SECONDS = 1.0
# Of what it prints, so much becomes events.
MOST_BYTES = 8192
MOST_IN_LINE = 500


class ShortageCommand:
    """A program with its arguments, no shell; `every`: seconds between two runs, `limit`: seconds that one may take."""

    def __init__(
        self, argv: list[str], *, every: float = 60.0, limit: float = LIMIT_SECONDS
    ) -> None:
        self._argv = argv
        self._limit = limit
        self.every = every

    @classmethod
    def parse(cls, text: str, every: float) -> ShortageCommand:
        """The command in a text that is quoted as for a shell; raises ConfigurationError if it cannot be run."""
        try:
            argv = shlex.split(text)
        except ValueError as error:
            raise ConfigurationError(f"--on-shortage {text!r} cannot be read: {error}") from error
        if not argv or shutil.which(argv[0]) is None:
            name = argv[0] if argv else ""
            raise ConfigurationError(
                f"--on-shortage: there is no program {name!r}. It is run without a shell; "
                "`sh -c '…'` is a program that is one"
            )
        return cls(argv, every=every)

    async def run(self, told: bytes, variables: Mapping[str, str]) -> None:
        """Run it once, with `told` to read; its output and its failures become events.

        If the caller is cancelled, it is ended first, with all of its session.
        """
        program = self._argv[0]
        emit(SHORTAGE_BEGAN, program=program, wanted=told.decode().strip())
        output = _Output()
        try:
            try:
                problem = await self._status(told, variables, output.sink)
            except OSError as error:
                problem = f"it cannot be started: {error}"
            for line in await output.lines():
                emit(SHORTAGE_OUTPUT, program=program, line=line)
        finally:
            output.close()
        if problem:
            emit(SHORTAGE_FAILED, program=program, reason=problem)
        else:
            emit(SHORTAGE_ENDED, program=program)

    async def _status(self, told: bytes, variables: Mapping[str, str], sink: int) -> str:
        """Run it to its end, or until its time is over; what was wrong with it, empty if nothing."""
        # A file, so that it need not read all of it, or anything.
        with tempfile.TemporaryFile() as given:
            given.write(told)
            given.seek(0)
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=given,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **variables},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(self._limit):
                    status = await process.wait()
            except TimeoutError:
                return f"it was ended, as it still ran after {self._limit:g} s"
            finally:
                if process.returncode is None:
                    await _end(process)
        if status < 0:
            return f"it was ended by signal {-status}"
        return f"it ended with status {status}" if status else ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process and all of its session: asked first, then killed."""
    try:
        with suppress(ProcessLookupError, TimeoutError):
            os.killpg(process.pid, signal.SIGTERM)
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


class _Output:
    """What a program prints to `sink`, read as it comes, of which the beginning is kept."""

    def __init__(self) -> None:
        self._source, self.sink = os.pipe()
        os.set_blocking(self._source, False)
        self._kept = b""
        self._is_over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source, self._read)

    def _read(self) -> None:
        got = os.read(self._source, 65536)
        self._kept += got[: MOST_BYTES - len(self._kept)]
        if not got:
            self._loop.remove_reader(self._source)
            self._is_over.set()

    async def lines(self) -> list[str]:
        """Its lines; what it leaves running in the background may hold the pipe, and is not waited for."""
        self._close_sink()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._is_over.wait()
        lines = self._kept.decode(errors="replace").splitlines()
        return [printable(line)[:MOST_IN_LINE] for line in lines if line.strip()]

    def close(self) -> None:
        """Read no more."""
        self._loop.remove_reader(self._source)
        os.close(self._source)
        self._close_sink()

    def _close_sink(self) -> None:
        if self.sink >= 0:
            os.close(self.sink)
            self.sink = -1
