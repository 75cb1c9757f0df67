"""Lines that say where the web functions of an app answer, or why nobody serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.functions.web import WebAddress
    from qmodal.transport.operation import Op

NO_GATEWAY = "no gateway runs: start `qmodal web`"


def addresses_of(client: Client, app_id: str) -> Op[dict[tuple[str, str], str]]:
    """What to say behind the name of each web function, by tag and method."""
    from qmodal.functions.web import web_addresses

    addresses = yield from web_addresses(client, app_id)
    if not addresses:
        return {}
    is_served = (yield from client.gateways.newest()) is not None
    return {(each.tag, each.method): _said(each, is_served=is_served) for each in addresses}


def _said(address: WebAddress, *, is_served: bool) -> str:
    return " ".join(address.urls if is_served else [*address.urls, f"({NO_GATEWAY})"])


def named_addresses(client: Client, app_id: str) -> Op[list[str]]:
    """A line for each web function: its name, and its URLs."""
    from qmodal.spec.web import full_name

    found = yield from addresses_of(client, app_id)
    return [f"{full_name(*function)} => {said}" for function, said in found.items()]
