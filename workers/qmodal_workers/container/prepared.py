"""The objects that all containers of a version begin with, made once by the template that forks them.

Made before the fork, they cost a container neither time nor memory of its own.
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
    """A client, the verified version, and a connection that is not opened yet.

    `service`: in the template of a pool with a memory snapshot, the instance that is built already.
    """

    client: Client
    version: Version
    connection: Connection
    service: Service | None = None

    @classmethod
    def create(cls, document: bytes, settings: Settings) -> Prepared:
        """Create them from a signed version; raises Error if it cannot be verified."""
        # Checked by the worker: a server that is not ready, or was set otherwise since, must not end a
        # container.
        client = Client(settings, is_checked=True)
        client.blocking.prepare()
        connection = Connection(Address(client.settings.redis_url or ""))
        return cls(client, open_version(document, client.signer), connection)
