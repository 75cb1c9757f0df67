"""A dictionary and a queue on the test's own keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client


@pytest.fixture(autouse=True)
def used_client(client: Client) -> Client:
    """Programs of these tests use the test's client."""
    clients.use(client)
    return client


@pytest.fixture
def d() -> Iterator[qmodal.Dict]:
    with qmodal.Dict.ephemeral() as made:
        yield made


@pytest.fixture
def q() -> Iterator[qmodal.Queue]:
    with qmodal.Queue.ephemeral() as made:
        yield made
