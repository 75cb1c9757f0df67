"""The program of a container in an interpreter of its own, for code that cannot be forked safely."""

from __future__ import annotations

import sys

from qmodal_workers.ipc.processes import die_with_parent


def main() -> None:
    """Run a container; argv: its four descriptors, the descriptor of its request, the worker's pid."""
    *descriptors, request, worker = map(int, sys.argv[1:7])
    die_with_parent(worker)
    from qmodal_workers.container import main as container
    from qmodal_workers.container.process import plain_process as plain
    from qmodal_workers.ipc.messages import content_of
    from qmodal_workers.ipc.start_request import Descriptors, StartRequest

    plain.begin()
    container.run(StartRequest.unpack(content_of(request)), Descriptors(*descriptors))


if __name__ == "__main__":
    main()
