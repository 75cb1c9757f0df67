"""The program of a template process: `python -P -m qmodal_workers.template <socket> <worker pid>`."""

from __future__ import annotations

import sys

from qmodal_workers.tie import die_with_parent


def main() -> None:
    """Be a template until the worker lets go of it."""
    die_with_parent(int(sys.argv[2]))
    from qmodal_workers import forking

    forking.serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
