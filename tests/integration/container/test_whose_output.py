"""Lines of output belong to the input that has printed them, however it did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.exception import WorkerLost
from qmodal.store.history.logs import KEEP_ENTRIES, LogChunk
from tests.support.stacks import deployed_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "boxes" / "prints.py"
Line = tuple[str, str, int]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployed program; one stack for all tests of this module."""
    with deployed_program(PROGRAM, tmp_path_factory) as module:
        yield module


def chunks_of(user: Any, function: str) -> list[LogChunk]:
    client = clients.current()
    chunks = client.run(client.logs.tail(user.app.app_id, KEEP_ENTRIES))
    return [each for each in chunks if each.function == function]


def lines_of(user: Any, function: str) -> list[Line]:
    """Each line with its call and index, by the stream it went to."""
    chunks = chunks_of(user, function)
    return [
        (line, chunk.call, chunk.index)
        for source in ("stdout", "stderr")
        for chunk in chunks
        if chunk.source == source
        for line in chunk.text.decode().splitlines()
    ]


def until_printed(user: Any, function: str, count: int) -> list[Line]:
    wait_until(lambda: len(lines_of(user, function)) >= count, what=f"{count} lines of {function}")
    return lines_of(user, function)


def test_each_line_is_of_its_input_whatever_has_printed_it(user: Any) -> None:
    words = [f"w{number}" for number in range(12)]
    calls = {word: user.everywhere.spawn(word) for word in words}
    for call in calls.values():
        call.get()
    list(user.everywhere.map(["m0", "m1", "m2"]))
    lines = until_printed(user, "everywhere", 6 * 15)
    assert len(lines) == 6 * 15
    for line, call, index in lines:
        word = line.split()[-1]
        if word in calls:
            assert (call, index) == (calls[word].object_id, 0), line
        else:
            assert index == int(word[1:]), line
            assert call not in {each.object_id for each in calls.values()}


def test_half_lines_of_two_inputs_are_two(user: Any) -> None:
    first, second = user.half.spawn("one "), user.half.spawn("two")
    first.get()
    second.get()
    lines = until_printed(user, "half", 2)
    assert lines == [("one ", first.object_id, 0), ("two", second.object_id, 0)]


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_what_an_input_printed_before_its_container_died_is_kept_and_its_own(
    user: Any, how: str
) -> None:
    call = user.dies.spawn(how, how)
    with pytest.raises(WorkerLost):
        call.get()

    def own() -> list[Line]:
        return [each for each in lines_of(user, "dies") if each[1] == call.object_id]

    wait_until(lambda: len(own()) == 6, what="the last words of three deliveries")
    lines = own()
    assert [each[0] for each in lines] == [f"last words {how}"] * 3 + [
        f"not a whole line {how}"
    ] * 3
    assert {each[2] for each in lines} == {0}


def test_lines_that_packed_inputs_print_are_their_own(user: Any) -> None:
    user.seldom.hydrate()
    assert list(user.seldom.map(range(3000))) == list(range(3000))
    lines = until_printed(user, "seldom", 30)
    assert sorted(int(line.split()[1]) for line, _, _ in lines) == list(range(0, 3000, 100))
    assert len({call for _, call, _ in lines}) == 1
    assert all(index == int(line.split()[1]) for line, _, index in lines)


def test_what_python_code_prints_of_several_inputs_at_once_is_their_own(user: Any) -> None:
    first = user.together.spawn("first")
    until_printed(user, "together", 1)
    second = user.together.spawn("second")
    first.get()
    second.get()
    lines = until_printed(user, "together", 4)
    assert lines[0] == ("before first", first.object_id, 0)
    assert lines[1] == ("before second", second.object_id, 0)
    assert sorted(lines[2:]) == [
        ("with another first", first.object_id, 0),
        ("with another second", second.object_id, 0),
    ]


def test_too_much_output_is_dropped_with_a_line_that_says_so_and_blocks_nobody(user: Any) -> None:
    user.floods.remote(30)
    lines = until_printed(user, "floods", 1)
    until = wait_until(
        lambda: [each for each in chunks_of(user, "floods") if b"dropped" in each.text],
        what="what says so",
    )
    assert until[0].source == "system"
    assert len(lines) < 20 * 1024
    assert user.floods.remote(0) < 10


def test_output_that_goes_elsewhere_has_nothing_of_ours_in_it(user: Any, tmp_path: Path) -> None:
    assert user.elsewhere.remote(str(tmp_path / "file")) == "into the file\n"
    assert [line for line, _, _ in until_printed(user, "elsewhere", 1)] == ["back"]


def test_a_function_that_closes_all_descriptors_goes_on_being_called(user: Any) -> None:
    for _ in range(3):
        user.closes.remote()
    lines = until_printed(user, "closes", 3)
    assert [line for line, _, _ in lines] == ["closing"] * 3


def test_threads_of_callers_get_their_own_lines(user: Any) -> None:
    before = len(lines_of(user, "everywhere"))
    threads = [
        threading.Thread(target=user.everywhere.remote, args=(f"t{number}",)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = until_printed(user, "everywhere", before + 6 * 8)
    calls: dict[str, set[str]] = {}
    for line, call, _ in lines:
        if line.split()[-1].startswith("t"):
            calls.setdefault(line.split()[-1], set()).add(call)
    assert all(len(of_word) == 1 for of_word in calls.values()), calls
    assert len(calls) == 8
