"""A container in an interpreter of its own, for what cannot be forked safely."""

from __future__ import annotations

import sys

from qmodal_workers.ipc.processes import die_with_parent


def main() -> None:
    """Be a container; argv holds its four descriptors, that of its request, and the worker's pid."""
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
