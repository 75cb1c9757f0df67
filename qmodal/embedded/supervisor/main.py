"""The parent of a server and its children: starts them, watches them, ends them with its client.

Run as `python -P -m qmodal.embedded.supervisor.main FOLDER` in a session of its own (the argument is
for whoever reads `ps`). Standard input is the lifeline and brings the plan, standard output says
when the server answers. A newcomer waits for this, so it imports nothing that it can do without.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from qmodal.embedded.ping import ping
from qmodal.embedded.supervisor.child import ChildCommand, ChildProcess
from qmodal.embedded.supervisor.lifeline import Lifeline
from qmodal.embedded.supervisor.plan import StackPlan

# What the server may take to answer, and to stop.
SERVER_SECONDS = 10.0
POLL_SECONDS = 0.001


class Supervisor:
    """Everything that runs for one client."""

    def __init__(self, plan: StackPlan, lifeline: Lifeline) -> None:
        self.plan = plan
        self.lifeline = lifeline
        self.server = ChildProcess(
            ChildCommand(
                name="server",
                argv=plan.server,
                # Nothing of a private server is kept, so nothing is gained by asking it.
                death_signal=signal.SIGTERM if plan.kept else signal.SIGKILL,
                stop_signal=signal.SIGTERM if plan.kept else signal.SIGKILL,
                environ={"PATH": os.environ.get("PATH", "")},
                log=plan.server_log,
                keep_open=(plan.lock,),
            )
        )
        self.children = [
            ChildProcess(ChildCommand(name=name, argv=argv)) for name, argv in plan.children.items()
        ]
        self._dormant: list[ChildProcess] = []
        if plan.gateway and plan.gateway_socket is not None:
            gateway = ChildCommand(name="web", argv=plan.gateway, keep_open=(plan.gateway_socket,))
            place = self._dormant if plan.gateway_on_request else self.children
            place.append(ChildProcess(gateway))
        self._wakeups = _signal_pipe(self._stop_by_signal)

    def run(self) -> int:
        """Runs until the client wants it to end or is gone; the exit code."""
        try:
            failure = self._start()
            _report({"error": failure} if failure else self._address())
            return 1 if failure else self._watch()
        finally:
            self._stop()

    def _address(self) -> dict[str, str]:
        return {"url": self.plan.url, "key_file": self.plan.key_file}

    def _start(self) -> str:
        """Starts all, waits for the server alone; what went wrong, or nothing."""
        try:
            self.server.start()
        except OSError as error:
            return f"The server cannot be started: {error}"
        for child in self.children:
            _begin(child)
        return self._until_ready()

    def _until_ready(self) -> str:
        silent_until = time.monotonic() + SERVER_SECONDS
        while self.lifeline.deadline is None:
            match ping(self.plan.socket, self.plan.password, timeout=1.0):
                case "ready":
                    return ""
                case "loading":
                    silent_until = time.monotonic() + SERVER_SECONDS
                case _ if time.monotonic() > silent_until:
                    return f"The server does not answer after {SERVER_SECONDS:g} s" + self._said()
            if not self.server.running:
                return f"The server {self.server.end}" + self._said()
            self._wait(POLL_SECONDS)
        return "The client is gone"

    def _said(self) -> str:
        """The end of the server's log; the folder may be gone before the client can look."""
        try:
            log = Path(self.plan.server_log).read_text(errors="replace")
        except OSError:
            return ""
        return ". It said:\n" + "\n".join(log.splitlines()[-5:])

    def _watch(self) -> int:
        while self.lifeline.deadline is None:
            if not self.plan.kept and not self.server.running:
                _say(f"server {self.server.end}, and the calls it held are lost")
                return 1
            self._wake_gateway()
            every = [self.server, *self.children]
            for child in every:
                child.tend(_say)
            due = [child.restart_at for child in every if child.restart_at is not None]
            self._wait(max(0.0, min(due) - time.monotonic()) if due else None)
        return 0

    def _wake_gateway(self) -> None:
        """Start the gateway that waits for that, once the client has asked for it."""
        if self.lifeline.wants_gateway and self._dormant:
            gateway = self._dormant.pop()
            self.children.append(gateway)
            _begin(gateway)

    def _stop(self) -> None:
        self.lifeline.stop_within(self.plan.grace)
        for child in self.children:
            child.terminate()
        while any(child.running for child in self.children) and self._time_left() > 0:
            self._wait(self._time_left())
        for child in self.children:
            child.kill()
        self._stop_server()
        for folder in self.plan.remove:
            shutil.rmtree(folder, ignore_errors=True)

    def _stop_server(self) -> None:
        self.server.terminate()
        deadline = time.monotonic() + SERVER_SECONDS
        while self.server.running and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic())
        self.server.kill()

    def _time_left(self) -> float:
        deadline = self.lifeline.deadline
        return 0.0 if deadline is None else deadline - time.monotonic()

    def _wait(self, seconds: float | None) -> None:
        """Until the lifeline or a signal says something; a child's death is a signal, too."""
        sources = [self._wakeups]
        if self.lifeline.open:
            sources.append(self.lifeline.descriptor)
        ready, _, _ = select.select(sources, (), (), seconds and max(0.0, seconds))
        if self._wakeups in ready:
            os.read(self._wakeups, 4096)
        if self.lifeline.descriptor in ready:
            self.lifeline.read()

    def _stop_by_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.lifeline.stop_within(self.plan.grace)


def main() -> int:
    """Reads the plan from standard input and runs it; the exit code."""
    lifeline = Lifeline(0)
    try:
        plan = StackPlan.from_line(lifeline.first_line())
    except EOFError:
        return 1
    lifeline.grace = plan.grace
    return Supervisor(plan, lifeline).run()


def _signal_pipe(stop: Callable[[int, FrameType | None], None]) -> int:
    """The end of a pipe that becomes readable at every signal we care about."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    return readable


def _begin(child: ChildProcess) -> None:
    child.restart_at = 0.0
    child.tend(_say)


def _report(words: dict[str, str]) -> None:
    _write(1, json.dumps(words) + "\n")


def _say(sentence: str) -> None:
    _write(2, f"{time.strftime('%H:%M:%S')} qmodal: {sentence}\n")


def _write(descriptor: int, text: str) -> None:
    """Writes if anybody is there to read: a vanished reader must not stop the cleaning up."""
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
