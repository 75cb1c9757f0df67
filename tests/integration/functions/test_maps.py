"""The map family and what holds its results, on the embedded stack."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.exception import (
    DeprecationError,
    InvalidError,
    OutputExpiredError,
    RemoteError,
    SerializationError,
)
from qmodal.functions.map import work
from qmodal.functions.map.map_call import OUTSTANDING, MapCall, MapOptions
from qmodal.transport.operation import ask, ask_one
from qmodal.types import InputInfo, InputStatus
from qmodal.wire.ids import new_call_id
from tests.support.stacks import deployed_program, program, wait_until_gone
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "mapping.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployed program; one stack for all tests of this module."""
    with deployed_program(PROGRAM, tmp_path_factory) as module:
        yield module


async def counted(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await asyncio.sleep(0)
        yield x


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def ask_server(*command: Any) -> Any:
    return clients.current().run(ask_one(*command))


def call_keys() -> set[bytes]:
    """The keys of all calls that the server knows."""
    found: set[bytes] = set(ask_server(b"KEYS", b"*:call:*"))
    return found


def is_idle(function: Any) -> bool:
    """Whether no input of it waits or runs, at one look."""
    stats = function.get_current_stats()
    return bool(stats.backlog == stats.num_running_inputs == 0)


def test_results_flow_while_the_input_iterator_waits(user: Any) -> None:
    arrived = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        assert arrived.wait(20), "the first result was held back"
        yield 2

    for result in user.double.map(inputs()):
        arrived.set()
        assert result in (2, 4)


def test_an_async_map_gives_results_while_its_iterator_waits(user: Any) -> None:
    async def program() -> list[int]:
        arrived = asyncio.Event()

        async def inputs() -> AsyncIterator[int]:
            yield 1
            await asyncio.wait_for(arrived.wait(), 20)
            yield 2

        found = []
        async for result in user.double.map.aio(inputs()):
            arrived.set()
            found.append(result)
        await clients.current().aclose()
        return found

    assert asyncio.run(program()) == [2, 4]


def test_either_form_takes_iterators_of_either_kind(user: Any) -> None:
    assert list(user.add.map(counted(3), [10, 20, 30, 40], kwargs={"plus": 1})) == [11, 22, 33]
    assert list(user.add.starmap(zip([1, 2], [3, 4], strict=True))) == [4, 6]

    async def program() -> list[list[int]]:
        found = [
            [x async for x in user.add.map.aio(counted(3), iter([10, 20, 30]))],
            [x async for x in user.add.starmap.aio([(1, 2), (3, 4)])],
            [x async for x in user.double.map(range(3))],
        ]
        await user.double.for_each.aio(counted(2))
        call = await user.double.spawn_map.aio(counted(3))
        found.append([x async for x in call.iter.aio(start=1)])
        await clients.current().aclose()
        return found

    assert asyncio.run(program()) == [[10, 21, 32], [3, 7], [0, 2, 4], [2, 4]]


def test_a_map_may_be_the_input_of_another(user: Any) -> None:
    assert list(user.double.map(user.double.map(range(300)))) == [4 * n for n in range(300)]
    assert user.family.remote(3) == [0, 2, 4]


ONE_SHOT = """
import qmodal
print(qmodal.Function.from_name("mapping", "double").remote(21))
"""


def test_a_program_that_makes_one_call_leaves_nothing_of_it(user: Any) -> None:
    before = call_keys()
    with program(["-c", ONE_SHOT], **clients.current().settings.to_environ()) as process:
        assert process.communicate(timeout=30) == ("42\n", "")
    assert call_keys() <= before


def test_a_map_that_nobody_iterates_is_not_sent(
    user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = call_keys()
    user.double.map([1])
    gc.collect()
    assert "the call will never be executed" in caplog.text
    assert call_keys() <= before


def test_a_map_without_iterators_is_an_error(user: Any) -> None:
    for verb in (user.double.map, user.double.for_each, user.double.spawn_map):
        with pytest.raises(InvalidError, match="at least one iterable"):
            verb()


def test_plain_forms_are_refused_in_an_event_loop(user: Any) -> None:
    async def program() -> None:
        results = user.double.map([1])
        with pytest.raises(InvalidError, match=r"iter\(Function.map\(\)\) from an async function"):
            iter(results)
        results._is_used = True
        with pytest.raises(InvalidError, match=r"Function.for_each.aio\(\)"):
            user.double.for_each([1])
        with pytest.raises(InvalidError, match=r"Function.spawn_map.aio\(\)"):
            user.double.spawn_map([1])

    asyncio.run(program())


def test_the_old_switch_for_wrapping_warns(user: Any) -> None:
    with pytest.warns(DeprecationError, match="no effect"):
        results = user.double.map([1], wrap_returned_exceptions=True)
    assert list(results) == [2]
    assert list(results) == []


def test_the_first_failure_ends_a_map_and_what_is_queued_never_runs(
    user: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ran"
    inputs = [1, *([0] * 1), *range(2, 200)]
    with pytest.raises(KeyError, match="zero"):
        list(user.wait_or_fail.map([str(path)] * len(inputs), inputs))
    wait_until(lambda: is_idle(user.wait_or_fail), what="the end of all inputs")
    assert len(lines(path)) < 20


def test_a_map_that_is_left_early_cancels_what_is_queued(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    before = call_keys()
    for _ in user.noted.map(itertools.repeat(str(path)), itertools.count()):
        break
    wait_until(lambda: is_idle(user.noted), what="the end of all inputs")
    assert user.double.remote(1) == 2  # what was put off is sent along
    assert call_keys() <= before


def test_an_async_map_that_is_left_early_cancels_what_is_queued(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    async def program() -> None:
        async for _ in user.noted.map.aio(itertools.repeat(str(path)), itertools.count()):
            break
        gc.collect()  # what still runs for the map must not be taken for garbage
        stats = user.noted.get_current_stats
        await asyncio.to_thread(wait_until, lambda: stats().backlog == 0, what="an empty queue")
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        await clients.current().aclose()

    asyncio.run(program())
    assert len(lines(path)) < 600


def test_an_interrupted_map_cancels_what_is_queued(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    arrived = threading.Event()

    def interrupt() -> None:
        if arrived.wait(30):
            os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=interrupt)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in user.noted.map(itertools.repeat(str(path)), itertools.count()):
            arrived.set()
    pressing.join()
    wait_until(lambda: user.noted.get_current_stats().backlog == 0, what="an empty queue")


def test_a_map_in_a_task_that_is_cancelled_cancels_what_is_queued(
    user: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ran"

    async def mapping() -> None:
        await user.noted.for_each.aio(itertools.repeat(str(path)), itertools.count())

    async def program() -> None:
        task = asyncio.create_task(mapping())
        await asyncio.to_thread(wait_until, path.exists, what="an input runs", seconds=30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await clients.current().aclose()

    asyncio.run(program())
    wait_until(lambda: user.noted.get_current_stats().backlog == 0, what="an empty queue")


def test_an_endless_map_takes_a_constant_amount_of_room_on_the_server(user: Any) -> None:
    before, sizes = call_keys(), []
    for n, result in enumerate(user.double.map(itertools.count())):
        assert result == 2 * n
        if n % 2000 == 1999:
            (call,) = (key for key in call_keys() - before if key.count(b":") == 3)
            client = clients.current()
            looks = (b"HLEN", call), (b"XLEN", call + b":outputs")
            sizes.append(client.run(ask(*looks)))
        if n == 8000:
            break
    assert max(fields for fields, _ in sizes) < 15
    assert max(outputs for _, outputs in sizes) <= 1100


RESUMED = """
import sys, qmodal
path, count = sys.argv[1], int(sys.argv[2])
noted = qmodal.Function.from_name('mapping', 'noted')
brief = {'seconds': 0.001}
for x in noted.map([path] * count, range(count), resume='nightly ' + path, kwargs=brief):
    print(x, flush=True)
    if x == 19:
        sys.stdin.read()  # the rest is not even submitted
"""


def test_a_program_killed_in_the_middle_of_a_map_goes_on_where_it_stopped(
    user: Any, tmp_path: Path
) -> None:
    path, count = tmp_path / "ran", OUTSTANDING + 300
    argv = ["-c", RESUMED, str(path), str(count)]
    with program(argv, **clients.current().settings.to_environ()) as first:
        assert first.stdout is not None
        for n in range(20):
            assert first.stdout.readline() == f"{n}\n"
        first.send_signal(signal.SIGKILL)
    results = user.noted.map(
        [str(path)] * count, range(count), resume=f"nightly {path}", kwargs={"seconds": 0.001}
    )
    assert list(results) == list(range(count))
    assert sorted(lines(path)) == list(range(count)), "an input ran twice, or never"


def test_a_spawned_map_is_gone_on_with_by_key_or_id(user: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "ran")

    def broken_off() -> Iterator[int]:
        yield from range(150)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        user.noted.spawn_map(itertools.repeat(path), broken_off(), resume="a key " + path)
    call = user.noted.spawn_map([path] * 210, range(210), resume="a key " + path)
    assert call.num_inputs() == 210
    again = user.noted.spawn_map([path] * 210, range(210), resume=call.object_id)
    assert again == call
    assert list(qmodal.FunctionCall.from_id(call.object_id).iter()) == list(range(210))
    assert sorted(lines(Path(path))) == list(range(210))
    with pytest.raises(InvalidError, match="not one of 'double'"):
        list(user.double.map([1], resume=call.object_id))


def test_producers_that_name_the_same_key_submit_each_input_once(user: Any, tmp_path: Path) -> None:
    client, path = clients.current(), str(tmp_path / "ran")
    target = client.run(user.noted._target())
    how = MapOptions(keep=True, resume="shared " + path)
    one, other = (MapCall[int](client, target, how) for _ in range(2))
    inputs = [((path, n), {"seconds": 0.0}) for n in range(300)]
    for map_call, end in (
        (one, 100),
        (other, 50),
        (other, 200),
        (one, 150),
        (one, 300),
        (other, 250),
    ):
        client.run(map_call.feed(inputs[map_call.submitted : end], is_last=end == 300))
        assert map_call.submitted == end
    client.run(other.feed(inputs[250:], is_last=True))
    assert list(qmodal.FunctionCall.from_id(one.call).iter()) == list(range(300))
    assert sorted(lines(Path(path))) == list(range(300))


def test_a_map_cannot_go_on_with_a_call_that_is_gone(user: Any) -> None:
    with pytest.raises(OutputExpiredError, match="expired or never existed"):
        list(user.double.map([1], resume=new_call_id(3)))


def test_an_empty_spawned_map_is_a_call_without_inputs(user: Any) -> None:
    call = user.double.spawn_map([])
    assert call.num_inputs() == 0
    assert list(call.iter()) == []


@pytest.mark.parametrize("inputs", [range(200), iter(range(200))], ids=["at hand", "one by one"])
def test_as_many_inputs_as_may_wait_are_spawned_and_further_ones_wait_and_say_so(
    user: Any,
    inputs: Iterable[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(work, "MOST_SPAWNED", 200)
    monkeypatch.setattr(work, "FULL_SECONDS", 0.05)
    paused = user.double.with_options(timeout=281)
    call = paused.spawn(1)
    client, pool = clients.current(), paused.object_id.removeprefix("fu-")
    assert call.get(timeout=30) == 2
    client.run(client.observing.pause(pool, since=1))
    wait_until(
        lambda: not paused.get_current_stats().num_total_runners,
        what="its container has left, which would run them",
    )
    full = paused.spawn_map(inputs)
    assert full.num_inputs() == 200
    assert not caplog.records
    more = threading.Thread(target=paused.spawn_map, args=([*range(250)],))
    more.start()
    wait_until(lambda: "spawn_map waits" in caplog.text, what="it says that it waits")
    assert "200 inputs that have not ended" in caplog.text
    client.run(client.observing.resume(pool))
    more.join(30)
    assert not more.is_alive()
    assert list(full.iter()) == [2 * n for n in range(200)]
    assert caplog.text.count("spawn_map waits") == 1


def test_a_poll_finds_a_result_behind_many_others(user: Any) -> None:
    call = user.double.spawn_map(range(500))
    assert call.get(timeout=30, index=499) == 998
    wait_until(lambda: len(list(call.iter())) == 500, what="all results")
    for index in (0, 250, 499):
        assert call.get(timeout=0, index=index) == 2 * index
    with pytest.raises(OutputExpiredError, match="none of index 500"):
        call.get(timeout=0, index=500)
    with pytest.raises(ValueError, match="negative"):
        call.get(index=-1)
    with pytest.raises(ValueError, match="no range"):
        list(call.iter(start=3, end=501))


def test_gathering_gives_results_in_order_and_the_first_failure_at_once(
    user: Any, tmp_path: Path
) -> None:
    calls = [user.nap.spawn(0.3), user.double.spawn(3)]
    (slept, _), six = qmodal.FunctionCall.gather(*calls)
    assert (slept, six) == (0.3, 6)
    assert qmodal.FunctionCall.gather() == []

    async def program() -> Any:
        found = await qmodal.FunctionCall.gather.aio(*calls)
        await clients.current().aclose()
        return found

    assert asyncio.run(program())[1] == 6
    slow, failing = user.nap.spawn(20.0), user.wait_or_fail.spawn(str(tmp_path / "x"), 0)
    began = time.monotonic()
    with pytest.raises(KeyError):
        qmodal.FunctionCall.gather(slow, failing)
    assert time.monotonic() - began < 15
    slow.cancel()


def test_cancelling_can_take_the_container_along(user: Any, tmp_path: Path) -> None:
    user.nap.autoscaler.update(max_containers=1)
    started = tmp_path / "started"
    call = user.nap.spawn(60.0, str(started))
    other = user.nap.spawn(0.0)
    # Not the stats: they also count what was claimed, whose container has no reason to end yet.
    wait_until(lambda: lines(started), what="the nap")
    (pid,) = lines(started)
    call.cancel(terminate_containers=True)
    with pytest.raises(RemoteError, match="cancelled"):
        call.get(timeout=5)
    assert other.get(timeout=30)[1] != pid
    wait_until_gone([pid], seconds=10)


def test_a_call_graph_shows_who_called_whom(user: Any) -> None:
    call = user.spawned.spawn()
    child = call.get(timeout=30)
    assert qmodal.FunctionCall.from_id(child).get(timeout=30) == 8
    (root,) = call.get_call_graph()
    assert (root.function_name, root.module_name) == ("spawned", "mapping")
    assert root.status is InputStatus.SUCCESS
    assert root.task_id.startswith("ta-")
    assert root.function_call_id == call.object_id
    (below,) = root.children
    assert (below.function_name, below.function_call_id) == ("double", child)
    assert below.children == []


def tree(infos: list[InputInfo]) -> list[Any]:
    return [(info.function_name, info.status.name, tree(info.children)) for info in infos]


def test_a_call_graph_shows_calls_that_were_delivered(user: Any) -> None:
    call = user.delivered.spawn()
    assert call.get(timeout=30) == 9
    user.double.remote(1)
    leaves: list[Any] = [("double", "SUCCESS", [])] * 3
    failed: Any = ("fails", "FAILURE", [])
    children = [("middle", "SUCCESS", leaves), failed, failed, failed, ("letters", "SUCCESS", [])]
    assert tree(call.get_call_graph()) == [("delivered", "SUCCESS", children)]


def test_a_call_graph_tells_how_inputs_ended(user: Any, tmp_path: Path) -> None:
    failing = user.wait_or_fail.spawn(str(tmp_path / "x"), 0)
    with pytest.raises(KeyError):
        failing.get(timeout=30)
    waiting = user.nap.spawn(60.0)
    statuses = [call.get_call_graph()[0].status for call in (failing, waiting)]
    waiting.cancel()
    statuses.append(waiting.get_call_graph()[0].status)
    expected = [InputStatus.FAILURE, InputStatus.PENDING, InputStatus.TERMINATED]
    assert statuses == expected
    with pytest.raises(OutputExpiredError):
        qmodal.FunctionCall.from_id("fc-00" + "a" * 20).get_call_graph()


def test_a_variant_has_a_pool_of_its_own(user: Any) -> None:
    base = user.place
    variant = base.with_options(timeout=60, max_containers=0).with_options(retries=0)
    same = base.with_options(retries=0).with_options(timeout=60)
    assert base.remote()[0] not in (variant.remote()[0], same.remote()[0])
    assert variant.object_id == same.object_id != base.object_id
    assert variant.info().timeout == 60
    assert base.info().timeout == 20
    shown = base.with_concurrency(max_inputs=4).with_batching(max_batch_size=2, wait_ms=10).info()
    assert (shown.concurrency_info.target_inputs, shown.batching_info.wait_ms) == (4, 10)
    named = qmodal.Function.from_name("mapping", "place").with_options(timeout=60, retries=0)
    assert named.hydrate().object_id == variant.object_id


def test_a_class_has_variants_whose_instances_have_pools(user: Any) -> None:
    other = user.Box.with_options(timeout=60)
    plain, changed = user.Box(size=2), other(size=2)
    assert plain.pid.remote() != changed.pid.remote()
    assert changed.pid.hydrate().object_id == changed.own_pool.remote()
    with pytest.raises(InvalidError, match="on the class"):
        changed.pid.with_options(timeout=3)
    settings = changed.update_autoscaler(max_containers=2)
    assert settings.max_containers == 2


def test_autoscaler_settings_are_updated_reset_and_left(user: Any) -> None:
    scaler = user.place.autoscaler
    assert scaler.settings().max_containers == 3
    changed = scaler.update(min_containers=1, buffer_containers=1)
    assert (changed.min_containers, changed.max_containers, changed.buffer_containers) == (1, 3, 1)
    changed = scaler.update(min_containers=None, max_containers=None)
    assert (changed.min_containers, changed.max_containers, changed.buffer_containers) == (
        0,
        None,
        1,
    )
    assert (changed.scaleup_softness, scaler.settings()) == (0.25, changed)
    assert scaler.update(scaleup_softness=0).scaleup_softness == 0
    assert scaler.update(max_containers=4).scaleup_softness == 0
    assert scaler.update(scaleup_softness=None).scaleup_softness == 0.25
    assert (changed.scaleup_window, scaler.update(scaleup_window=30).scaleup_window) == (0, 30)
    assert scaler.update(scaleup_window=None).scaleup_window == 0
    with pytest.raises(InvalidError, match="scaleup_window"):
        scaler.update(scaleup_window=301)
    with pytest.raises(InvalidError, match="from 0 to 1"):
        scaler.update(scaleup_softness=2)
    with pytest.warns(DeprecationError, match=r"autoscaler\.update"):
        assert user.place.update_autoscaler(max_containers=5).max_containers == 5
    for wrong in ({"max_containers": 0}, {"min_containers": -1}, {"scaledown_window": 1}):
        with pytest.raises(InvalidError):
            scaler.update(**wrong)
    with pytest.raises(InvalidError, match="on the class instance"):
        user.Box().pid.autoscaler.settings()


@pytest.mark.parametrize("at", [0, 99, 100, 350])
def test_an_input_that_cannot_be_sent_is_told_after_the_results_before_its_chunk(
    user: Any, at: int
) -> None:
    inputs: list[Any] = list(range(400))
    inputs[at] = threading.Lock()
    results = user.double.map(inputs)
    taken = []
    with pytest.raises(SerializationError, match="argument 1"):
        taken.extend(results)
    assert taken == [2 * n for n in range(len(taken))]
    with pytest.raises(SerializationError, match="argument 1"):
        user.double.spawn_map(inputs)


def test_an_asyncio_map_of_inputs_at_hand_is_in_order(user: Any) -> None:
    async def both() -> tuple[list[int], list[int]]:
        mapped = [x async for x in user.double.map.aio(range(2500))]
        call = await user.double.spawn_map.aio(list(range(250)))
        found = mapped, [x async for x in call.iter.aio()]
        await clients.current().aclose()
        return found

    mapped, spawned = asyncio.run(both())
    assert mapped == [2 * n for n in range(2500)]
    assert spawned == [2 * n for n in range(250)]


def test_a_map_whose_inputs_end_in_an_error_leaves_none_in_line(user: Any) -> None:
    pairs: list[Any] = [(n, n) for n in range(250)]
    for bad in (*pairs, 5), (*pairs[:10], 5):
        with pytest.raises(TypeError, match="not iterable"):
            list(user.add.starmap(list(bad)))
        wait_until(lambda: user.add.get_current_stats().backlog == 0, what="the end of the backlog")
    assert user.add.remote(1, 2) == 3
