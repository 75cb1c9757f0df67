"""What Modal's programs rely on once they run, on one embedded stack for all tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import qmodal as modal
from qmodal.cli.commands.fleet import container
from qmodal.client import client as clients
from qmodal.exception import InvalidError, NotFoundError
from qmodal.types import LogEntry
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "conformance.py"
NONE_OF_IT = modal.App("another")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The program, running in an environment that is not the one of its worker."""
    with running_program(PROGRAM, tmp_path_factory, environment_name="staging") as module:
        yield module


@NONE_OF_IT.function(serialized=True)  # not packed with all that this module imports
def answer() -> int:
    return 42


def test_a_module_knows_while_it_is_imported_that_it_is_in_a_container(user: Any) -> None:
    found = user.where.remote()
    assert (user.WHILE_IMPORTING[0], found["importing"]) == (True, (False, "1", None))
    assert not found["local"]


def test_modals_variables_are_there_and_are_not_for_programs_to_set(user: Any) -> None:
    found = user.where.remote()
    assert found["MODAL_TASK_ID"].startswith("ta-")
    assert found["MODAL_ENVIRONMENT"] == "staging"
    assert found["MODAL_REGION"] == found["MODAL_CLOUD_PROVIDER"] == "self-hosted"
    task, is_remote = user.own_variables.remote()
    assert task.startswith("ta-")
    assert is_remote == "1"


def test_lookups_in_a_container_go_to_its_own_environment(user: Any) -> None:
    NONE_OF_IT.deploy(environment_name="staging")
    try:
        assert user.by_name.remote("another", "answer") == 42
        with pytest.raises(NotFoundError, match="'main'"):
            modal.Function.from_name("another", "answer").remote()
    finally:
        NONE_OF_IT.stop()


def test_a_concurrent_function_that_waits_for_itself_gets_more_containers(user: Any) -> None:
    assert user.countdown.spawn(3).get(timeout=60) == 0


def test_callers_of_a_batched_function_give_and_get_one_of_each(user: Any) -> None:
    assert user.joined.remote("ab", right="cd") == "abcd"
    assert list(user.joined.map(["a", "b"], ["c", "d"])) == ["ac", "bd"]
    assert user.Doubler(by=3).double.remote(2) == 6
    assert user.joined.local(["ab"], ["cd"]).close() is None


@pytest.mark.parametrize(
    ("result", "text"),
    [("no list", r"must be a list\."), ([1, 2], "must be a list of equal length as its inputs")],
)
def test_what_a_batched_function_returns_is_a_list_as_long_as_its_inputs(
    user: Any, result: Any, text: str
) -> None:
    with pytest.raises(InvalidError, match=f"Output of batched function wrong {text}"):
        user.wrong.remote(result)
    with pytest.raises(TypeError, match="argument"):
        user.wrong.remote()


def test_classes_and_instances_travel_as_handles(user: Any) -> None:
    assert user.area_of.remote(user.Model, size=3) == 9
    assert user.area_of.remote(user.Model(size=4)) == 16
    assert user.the_class.remote()(size=5).area.remote() == 25


def test_a_handle_of_an_app_that_does_not_run_cannot_travel(user: Any) -> None:
    with pytest.raises(InvalidError, match="Can't serialize object answer which hasn't been hydr"):
        user.area_of.remote(answer)


def test_serialized_functions_and_classes_call_each_other(user: Any) -> None:
    assert user.twice.remote(1) == 11
    assert user.Shift(by=100).again.remote(1) == 116
    assert user.Shift(by=10).handle.remote().remote(2) == 12


def test_a_serialized_class_knows_what_was_not_given(user: Any) -> None:
    assert user.Shift(by=10).unset.remote() == ("", False)
    with pytest.raises(InvalidError, match="Missing required parameter: by"):
        user.Shift().unset.remote()


@pytest.mark.parametrize("name", ["plain", "coroutine", "awaitable"])
def test_context_variables_are_those_of_import_and_enter_whatever_inputs_have_set(
    user: Any, name: str
) -> None:
    method = getattr(user.Contexts(), name)
    expected = ["imported", "entered", "awaited"]
    assert [method.remote(x) for x in range(3)] == [expected] * 3
    assert list(method.map(range(40))) == [expected] * 40


@pytest.mark.parametrize("how", [(), ("--graceful",)])
def test_a_container_is_stopped_by_its_id(user: Any, tmp_path: Path, how: tuple[str, ...]) -> None:
    path = tmp_path / "tasks"
    call = user.Long().run.spawn(str(path))
    first = wait_until(lambda: path.read_text().strip() if path.exists() else "", what="it runs")
    _stop(first, *how)
    if how:
        with path.open("a") as file:  # what a second attempt would do
            file.write("somebody\n")
    assert (call.get(timeout=30) == first) is bool(how)
    path.write_text("a\nb\n")
    assert user.Long().run.spawn(str(path)).get(timeout=30) != first
    wait_until(
        lambda: (first, b"left in peace\n") in _printed(user.app.app_id),
        what="its exit hook prints",
    )
    with pytest.raises(NotFoundError, match=f"no container {first}"):
        wait_until(lambda: _stop(first), what="it is gone")


def test_what_containers_print_can_be_read_by_app_and_by_function(user: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    user.prints.remote("a")
    user.prints.remote("b")
    logs = user.prints.logs
    found = wait_until(lambda: _complete(logs.fetch(since=before)), what="all has arrived")
    assert [entry.message for entry in found if entry.source == "stdout"] == OUT
    assert {entry.object_id for entry in found} == {user.prints.object_id}
    assert all(entry.context_ids[0].startswith("ta-") for entry in found)
    assert [entry.message for entry in logs.tail(1, source="stderr")] == ["err b"]
    assert [entry.message for entry in logs.fetch(since=before, search_text="out")] == OUT[::2]
    assert not list(logs.fetch(since=before - timedelta(days=1), until=before))
    assert {entry.message for entry in found} <= {e.message for e in user.app.logs.tail(10_000)}
    assert not list(user.where.logs.tail())


def test_lines_are_streamed_as_they_are_printed(user: Any) -> None:
    stream = user.prints.logs.stream()
    seen = threading.Event()

    def again_and_again() -> None:
        while not seen.wait(0.05):
            user.prints.remote("later")

    printing = threading.Thread(target=again_and_again)
    printing.start()
    try:
        assert next(stream).message in (*OUT, "out later", "err later")
    finally:
        seen.set()
        printing.join()
    assert not list(user.prints.logs.stream(timeout=0))

    async def tail() -> list[str]:
        found = [entry.message async for entry in user.app.logs.tail.aio(1000, source="stderr")]
        await clients.current().aclose()
        return found

    wait_until(lambda: "err later" in asyncio.run(tail()), what="what was printed on stderr")


def test_an_unknown_source_is_refused(user: Any) -> None:
    with pytest.raises(InvalidError, match="'stdin'"):
        user.app.logs.tail(source="stdin")


OUT = ["out a", "and more", "out b", "and more"]


def _complete(entries: Iterator[LogEntry]) -> list[LogEntry]:
    found = list(entries)
    return found if len(found) >= 6 else []


def _printed(app_id: str) -> list[tuple[str, bytes]]:
    """What each container has printed, piece by piece."""
    client = clients.current()
    chunks = client.run(client.logs.tail(app_id, 1000))
    return [(chunk.container, chunk.text) for chunk in chunks]


def _stop(which: str, *how: str) -> None:
    container.main(["stop", which, "-y", *how], standalone_mode=False)
