"""What somebody who can write to the server puts into inboxes, and user code that lets nothing through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until
from tests.support.web.outages import inboxes, plain
from tests.support.web.raw import head
from tests.support.web.served import SECONDS, Served


@contextmanager
def replayed() -> Iterator[set[bytes]]:
    """Whatever is in an inbox meanwhile is written there again, whole and cut short; the messages are given."""
    is_over, found = threading.Event(), set[bytes]()

    def replay() -> None:
        with plain() as server:
            while not is_over.is_set():
                for key in inboxes():
                    entries: Any = server.xrange(key, count=50)
                    for _, fields in entries:
                        (message,) = fields.values()
                        if message and message not in found:
                            found.add(message)
                            for again in (message, message[:-1], b"", b"nonsense"):
                                server.xadd(key, {"m": again}, nomkstream=True)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(replay)
        try:
            yield found
        finally:
            is_over.set()
            running.result()


def test_messages_that_come_again_or_are_forged_change_nothing(gateway: Served) -> None:
    body = bytes(range(256)) * 16 * 1024  # 4 MiB
    with replayed() as found:
        for _ in range(4):
            response = gateway.request("POST", "/gated/web/echo", content=body)
            assert response.content == body
        wait_until(lambda: found, what="some were seen", seconds=SECONDS)


def test_a_function_that_blocks_its_loop_is_ended_when_its_client_leaves(
    gated: Any, gateway: Served, tmp_path: Path
) -> None:
    with gateway.connection() as made:
        made.sendall(head(f"GET /gated/slow/blocks?folder={tmp_path} HTTP/1.1"))
        wait_until((tmp_path / "began").exists, what="it runs", seconds=SECONDS)
    with gateway.client() as client:
        assert client.get("/gated/slow/x", timeout=60).status_code == 200
    assert not (tmp_path / "go").exists()
