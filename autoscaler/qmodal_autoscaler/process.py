"""The autoscaler process: leads, or stands by to lead, until a signal says to stop."""

from __future__ import annotations

import asyncio
import signal

from qmodal.client.client import Client
from qmodal_autoscaler.control.election import Leadership
from qmodal_autoscaler.control.leader_loop import LeaderTerm


async def run(client: Client) -> None:
    """Run until SIGTERM or SIGINT; raises ConfigurationError for a server we cannot use."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await autoscale(client, stop)


async def autoscale(client: Client, stop: asyncio.Event) -> None:
    """Lead or stand by until `stop` is set, then let another one lead at once."""
    leadership = Leadership(client, lambda epoch: LeaderTerm(client, epoch).run())
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
