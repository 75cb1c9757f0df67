"""Logs as they are kept: which input has printed what, and lines found from the newest on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmodal.client.client import Client
from qmodal.output.log_search import PAGE, LogFilter, newest
from qmodal.store.history import logs
from qmodal.store.history.logs import CHUNK_BYTES, LogChunk
from tests.support.store.bench import Bench

APP = "ap-" + "l" * 22
CALL, OTHER = "fc-45O5NRqurBqcQBjO000001", "fc-45" + "ab" * 16
CHUNK = LogChunk("ta-1", "stdout", b"text\n", pool="00" * 16, function="f")


def kept(client: Client, chunks: list[LogChunk]) -> list[LogChunk]:
    client.run(client.logs.append(APP, chunks))
    return [replace(each, entry="") for each in client.run(client.logs.tail(APP, 1000))]


def test_inputs_share_an_entry_and_are_told_apart(client: Client, bench: Bench) -> None:
    chunks = [
        CHUNK,
        replace(CHUNK, text=b"\xff 0\n", call=CALL, index=0),
        replace(CHUNK, text=b"1\n", call=CALL, index=1),
        replace(CHUNK, text=b"of the call\n", call=CALL),
        replace(CHUNK, text=b"other\n", call=OTHER, index=999_999),
        replace(CHUNK, text=b"nobody's\n"),
        replace(CHUNK, source="stderr", call=OTHER, index=2),
    ]
    assert kept(client, chunks) == chunks
    assert bench.ask(b"XLEN", client.keys.logs(APP)) == 2


def test_entries_are_of_bounded_size(client: Client, bench: Bench) -> None:
    chunks = [replace(CHUNK, text=b"x" * 5000 + b"\n", call=CALL, index=n) for n in range(10)]
    assert kept(client, chunks) == chunks
    entries = bench.ask(b"XRANGE", client.keys.logs(APP), b"-", b"+")
    assert len(entries) == 4
    assert all(len(fields[fields.index(b"t") + 1]) <= CHUNK_BYTES for _, fields in entries)


@pytest.mark.parametrize(
    ("owners", "found"),
    [
        (b"", [(b"one\ntwo\n", "", -1)]),
        (b"4:1:" + CALL.encode(), [(b"one\n", CALL, 1), (b"two\n", "", -1)]),
        (b"4:1:fc-x,4:2:", [(b"one\n", "", 1), (b"two\n", "", 2)]),
        (b"4:1:../../etc,4:2:", [(b"one\ntwo\n", "", -1)]),
        (b"999999:1:" + CALL.encode(), [(b"one\ntwo\n", CALL, 1)]),
        (b"nonsense", [(b"one\ntwo\n", "", -1)]),
        (b"\xff:,:,-1:-1:-1", [(b"one\ntwo\n", "", -1)]),
    ],
)
def test_entries_of_others_are_read_as_far_as_that_goes(
    client: Client, bench: Bench, owners: bytes, found: list[tuple[bytes, str, int]]
) -> None:
    key = client.keys.logs(APP)
    bench.ask(b"XADD", key, b"*", b"c", b"ta-1", b"s", b"o", b"t", b"one\ntwo\n", b"i", owners)
    bench.ask(b"EXPIRE", key, 60)
    chunks = client.run(client.logs.tail(APP, 10))
    assert [(each.text, each.call, each.index) for each in chunks if each.text] == found


def test_the_newest_lines_are_found_however_far_back_they_are(client: Client) -> None:
    wanted = replace(CHUNK, text=b"a needle\nhay\nneedles\n", call=CALL, index=0)
    for chunk in (wanted, wanted):
        client.run(client.logs.append(APP, [chunk]))
    for _ in range(3):
        # Each in an entry of its own, as no two neighbours are of one container.
        hay = [replace(CHUNK, container=f"ta-{number}") for number in range(PAGE)]
        client.run(client.logs.append(APP, hay))
    needles = LogFilter(text="needle")
    found = client.run(newest(client, APP, needles, 3))
    assert [chunk.text for chunk in found] == [b"needles\n", b"a needle\nneedles\n"]
    assert client.run(newest(client, APP, LogFilter(call=OTHER), 3)) == []
    assert client.run(newest(client, APP, needles, 0)) == []


def test_a_log_that_was_too_long_says_so_where_it_begins(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEEP_ENTRIES", 10)
    for _ in range(5):
        chunks = [replace(CHUNK, container=f"ta-{number}") for number in range(100)]
        client.run(client.logs.append(APP, chunks))
    dropped = 500 - bench.ask(b"XLEN", client.keys.logs(APP))
    assert client.run(client.logs.dropped(APP)) == dropped
    found = client.run(newest(client, APP, LogFilter(), 1000))
    assert found[0].source == "system"
    assert found[0].text.startswith(f"[{dropped} older pieces".encode())
    assert len(client.run(newest(client, APP, LogFilter(), 10))) == 10
    assert client.run(newest(client, APP, LogFilter(call=CALL), 10)) == []


def test_a_log_that_there_is_not_has_lost_nothing(client: Client) -> None:
    assert client.run(client.logs.dropped("ap-" + "n" * 22)) == 0
