"""An autoscaler as a service: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import sys


def serve(*, insecure: bool = False) -> None:
    """Scale pools; exits with 2, and says why, if it cannot with these settings."""
    import asyncio
    import logging
    import os
    from dataclasses import replace

    from qmodal.client.client import Client, resolve
    from qmodal.config import Settings
    from qmodal.embedded.credentials import withdraw
    from qmodal.exception import ConfigurationError
    from qmodal_autoscaler.process import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.from_environ(os.environ)
        settings = replace(settings, insecure=settings.insecure or insecure)
        settings = resolve(settings)
        withdraw(settings)
        asyncio.run(run(Client(settings)))
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal autoscaler: {error}\n")
        raise SystemExit(2) from None
