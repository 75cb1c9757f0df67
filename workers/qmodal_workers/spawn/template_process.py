"""A template process: imports an app version once, then forks containers.

It stays single-threaded and touches neither Redis nor CUDA. It forks twice, so that the worker,
a subreaper, is the parent of every container and learns how each one ends.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import io
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar

from qmodal.config import Settings
from qmodal.spec.variables import ContainerVariables
from qmodal.transport.connection import Address, Connection
from qmodal.transport.script import known_command, load_commands
from qmodal.wire.remote_error import printed
from qmodal_workers.container import main as container
from qmodal_workers.container.preload import load_version
from qmodal_workers.container.prepared import Prepared
from qmodal_workers.container.process import forked_children as offspring, plain_process as plain
from qmodal_workers.container.process.become import die_with, speak_through
from qmodal_workers.container.process.own_output import flush
from qmodal_workers.container.run.service import Service
from qmodal_workers.ipc.messages import content_of, receive, send, unpack
from qmodal_workers.ipc.process_marks import mark_process
from qmodal_workers.ipc.processes import try_fork
from qmodal_workers.ipc.start_request import Descriptors, StartRequest
from qmodal_workers.spawn import fork_safety as safety

# Modules that every container needs; imported there, each would cost it milliseconds.
PRELOADED = (
    "blake3",
    "hiredis",
    "msgpack",
    "qmodal.app.app",
    "qmodal.store.apps",
    "qmodal.transport.aio_driver",
    "qmodal.transport.driver",
    "qmodal.store.calls",
    "qmodal.store.fleet",
    "qmodal.store.pools",
    "qmodal.store.server",
    "qmodal.wire.payload",
    "qmodal.wire.plain",
    "qmodal",
    "uuid",  # cloudpickle's
)
LONGEST_TRACEBACK = 50_000
T = TypeVar("T")


def serve(descriptor: int) -> None:
    """Serve the worker's requests on the socket until the worker closes its end."""
    end = socket.socket(fileno=descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    plain.begin()
    send(end, {"blank": True})
    _serve_requests(end, None)


def _serve_requests(end: socket.socket, prepared: Prepared | None) -> None:
    while (received := receive(end)) is not None:
        message, descriptors = received
        if "load" in message:
            prepared = _load(end, message, *descriptors)
        elif "warm" in message and prepared is not None:
            prepared = replace(prepared, service=_warm(end, descriptors[0]))
        elif "branch" in message:
            _fork(end, message["branch"], descriptors, partial(_be_branch, prepared))
        elif "fork" in message:
            _fork(end, message["fork"], descriptors, partial(_be_container, prepared))


def preload() -> None:
    """Import the modules and read the files that every container needs, but not what can unpickle.

    A worker does so before it forks its zygote, because imports write to most pages of a process: after the
    fork they would be copies, of 5 MiB.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    codecs.lookup("idna")  # user code's host names are encoded so, which imports three modules
    load_commands()
    known_command()
    Connection(Address("redis://localhost"))  # only made, not connected


def preload_pickling() -> None:
    """Import what containers unpickle with; no process of a worker that reads from Redis may have it."""
    importlib.import_module("cloudpickle")


def _load(
    end: socket.socket, message: dict[str, Any], document: int, settings: int, variables: int
) -> Prepared:
    """Import the version's modules with its variables, and make the objects that its containers begin with."""

    def load() -> Prepared:
        own = Settings.from_environ(unpack(content_of(settings)))
        prepared = Prepared.create(content_of(document), own)
        # Secrets are opened here, where their containers come from, and in no process before it.
        sealed = ContainerVariables.unpack(content_of(variables))
        plain.set_variables(sealed.opened(prepared.client.signer))
        load_version(prepared.version, message["code"])
        return prepared

    return _run_user_code(end, load, "importing it")


def _warm(end: socket.socket, request: int) -> Service:
    """Build the instance of the one pool that this template is for."""
    from qmodal_workers.spawn.snapshot import warm

    start = StartRequest.unpack(content_of(request))
    return _run_user_code(end, lambda: warm(start), "entering it with `snap=True`")


def _run_user_code(end: socket.socket, code: Callable[[], T], what: str) -> T:
    """Run the code and report to the worker how it went; a failure ends this process."""
    begin = time.monotonic()
    offspring.watch()
    try:
        value = code()
    except BaseException as error:  # whatever user code raises, SystemExit included
        offspring.end_if_child(error)
        try:
            flush()
            send(end, {"failed": printed(error)[-LONGEST_TRACEBACK:]})
        finally:
            os._exit(1)
    offspring.end_if_child()
    unsafe = safety.why_unsafe(safety.observe(), what)
    gc.collect()
    gc.freeze()  # a collection in a container would otherwise copy every page it marks
    flush()
    took = int((time.monotonic() - begin) * 1000)
    send(end, {"loaded": took, "unsafe": unsafe or "", "looks": safety.looks_for_gpus()})
    return value


def _fork(
    end: socket.socket, name: str, descriptors: list[int], be: Callable[[list[int]], NoReturn]
) -> None:
    """Fork a container (or another template) and report its pid while its parent is the middle process.

    So the worker has heard of every process that becomes its child. Pid 0: a fork has failed.
    """
    flush()
    pid_reader, pid_writer = os.pipe()
    exit_reader, exit_writer = os.pipe()  # the middle process exits when the writing end is closed
    middle = try_fork()
    if middle == 0:
        os.close(pid_reader)
        os.close(exit_writer)
        _be_middle(end, (pid_writer, exit_reader), lambda: be(descriptors))
    _close((pid_writer, exit_reader, *descriptors))
    pid = int.from_bytes(os.read(pid_reader, 8), "little")  # nothing to read if a fork has failed
    send(end, {"forked": name, "pid": pid})
    _close((pid_reader, exit_writer))
    if middle > 0:
        os.waitpid(middle, 0)


def _be_middle(end: socket.socket, pipes: tuple[int, int], be: Callable[[], NoReturn]) -> NoReturn:
    """The middle process: fork the one that is wanted, pass on its pid, and exit when told."""
    pid_writer, exit_reader = pipes
    try:
        pid = try_fork()
        if pid == 0:
            end.close()
            _close(pipes)
            be()
        if pid > 0:
            os.write(pid_writer, pid.to_bytes(8, "little"))
            os.read(exit_reader, 1)
    finally:
        os._exit(0)


def _be_branch(prepared: Prepared | None, descriptors: list[int]) -> NoReturn:
    """The template of one pool, which has the version's modules already."""
    try:
        os.setsid()
        control, stdout, stderr, told = descriptors
        speak_through(stdout, stderr)
        message = unpack(content_of(told))
        die_with(message["worker"])
        mark_process(message["mark"])
        _serve_requests(socket.socket(fileno=control), prepared)
    finally:
        os._exit(0)


def _be_container(prepared: Prepared | None, descriptors: list[int]) -> NoReturn:
    try:
        request = StartRequest.unpack(content_of(descriptors[4]))
        container.run(request, Descriptors(*descriptors[:4]), prepared=prepared)
    finally:
        os._exit(1)


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)
