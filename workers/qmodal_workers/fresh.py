"""A container in an interpreter of its own, for what cannot be forked safely."""

from __future__ import annotations

import sys

from qmodal_workers.container import main as container
from qmodal_workers.passing import content_of
from qmodal_workers.start import Descriptors, StartRequest


def main() -> None:
    """Be a container; argv holds its four descriptors and that of its request."""
    stdout, stderr, control, record, request = map(int, sys.argv[1:6])
    container.run(
        StartRequest.unpack(content_of(request)),
        Descriptors(stdout, stderr, control, record),
        modules_loaded=False,
    )


if __name__ == "__main__":
    main()
