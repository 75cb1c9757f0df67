"""`qmodal`, and `python -m qmodal`: starts a service, or has the command line read what is asked for."""

from __future__ import annotations

import sys
from importlib import import_module

from qmodal.client.streams import open_missing
from qmodal.exception import Error

# Modules with a function `serve`.
SERVICES = {
    "worker": "qmodal_workers.service",
    "autoscaler": "qmodal_autoscaler.service",
    "control": "qmodal.services.control.service",
    "web": "qmodal.services.gateway.service",
}


def main() -> None:
    """Run one command and exit, as `qmodal.cli.main` does."""
    service = SERVICES.get(" ".join(sys.argv[1:]))
    if service is None:
        from qmodal.cli import main as read_command_line

        read_command_line()
        return
    # Without options there is nothing to parse: without click the service is up sooner, and takes a
    # mebibyte less for as long as it runs, as do the processes that it forks.
    open_missing()
    try:
        import_module(service).serve()
    except KeyboardInterrupt:  # before it listens to signals
        sys.exit(130)
    except Error as failure:
        from qmodal.cli import end_with

        end_with(failure)


if __name__ == "__main__":
    main()
