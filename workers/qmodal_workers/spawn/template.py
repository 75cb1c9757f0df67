"""The program of a template process: `python -P -m qmodal_workers.spawn.template <socket> <pid> <mark>`."""

from __future__ import annotations

import sys

from qmodal_workers.ipc.processes import die_with_parent


def main() -> None:
    """Run a template until the worker closes its socket."""
    die_with_parent(int(sys.argv[2]))
    from qmodal_workers.ipc.process_marks import mark_process
    from qmodal_workers.spawn import template_process

    mark_process(int(sys.argv[3]))
    template_process.serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
