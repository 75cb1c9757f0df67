"""What no box can run: said when an app is published, as its inputs would wait until a box joins that can."""

from __future__ import annotations

from qmodal.client.client import Client
from qmodal.client.waiting.why import offer_of
from qmodal.exception import Error
from qmodal.spec.documents import Version
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import each_lack, impossible
from qmodal.spec.options import FunctionOptions
from qmodal.store.server import server_ms
from qmodal.store.watch.boxes import BoxRecord
from qmodal.store.watch.reasons import line_of
from qmodal.telemetry.events import FUNCTION_IMPOSSIBLE, emit
from qmodal.transport.operation import Op


def say_impossible(client: Client, version: Version) -> Op[None]:
    """Say of each function that no living box can run what the boxes lack; nothing while there is none.

    A publication does not fail because of that, nor because it cannot be told.
    """
    needs = {
        spec.tag.removesuffix(".*"): FunctionOptions.from_plain(spec.options).needs
        for spec in version.functions.values()
    }
    declared = {label: each for label, each in needs.items() if each.is_declared}
    if not declared:
        return
    try:
        boxes = yield from _living(client)
    except Error:
        return
    for label, each in declared.items():
        lacks = _lacks(each, boxes)
        if lacks:
            emit(FUNCTION_IMPOSSIBLE, label=label, needs=each, lacks=lacks, app=version.app_id)


def _living(client: Client) -> Op[list[BoxRecord]]:
    leases = yield from client.fleet.workers()
    now = yield from server_ms()
    records = yield from client.boxes.records([box for box, ends in leases.items() if ends > now])
    return list(records.values())


def _lacks(needs: Needs, boxes: list[BoxRecord]) -> str:
    """What each box lacks; empty if one lacks nothing, or there is none."""
    offers = [offer_of(box) for box in boxes]
    if not impossible(needs, offers):
        return ""
    hosts = (box.report.host for box in boxes)
    lacks = (offer.lacks(needs) for offer in offers)
    return line_of(each_lack(zip(hosts, lacks, strict=True)))
