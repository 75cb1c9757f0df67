"""The pure parts of a worker: judging forks, output, limits, and reports."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from qmodal.config import Settings
from qmodal.store.fleet import ContainerReport
from qmodal.store.history.logs import CHUNK_BYTES, LogChunk
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.takeover import charged
from qmodal_workers.agent.watchdog import is_blocking, is_overdue
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.ipc import messages
from qmodal_workers.ipc.output_words import Owner
from qmodal_workers.ipc.process_marks import ProcessMarks, mark_of, mark_process
from qmodal_workers.ipc.shared_record import ContainerStatus, SharedRecord, lease_clock
from qmodal_workers.output.lines import (
    BURST_BYTES,
    BYTES_PER_SECOND,
    LONGEST_LINE,
    MOST_BUFFERED_BYTES,
    PARTIAL_LINE_SECONDS,
    OutputBuffer,
)
from qmodal_workers.output.redaction import Redaction
from qmodal_workers.spawn import fork_safety as safety
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.spawn.fork_safety import ProcessFacts, count_pools, why_unsafe

CALL = "fc-45O5NRqurBqcQBjO000001"
SECOND = 1_000_000_000
HELD = ((1, "5-0"), (2, "6-1"), (1, "7-0"))


def report(name: str = "ta-x-1") -> ContainerReport:
    return ContainerReport(
        container=name,
        pool="00",
        app="ap",
        function="f",
        label="f",
        number=1,
        state="starting",
        since=0,
    )


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (ProcessFacts(), None),
        (ProcessFacts(threads=("ticker",)), "threads (ticker)"),
        (ProcessFacts(replaced=("os.fork", "socket.socket")), "replaced os.fork, socket.socket"),
        (ProcessFacts(is_looping=True), "event loop"),
        (ProcessFacts(has_cuda=True), "CUDA"),
        (ProcessFacts(native_threads=1, pools=1, cpus=2), None),
        (ProcessFacts(native_threads=1, pools=1, cpus=1), None),
        (ProcessFacts(native_threads=4, pools=1, cpus=4), "1 threads of a library"),
        (ProcessFacts(native_threads=6, pools=2, cpus=4), None),
        (ProcessFacts(native_threads=1), "1 threads of a library"),
    ],
)
def test_a_process_is_forked_only_if_its_threads_survive_that(
    facts: ProcessFacts, reason: str | None
) -> None:
    said = why_unsafe(facts)
    assert said is None if reason is None else said is not None and reason in said


def test_fork_safe_libraries_are_counted_once_each() -> None:
    mapped = [
        "/a/libscipy_openblas64_.so",
        "/a/libscipy_openblas64_.so",
        "/b/libgomp-1.so",
        "/c/x.so",
    ]
    assert count_pools(mapped) == 2


def test_the_facts_of_this_process_can_be_seen() -> None:
    facts = safety.observe()
    assert facts.cpus >= 1
    assert not facts.has_cuda
    assert not facts.replaced


def test_lines_are_kept_whole() -> None:
    output = OutputBuffer("c", "a")
    output.feed("stdout", b"one\ntw", 0.0)
    assert output.take(0.0) == [LogChunk("c", "stdout", b"one\n")]
    assert output.is_waiting
    output.feed("stdout", b"o\n", 0.1)
    assert output.take(0.1) == [LogChunk("c", "stdout", b"two\n")]
    assert not output.is_waiting


def test_half_a_line_is_sent_when_nothing_completes_it() -> None:
    output = OutputBuffer("c", "a")
    output.feed("stderr", b"prompt> ", 0.0)
    assert output.take(PARTIAL_LINE_SECONDS / 2) == []
    assert output.take(PARTIAL_LINE_SECONDS) == [LogChunk("c", "stderr", b"prompt> ")]


def test_half_a_line_is_sent_at_the_end() -> None:
    output = OutputBuffer("c", "a")
    output.feed("stdout", b"\xff", 0.0)
    output.is_finished = True
    assert output.take(0.0) == [LogChunk("c", "stdout", b"\xff")]


@pytest.mark.parametrize(
    ("printed", "logged"),
    [
        (b"the key is " + b"6b" * 16 + b".\n", b"the key is ***.\n"),
        (b"redis://:a%2Bpassword@h a+password\n", b"redis://:***@h ***\n"),
        (b"nothing to hide\n", b"nothing to hide\n"),
    ],
)
def test_credentials_are_stars_in_the_output(printed: bytes, logged: bytes) -> None:
    settings = Settings(signing_key=b"k" * 16, redis_url="redis://:a%2Bpassword@h")
    output = OutputBuffer("c", "a", redaction=Redaction(settings))
    for byte in printed:
        output.feed("stdout", bytes([byte]), 0.0)
    assert output.take(0.0) == [LogChunk("c", "stdout", logged)]


def test_a_short_password_is_hidden_in_urls_only() -> None:
    hide = Redaction(Settings(redis_url="redis://:in@h"))
    assert hide(b"in redis://:in@h") == b"in redis://:***@h"
    assert hide.text("no \udc80 matter") == "no \udc80 matter"


def test_a_secret_at_the_cut_of_a_line_without_end_is_hidden() -> None:
    key = b"k" * 16
    output = OutputBuffer("c", "a", redaction=Redaction(Settings(signing_key=key)))
    line = b"x" * (LONGEST_LINE + 7) + key.hex().encode() + b"\n"
    for place in (LONGEST_LINE + 12, LONGEST_LINE + 30):
        output.feed("stdout", line[:place], 0.0)
        output.feed("stdout", line[place:], 0.0)
        printed = b"".join(chunk.text for chunk in output.take(0.0))
        assert printed == b"x" * (LONGEST_LINE + 7) + b"***\n"


def test_a_secret_that_two_inputs_print_together_is_hidden() -> None:
    key = b"k" * 16
    output = OutputBuffer("c", "a", redaction=Redaction(Settings(signing_key=key)))
    secret = key.hex().encode()
    output.feed("stdout", b"the key is " + secret[:9], 0.0, Owner(CALL, 0))
    output.feed("stdout", secret[9:12], 0.0, Owner(CALL, 1))
    output.feed("stdout", secret[12:] + b"\nmore\n", 0.0, Owner(CALL, 2))
    assert [(each.text, each.index) for each in output.take(0.0)] == [
        (b"the key is ***\n", 0),
        (b"more\n", 2),
    ]


def test_lines_of_an_input_are_together_and_half_a_line_ends_with_it() -> None:
    output = OutputBuffer("c", "a", "p", "f")
    for text, index in ((b"one\n", 0), (b"two\nhalf", 0), (b"three\n", 1)):
        output.feed("stdout", text, 0.0, Owner(CALL, index))
    about = LogChunk("c", "stdout", b"", pool="p", function="f", call=CALL)
    assert output.take(0.0) == [
        replace(about, text=b"one\ntwo\nhalf", index=0),
        replace(about, text=b"three\n", index=1),
    ]


def test_a_container_that_prints_on_and_on_is_cut_short_and_goes_on_later() -> None:
    output = OutputBuffer("c", "a")
    line, kept = b"y" * 1023 + b"\n", list[LogChunk]()
    for second in range(1, 21):  # two megabytes in each
        for part in range(4):
            for _ in range(512):
                output.feed("stdout", line, second + part / 4)
            kept += output.take(second + part / 4)
    size = sum(len(each.text) for each in kept if each.source == "stdout")
    assert BURST_BYTES + 10 * BYTES_PER_SECOND <= size <= BURST_BYTES + 21 * BYTES_PER_SECOND
    notes = [each.text for each in kept if each.source == "system"]
    assert notes
    output.is_finished = True
    assert all(b"were dropped here]" in note for note in notes)
    notes += [each.text for each in output.take(21.0)]
    dropped = sum(int(note[1:].split()[0]) for note in notes if b"dropped" in note)
    assert dropped + size == 20 * 2048 * 1024


def test_a_line_without_end_is_cut() -> None:
    output = OutputBuffer("c", "a")
    output.feed("stdout", b"x" * (LONGEST_LINE + 1), 0.0)
    assert [len(chunk.text) for chunk in output.take(0.0)] == [CHUNK_BYTES, 1]


def test_too_much_output_is_dropped_and_the_place_is_marked() -> None:
    output = OutputBuffer("c", "a")
    line = b"y" * 1023 + b"\n"
    for _ in range(MOST_BUFFERED_BYTES // 1024 + 3):
        output.feed("stdout", line, 0.0)
    taken = output.take(0.0)
    assert (
        sum(len(chunk.text) for chunk in taken if chunk.source == "stdout") == MOST_BUFFERED_BYTES
    )
    assert taken[-1] == LogChunk(
        "c", "system", b"[3072 bytes (3 lines) of output were dropped here]\n"
    )
    output.feed("stdout", line, 0.0)
    assert output.take(0.0) == [LogChunk("c", "stdout", line)]


@pytest.mark.parametrize(
    ("doing", "overdue"),
    [
        (ContainerStatus(serial=1, running=1, started=0, timeout=SECOND), True),
        (ContainerStatus(serial=1, running=1, started=0, timeout=0), False),
        (ContainerStatus(serial=1, running=1, started=SECOND, timeout=SECOND), False),
        (ContainerStatus(serial=0, running=0, started=0, timeout=SECOND), False),
    ],
)
def test_only_a_running_input_can_be_overdue(doing: ContainerStatus, *, overdue: bool) -> None:
    assert is_overdue(doing, SECOND + 1) is overdue


@pytest.mark.parametrize(
    ("held", "started", "tick", "blocking"),
    [
        (HELD, 0, 0, True),
        (HELD, 0, SECOND, False),
        (HELD, SECOND, 0, False),
        (HELD[:1], 0, 0, False),
    ],
)
def test_what_waits_is_released_from_outside_only_behind_a_long_input_that_nothing_else_ends(
    held: tuple[tuple[int, str], ...], started: int, tick: int, *, blocking: bool
) -> None:
    doing = ContainerStatus(serial=1, running=1, started=started, tick=tick, held=held)
    assert is_blocking(doing, SECOND + 1) is blocking


def test_a_bounded_table_forgets_what_is_oldest() -> None:
    kept: BoundedDict[str, int] = BoundedDict(3)
    for number, key in enumerate("abcad"):
        kept[key] = number
    assert kept == {"c": 2, "a": 3, "d": 4}


@pytest.mark.skipif(sys.platform != "linux", reason="there are no marks elsewhere")
def test_a_mark_stays_through_fork_exec_session_and_an_empty_environment() -> None:
    marks = ProcessMarks()
    mark = marks.new()
    assert marks.is_ours(mark)
    assert not ProcessMarks().is_ours(mark)
    assert mark_of(os.getpid()) == 0

    before = resource.getrlimit(resource.RLIMIT_RTTIME)
    mark_process(mark)
    try:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, before)
    with child:
        assert mark_of(child.pid) == mark
        marks.end_all()
        assert child.wait(5) == -signal.SIGKILL
    assert mark_of(child.pid) == 0


def test_only_started_inputs_are_charged() -> None:
    assert charged(ContainerStatus(running=2, held=HELD, part=7)) == ["1 5-0 7", "2 6-1 7"]
    assert charged(ContainerStatus(running=0, held=HELD)) == []


def test_of_a_container_with_an_unreadable_record_everything_is_charged() -> None:
    assert charged(None) == ["*"]


def test_a_request_of_any_size_travels_with_its_message() -> None:
    ours, theirs = messages.pair()
    with ours, theirs:
        content = os.urandom(3_000_000)
        held = messages.hold(content)
        messages.send(ours, {"fork": "x"}, [held])
        os.close(held)
        received = messages.receive(theirs)
        assert received is not None
        message, descriptors = received
        assert message == {"fork": "x"}
        assert messages.content_of(descriptors[0]) == content
        ours.close()
        assert messages.receive(theirs) is None


@pytest.mark.parametrize("noise", [b"\xc1", b"\x01", b"\x81", b""])
def test_what_is_no_message_is_an_empty_one(noise: bytes) -> None:
    assert messages.unpack(noise) == {}


def test_reports_are_coalesced_and_kept_until_sent() -> None:
    containers, container = ContainerTable(), Container(report=report())
    containers.add(container)
    containers.note(container, pid=7)
    containers.note(container, state="ready")
    unsent = containers.take_unsent()
    assert unsent == {container.id: container.report}
    assert container.report.since > time.time() * 500
    containers.forget(container)
    containers.put_back(unsent)
    assert containers.take_unsent() == {container.id: None}
    assert containers.take_unsent() == {}


def test_an_input_waits_for_a_lease_that_is_about_to_be_renewed() -> None:
    record = SharedRecord.create()
    record.hold_until(1)
    guard = LeaseGuard(record)
    assert record.held_until < lease_clock()
    renewing = threading.Timer(0.05, lambda: record.hold_until(lease_clock() + 60_000_000_000))
    renewing.start()
    guard.admit()
    assert guard.is_safe
    renewing.join()
    record.close()
