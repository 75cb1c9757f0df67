"""What all containers of a version begin with, made once by the template that forks them.

What is done before a fork costs each of them neither time nor memory of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.documents import Version, open_version
from qmodal.transport.connection import Address, Connection
from qmodal_workers.container.run.service import Service


@dataclass(frozen=True, slots=True)
class Prepared:
    """A client and the verified version; nothing is connected. `service` is of a pool with a snapshot."""

    client: Client
    version: Version
    connection: Connection
    service: Service | None = None

    @classmethod
    def create(cls, document: bytes, settings: Settings) -> Prepared:
        """From the signed version; raises what is wrong with it."""
        # By the worker. A server that is not ready, or was set otherwise since, must not end a container.
        client = Client(settings, is_checked=True)
        client.blocking.prepare()
        connection = Connection(Address(client.settings.redis_url or ""))
        return cls(client, open_version(document, client.signer), connection)
