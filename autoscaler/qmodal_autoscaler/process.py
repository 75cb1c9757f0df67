"""The autoscaler process: leads, or stands by to lead, until a signal says to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from qmodal.client.client import Client
from qmodal_autoscaler.control.election import Leadership, new_autoscaler_id
from qmodal_autoscaler.control.leader_loop import LeaderTerm

if TYPE_CHECKING:
    from qmodal_autoscaler.control.shortage_command import ShortageCommand


class AutoscalerOptions(NamedTuple):
    """The port for metrics, how many pools of a function they tell apart, and what is run if room is lacking; or None."""

    metrics_port: int | None = None
    pool_labels: int | None = None
    on_shortage: ShortageCommand | None = None


NOTHING = AutoscalerOptions()
Lead = Callable[[LeaderTerm], Coroutine[None, None, None]]


async def run(client: Client, options: AutoscalerOptions = NOTHING) -> None:
    """Run until SIGTERM or SIGINT; raises ConfigurationError for a server, or a port, we cannot use."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await autoscale(client, stop, options)


async def autoscale(
    client: Client, stop: asyncio.Event, options: AutoscalerOptions = NOTHING
) -> None:
    """Lead or stand by until `stop` is set, then let another one lead at once."""
    name = new_autoscaler_id()
    with _served(client, name, options) as lead:

        def term(epoch: int) -> Coroutine[None, None, None]:
            return lead(LeaderTerm(client, epoch, options.on_shortage))

        leadership = Leadership(client, term, name)
        await _seek(client, leadership, stop)


@contextmanager
def _served(client: Client, name: str, options: AutoscalerOptions) -> Iterator[Lead]:
    """How to lead for a term, with metrics on a port, if there is one."""
    if options.metrics_port is None:
        yield LeaderTerm.run
        return
    from qmodal_autoscaler.metrics.exporter import AutoscalerMetrics

    metrics = AutoscalerMetrics(client, name, options.pool_labels)
    server = metrics.serve(options.metrics_port)
    try:
        yield metrics.lead
    finally:
        server.close()


async def _seek(client: Client, leadership: Leadership, stop: asyncio.Event) -> None:
    seeking = asyncio.create_task(leadership.seek(), name="lead")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({seeking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if seeking.done():
            seeking.result()
    finally:
        for each in (seeking, stopping):
            each.cancel()
        await asyncio.wait({seeking, stopping})
        await leadership.resign()
        await client.aclose()
