"""The benchmark of the HTTP side: what wrk says, when a response is complete, and the table."""

from __future__ import annotations

import pytest

from benchmarks.report import Refusal, Results, Sample
from benchmarks.web.client import is_complete, target
from benchmarks.web.load import Load, read_wrk
from benchmarks.web.measures import FIGURES, document
from benchmarks.web.sides import CONCURRENT, SINGLE, UVICORN

WRK = """Running 2s test @ http://127.0.0.1:8000/hello
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.07ms    1.20ms  13.86ms   81.43%
    Req/Sec     9.89k   660.24    10.66k    85.00%
  Latency Distribution
     50%  981.00us
     75%    5.32ms
     90%    6.27ms
     99%    1.25s
  19678 requests in 2.00s, 2.72MB read
Requests/sec:   9836.92
Transfer/sec:      1.36MB
"""
BROKEN = "  Socket errors: connect 0, read 1, write 0, timeout 2\n  Non-2xx or 3xx responses: 7\n"


def test_what_wrk_says_is_read_in_any_unit() -> None:
    assert read_wrk(WRK) == Load(requests=19678, rate=9836.92, p50=981, p99=1.25e6, failed=0)


def test_requests_that_failed_are_counted_whatever_failed_of_them() -> None:
    assert read_wrk(WRK.replace("Requests/sec", f"{BROKEN}Requests/sec")).failed == 10


def test_a_wrk_that_reached_nobody_gives_no_figure() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Len", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
    ],
)
def test_a_response_is_complete_with_its_length_or_its_last_chunk(
    answer: bytes, complete: bool
) -> None:
    assert is_complete(answer) is complete


def test_a_request_names_host_path_and_query() -> None:
    address, request = target("http://127.0.0.1:8000/a/b?c=d")
    assert address == ("127.0.0.1", 8000)
    assert request == b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


def results(**values: dict[str, float]) -> Results:
    samples = [
        Sample(round=0, subject=subject, measure=name.replace("_", " "), value=value)
        for name, each in values.items()
        for subject, value in each.items()
    ]
    about = {"cpus": 2, "load": 0.1, "system": "any", "python": "3", "server": "valkey"}
    refusal = Refusal(round=0, subject=SINGLE, workload="one", reason="it ended", failed=True)
    return Results(samples, [refusal], {}, {**about, "options": {"client": "wrk"}})


def test_the_table_has_what_was_measured_its_ratio_and_what_became_of_the_goals() -> None:
    text = document(
        results(
            many_rate={UVICORN: 10_000, CONCURRENT: 5_500, SINGLE: 900},
            one_p50={UVICORN: 0.2, CONCURRENT: 1.1, SINGLE: 1.7},
            download={UVICORN: 1500, CONCURRENT: 150},
        )
    )
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    cells = [cell.strip() for cell in rows["50 connections"].split("|")]
    assert cells[2:-1] == ["/s", "10,000", "5,500", "900", "0.55x", "≥ 0.5x: met"]
    assert "≤ 1.2 ms more: no, 1.5" in rows["1 connection, p50"]
    assert "≥ 200 MB/s: no, 150" in rows["one response in 64 KiB chunks"]
    assert FIGURES["echo p50"].text not in rows
    assert "- qmodal, one at a time one: it ended" in text
