"""Warms a pool's own template before it forks: builds the instance and runs its `snap=True` hooks."""

from __future__ import annotations

from qmodal.client import client as clients, context
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.reader import verified_pool, version_for
from qmodal.spec.variables import ContainerVariables
from qmodal_workers.container.preload import find
from qmodal_workers.container.process import plain_process as plain
from qmodal_workers.container.process.become import reseed
from qmodal_workers.container.run.service import Service, build_service
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.ipc.start_request import StartRequest


def warm(request: StartRequest) -> Service:
    """Build the instance that all containers of the pool begin with; raises what user code raises.

    The connections and the event loop of these hooks are closed, because forks would share them.
    """
    plain.set_variables(
        ContainerVariables.unpack(request.variables).own
    )  # it has the others already
    client = Client(Settings.from_environ(request.settings))
    clients.use(client)
    context.serve()
    reseed()
    loop = UserLoop()
    try:
        pool = verified_pool(request.spec, client.signer, request.pool)
        version = version_for(request.version, client.signer, pool)
        return build_service(*find(version, pool), loop)
    finally:
        loop.close()
        client.close()
