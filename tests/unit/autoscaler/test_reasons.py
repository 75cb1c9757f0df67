"""Why a pool waits, as the leader finds it: a table for each step from a judgement to what people are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.observing import Observation
from qmodal.store.watch.reasons import Kind
from qmodal_autoscaler.cluster.catalog import PoolTerms, UnknownTermsError
from qmodal_autoscaler.cluster.nodes import PlacedContainer
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision, Purge
from qmodal_autoscaler.control.lacks import BoxView, Ground, lacking
from qmodal_autoscaler.control.reasons import (
    ReasonBoard,
    Surroundings,
    Wish,
    own_reason,
    wish_of,
)
from qmodal_autoscaler.policy.room import NOTHING, ContainerRequest, GpuRoom, WorkerRoom
from qmodal_autoscaler.policy.state import (
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
    Why,
)

POOL = "0" * 32
TERMS = PoolTerms(
    label="f",
    function="f",
    app="ap-1",
    number=2,
    settings=PoolSettings(max_containers=4, scaleup_window=20),
)
SEEN = Observation(POOL, "ap-1", "f", "f", 3, 5, 0, (), None, None)
STARTING = ContainerView(id="c-1", state="starting", running=0, idle_seconds=0, since=0)
READY = replace(STARTING, state="ready", running=1)


def judged(
    why: Why = "backlog", *views: ContainerView, start: int = 0, **snapshot: Any
) -> Judgement:
    about: dict[str, Any] = {"inflight": 3, "delayed": 0, "submitted": 5, **snapshot}
    made = PoolDecision(
        pool=POOL,
        terms=TERMS,
        observation=SEEN,
        containers=(),
        unstarted=(),
        snapshot=PoolSnapshot(containers=views, service_time=None, start_time=None, **about),
        decision=Decision(history=PoolHistory.empty(0.0), desired=4, start=start, why=why),
    )
    request = ContainerRequest(pool=POOL, count=start, unfit=frozenset({"b"})) if start else None
    return Judgement(pool=POOL, label="f", made=made, request=request)


SOON: Any = pytest.approx(4.5, abs=0.5)
WISHES: dict[str, tuple[Judgement, Wish | None]] = {
    "nothing is wanted": (judged("enough", READY), None),
    "it wants more": (
        judged(start=2),
        Wish(None, request=ContainerRequest(pool=POOL, count=2, unfit=frozenset({"b"}))),
    ),
    "what it wants starts": (judged("enough", STARTING), Wish(None)),
    "what starts is to spare": (judged("enough", STARTING, inflight=0), None),
    "it may have no more": (judged("maximum", READY), Wish("maximum", most=4)),
    "it may have no more, and nothing waits": (judged("maximum", READY, inflight=1), None),
    "it has not needed more for long": (judged("scaleup_window", READY), Wish("window", most=20)),
    "it is paused": (judged("paused"), Wish("paused")),
    "it is paused with nothing in it": (judged("paused", inflight=0), None),
    "its starts fail": (
        judged("failed_starts", failures=(1.0, 2.5)),
        Wish("failing", "ImportError: torch", 2, SOON),
    ),
    "its app is stopped": (
        Judgement(
            pool=POOL,
            label="f",
            purge=Purge(terms=TERMS, reason="stopped: the app was stopped", current=0),
        ),
        Wish("stopped", "the app was stopped"),
    ),
    "its app is stopped and it is empty": (Judgement(pool=POOL, label="f"), None),
    "nothing is known of it": (
        Judgement(pool=POOL, label="f", error=UnknownTermsError("its spec cannot be read.")),
        Wish("unreadable", "its spec cannot be read"),
    ),
    "it is gone": (
        Judgement(pool=POOL, label="f", error=UnknownTermsError("no record"), is_leaving=True),
        None,
    ),
}


@pytest.mark.parametrize("name", WISHES)
def test_what_a_pool_wants_follows_from_its_judgement(name: str) -> None:
    judgement, wish = WISHES[name]
    assert wish_of(judgement, "Traceback\nImportError: torch.\n") == wish


A100 = Gpu(uuid="GPU-1", kind="A100-80GB")
BOX = BoxView(worker="a", name="box-1", offer=Offer(cpus=4, memory=2**33, labels=("zone=b",)))
GPU_BOX = BoxView(
    worker="b",
    name="gpu-1",
    offer=Offer(cpus=8, memory=2**33, gpus=(A100,), labels=("zone=a",)),
)
BOTH = (BOX, GPU_BOX)
OPEN, FULL, BUSY = {"free_slots": 4}, {"free_slots": 0}, {"cpu": 0.5}
GROUND = Ground(running=7, places=8)
AROUND = Surroundings(
    now=10.0,
    server_ms=10_000,
    ground=GROUND,
    turns=(),
    is_in_line=lambda _: False,
    queued={},
)


def room(box: BoxView, **left: Any) -> WorkerRoom:
    """What is left of a box: all that it offers, but for what is given."""
    whole: dict[str, Any] = {
        "free_slots": 4,
        "cpu": box.offer.cpus,
        "memory": box.offer.memory,
        "gpus": tuple(map(GpuRoom, box.offer.gpus)),
        "closed": "it is cordoned" if box.is_cordoned else "",
    }
    return WorkerRoom(id=box.worker, offer=box.offer, **whole | left)


Case = tuple[Needs, Sequence[BoxView], dict[str, Any], Kind, str]
LACKS: dict[str, Case] = {
    "there are no boxes": (NOTHING, (), {}, "room", "7 of 8 containers run"),
    "all places are taken": (NOTHING, BOTH, FULL, "room", "no worker has room: 7 of 8"),
    "no box has such a GPU": (
        Needs.of(gpu="H100"),
        BOTH,
        OPEN,
        "impossible",
        "box-1: it has no GPU H100 (it has none); gpu-1: it has no GPU H100 (it has A100-80GB)",
    ),
    "many boxes lack the same": (
        Needs.of(cpu=64),
        [replace(BOX, name=f"box-{n}") for n in range(5)],
        OPEN,
        "impossible",
        "box-0, box-1, box-2, 2 others: it offers 4 CPUs, and 64 are needed",
    ),
    "its GPU is taken": (
        Needs.of(gpu=("H100", "A100")),
        BOTH,
        {"gpus": (GpuRoom(A100, 1, 1),)},
        "gpu",
        "no GPU H100 or A100 is free on gpu-1",
    ),
    "its GPU is free, and no place is": (Needs.of(gpu="A100"), BOTH, FULL, "room", ": 7 of 8"),
    "its CPUs are taken": (
        Needs.of(cpu=2),
        BOTH,
        BUSY,
        "room",
        "no worker has room: box-1, gpu-1: 0.5 of its CPUs are free, and 2 are needed",
    ),
    "it fits": (Needs.of(cpu=2), BOTH, OPEN, "placing", "is about to be started"),
    "its box is cordoned": (
        Needs.of(region="a"),
        (BOX, replace(GPU_BOX, is_cordoned=True)),
        OPEN,
        "cordoned",
        "cordoned: gpu-1",
    ),
    "its box does not start it": (
        Needs.of(gpu="A100"),
        (BOX, replace(GPU_BOX, is_avoided=True)),
        OPEN,
        "silent",
        "gpu-1 does not start",
    ),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_boxes_lack_is_named_from_never_to_not_now(name: str) -> None:
    needs, boxes, left, kind, text = LACKS[name]
    ground = replace(GROUND, boxes=boxes, rooms=[room(box, **left) for box in boxes])
    reason = lacking(ContainerRequest(pool=POOL, count=1, needs=needs), ground)
    assert (reason.kind, text in reason.text) == (kind, True), reason.text


def test_boxes_that_cannot_decode_its_inputs_are_named_if_there_are_no_others() -> None:
    request = ContainerRequest(pool=POOL, count=1, unfit=frozenset("ab"))
    assert "on box-1, gpu-1" in lacking(request, replace(GROUND, boxes=BOTH)).text
    assert (
        lacking(replace(request, unfit=frozenset("a")), replace(GROUND, boxes=BOTH)).kind == "room"
    )


def placed(state: Any = None, since: int = 7_900) -> PlacedContainer:
    report = state and ContainerReport(
        container="c-1",
        pool=POOL,
        app="ap-1",
        function="f",
        label="f",
        number=2,
        state=state,
        since=since,
    )
    return PlacedContainer("c-1", POOL, "a", report, is_assigned=True)


OWN: dict[str, tuple[Wish, tuple[PlacedContainer, ...], str]] = {
    "it starts": (Wish(None), (placed("starting"),), "a container for it starts, for 2.1 s so far"),
    "several start": (
        Wish(None),
        (placed("starting"), placed("starting", 9_000)),
        "the first of 2 containers starts, for 2.1 s so far",
    ),
    "it was assigned just now": (Wish(None), (placed(),), "is about to be started"),
    "it has what it wanted": (Wish(None), (placed("ready"),), ""),
    "it has all that it may have": (
        Wish("maximum", most=4),
        (placed("ready"),),
        "(`max_containers` is 4)",
    ),
    "its window is not over": (
        Wish("window", most=20),
        (placed("ready"),),
        "less than its `scaleup_window` of 20 s",
    ),
    "all that it may have start": (Wish("maximum", most=4), (placed("starting"),), "starts, for"),
    "its starts fail": (
        Wish("failing", "ImportError: torch", 3, 26.0),
        (),
        "start: ImportError: torch (3 starts have failed, the next follows in 16.0 s)",
    ),
    "one start after the other": (
        Wish("failing", "no", 1, 3.0),
        (),
        "no (1 start has failed, one is tried at a time)",
    ),
    "it is paused": (Wish("paused"), (), "its pool is paused"),
    "its app is stopped": (Wish("stopped", "gone"), (), "runs any more: gone"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_follows_from_the_pool_alone_is_told_as_it_is_now(name: str) -> None:
    wish, containers, text = OWN[name]
    reason = own_reason(wish, containers, AROUND)
    assert (reason is not None) == bool(text)
    assert reason is None or text in reason.text


def test_pools_in_line_are_told_how_many_are_ahead_and_whether_they_made_room() -> None:
    board = ReasonBoard()
    for pool in ("b", "a", "c", "d"):
        board.judged(replace(judged(start=1), pool=pool), "")
    board.judged(replace(judged("maximum", READY), pool="e"), "")
    board.lent("b", 9.0)
    board.lent("b", 9.5)
    board.lent("c", -60.0)
    around = replace(AROUND, turns="abc", is_in_line=set("abc").__contains__)
    told = board.told(lambda: replace(around, queued={"d": 1}), lambda _: (placed("ready"),))
    assert [*told.of] == ["e", "a", "b", "c", "d"]
    assert [each.ahead for each in told.of.values()] == [0, 0, 1, 2, 0]
    kinds = [each.kind for each in told.of.values()]
    assert kinds == ["maximum", "room", "lent", "room", "room"]
    assert told.of["b"].full.startswith("2 of its containers have lately made room")
    assert board.counts == {"maximum": 1, "room": 3, "lent": 1}


def test_who_lacks_a_gpu_is_told_which_and_how_many_pools_want_the_same() -> None:
    """Also after it has made room, and whatever the others were measured to use."""
    board = ReasonBoard()
    for pool, cpu in (("a", 0.1), ("b", 2.0)):
        request = ContainerRequest(pool=pool, count=1, needs=Needs.of(gpu="A100"), cpu=cpu)
        board.judged(replace(judged(start=1), pool=pool, request=request), "")
        board.lent(pool, 9.0)
    taken = room(GPU_BOX, gpus=(GpuRoom(A100, 1, 1),))
    ground = replace(GROUND, boxes=(GPU_BOX,), rooms=(taken,))
    around = replace(AROUND, ground=ground, turns="ab", is_in_line=lambda _: True)
    told = board.told(lambda: around, lambda _: ()).of
    assert told["a"].full == "no GPU A100 is free on gpu-1"
    assert told["b"].full == "no GPU A100 is free on gpu-1, and 1 pool is ahead of it"


def test_a_pool_that_wants_nothing_any_more_is_forgotten() -> None:
    board = ReasonBoard()
    board.judged(judged(start=1), "")
    board.lent(POOL, 1.0)
    board.judged(judged("enough", READY), "")
    assert board == ReasonBoard()
    board.judged(judged(start=1), "")
    board.lent(POOL, 1.0)
    board.keep(frozenset())
    assert board == ReasonBoard()
    assert board.told(lambda: AROUND, lambda _: ()).of == {}
