"""Finds the callable that an input runs: a function or method, wrapped if it is a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import ExecutionError
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.generator import GeneratorDriver
from qmodal_workers.container.run.invoker import Invoker
from qmodal_workers.container.run.item_sender import ItemSender
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFinder:
    """Finds the callable of an input in this version of the code."""

    client: Client
    pool: str
    container: str
    service: Service
    invoker: Invoker

    def find(self, attempt: Attempt, invoker: Invoker | None = None) -> Callable[..., Any]:
        """The callable of one input, which `invoker` runs; raises ExecutionError if this version has none."""
        head, invoker, web = attempt.envelope.head, invoker or self.invoker, self.service.web
        method = head.method
        found = self.service.find(method)
        if web is not None and method in web.specs:
            return web.bound(head, attempt.claimed, self.container, invoker.interrupts.slot)
        if method not in self.service.generators:
            return found
        sender = ItemSender(
            self.client,
            attempt,
            pool=self.pool,
            container=self.container,
            plain_only=invoker.plain_only,
        )
        return GeneratorDriver(found, sender, invoker.loop, invoker.interrupts)

    def of_pack(self, pack: Pack) -> Callable[..., Any]:
        """The callable of a pack's inputs, or one that fails each of them.

        Raises Outdated if a newer version may have what this one lacks.
        """
        try:
            return self.service.find(pack.envelope.head.method)
        except ExecutionError as error:
            self.invoker.unknown(error)
            return partial(_fail, error)


def _fail(error: Exception, /, *_args: object, **_kwargs: object) -> None:
    raise error
