"""What an input runs: a function or method, driven by an emitter if it is a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import ExecutionError
from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Envelope
from qmodal_workers.container.run.generator import GeneratorDriver
from qmodal_workers.container.run.invoker import Invoker
from qmodal_workers.container.run.item_sender import Attempt, ItemSender
from qmodal_workers.container.run.pack_runner import Pack
from qmodal_workers.container.run.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFinder:
    """Finds the callable of an input in this version of the code."""

    client: Client
    pool: str
    container: str
    service: Service
    invoker: Invoker

    def find(self, claimed: Claimed, envelope: Envelope) -> Callable[..., Any]:
        """The callable of one input; raises ExecutionError if this version has none."""
        method = envelope.head.method
        if method not in self.service.generators:
            return self.service.find(method)
        attempt = Attempt(
            pool=self.pool, container=self.container, claimed=claimed, envelope=envelope
        )
        emitter = ItemSender(self.client, attempt, plain_only=self.invoker.plain_only)
        invoker = self.invoker
        return GeneratorDriver(self.service.find(method), emitter, invoker.loop, invoker.interrupts)

    def of_pack(self, work: Pack) -> Callable[..., Any]:
        """The callable of a pack's inputs, or one that fails each of them.

        Raises Outdated if a newer version may have what this one lacks.
        """
        try:
            return self.service.find(work.envelope.head.method)
        except ExecutionError as error:
            self.invoker.unknown(error)
            return partial(_fail, error)


def _fail(error: Exception, /, *_args: object, **_kwargs: object) -> None:
    raise error
