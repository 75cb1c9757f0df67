"""The program of a container in an interpreter of its own, for code that cannot be forked safely."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from qmodal_workers.ipc.processes import die_with_parent, interpreter

AGAIN = "again"


def main() -> None:
    """Run a container; argv: its four descriptors, that of its request, the worker's pid, and those of its locks."""
    *descriptors, request, worker = map(int, sys.argv[1:7])
    locks = [int(fd) for fd in sys.argv[7:] if fd != AGAIN]
    die_with_parent(worker)
    from qmodal_workers.container import main as container
    from qmodal_workers.container.process import plain_process as plain
    from qmodal_workers.ipc.messages import content_of
    from qmodal_workers.ipc.start_request import Descriptors, StartRequest

    start = StartRequest.unpack(content_of(os.dup(request)))
    if AGAIN not in sys.argv:
        _start_again(start.variables, start.settings)
    os.close(request)
    for fd in (
        locks
    ):  # held until this process and those forked from it end, and by no program that they start
        os.set_inheritable(fd, False)
    plain.begin()
    container.run(start, Descriptors(*descriptors))


def _start_again(packed: bytes, settings: Mapping[str, str]) -> None:
    """Start this program once more, if secrets have variables that a process reads only when it starts.

    The worker knows their names only. They are the ones that `/proc` then shows of this process.
    """
    from qmodal.config import Settings
    from qmodal.exception import Error
    from qmodal.spec.variables import ContainerVariables
    from qmodal.wire.signing import Signer
    from qmodal_workers.spawn.fork_safety import startup_variables

    variables = ContainerVariables.unpack(packed)
    late = startup_variables({key for secret in variables.secrets for key in secret.keys})
    if not late:
        return
    with suppress(Error):  # the container will say it
        opened = variables.opened(Signer(Settings.from_environ(settings).signing_key or b""))
        environ = {**os.environ, **{name: opened[name] for name in late}}
        if "PYTHONPATH" in late and "PYTHONPATH" in os.environ:  # it finds qmodal by that
            environ["PYTHONPATH"] = os.pathsep.join(
                [opened["PYTHONPATH"], os.environ["PYTHONPATH"]]
            )
        program = interpreter("qmodal_workers.spawn.fresh")
        os.execve(program[0], [*program, *sys.argv[1:], AGAIN], environ)


if __name__ == "__main__":
    main()
