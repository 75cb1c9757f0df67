"""Why a pool waits, as the leader finds it: a table for each step from a judgement to what people are told."""

from __future__ import annotations

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
from qmodal_autoscaler.control.reasons import (
    BoxView,
    ReasonBoard,
    Surroundings,
    Wish,
    lacking,
    own_reason,
    wish_of,
)
from qmodal_autoscaler.policy.placement import ContainerRequest
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
    label="f", function="f", app="ap-1", number=2, settings=PoolSettings(max_containers=4)
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
    "it wants more": (judged(start=2), Wish(None, unfit=frozenset({"b"}))),
    "what it wants starts": (judged("enough", STARTING), Wish(None)),
    "what starts is to spare": (judged("enough", STARTING, inflight=0), None),
    "it may have no more": (judged("maximum", READY), Wish("maximum", most=4)),
    "it may have no more, and nothing waits": (judged("maximum", READY, inflight=1), None),
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
PLAIN_BOX = BoxView(worker="a", name="box-1", offer=Offer(cpus=4, memory=2**33))
GPU_BOX = BoxView(
    worker="b",
    name="gpu-1",
    offer=Offer(cpus=8, memory=2**33, gpus=(A100,), labels=("zone=a",)),
    gpus=(A100,),
)
AROUND = Surroundings(
    now=10.0,
    server_ms=10_000,
    boxes=(PLAIN_BOX, GPU_BOX),
    running=7,
    places=8,
    turns={},
    is_in_line=lambda _: False,
    queued={},
)
NO_GPU = replace(GPU_BOX, gpus=())
LACKS: dict[str, tuple[Needs, frozenset[str], tuple[BoxView, ...], Kind, str]] = {
    "there are no boxes": (Needs(), frozenset(), (), "room", "as 7 of 8"),
    "all places are taken": (Needs(), frozenset(), AROUND.boxes, "room", "as 7 of 8 containers"),
    "no box has such a GPU": (
        Needs.of(gpu="H100"),
        frozenset(),
        AROUND.boxes,
        "impossible",
        "box-1: it has no GPU H100 (it has none); gpu-1: it has no GPU H100 (it has A100-80GB)",
    ),
    "many boxes lack the same": (
        Needs.of(cpu=64),
        frozenset(),
        tuple(replace(PLAIN_BOX, name=f"box-{n}") for n in range(5)),
        "impossible",
        "box-0, box-1, box-2, 2 others: it offers 4 CPUs, and 64 are needed",
    ),
    "its GPU is taken": (
        Needs.of(gpu="A100"),
        frozenset(),
        (NO_GPU,),
        "gpu",
        "A100 is free on gpu-1",
    ),
    "its GPU is free, and no place is": (
        Needs.of(gpu=("H100", "A100")),
        frozenset(),
        AROUND.boxes,
        "room",
        "as 7",
    ),
    "its box is cordoned": (
        Needs.of(region="a"),
        frozenset(),
        (PLAIN_BOX, replace(GPU_BOX, is_closed=True)),
        "cordoned",
        "cordoned: gpu-1",
    ),
    "its box does not start it": (
        Needs.of(gpu="A100"),
        frozenset(),
        (PLAIN_BOX, replace(GPU_BOX, is_avoided=True)),
        "silent",
        "gpu-1 does not start",
    ),
    "no box can decode it": (Needs(), frozenset("ab"), AROUND.boxes, "python", "on box-1, gpu-1"),
    "another box can decode it": (Needs(), frozenset("a"), AROUND.boxes, "room", "as 7"),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_boxes_lack_is_named_from_never_to_not_now(name: str) -> None:
    needs, unfit, boxes, kind, text = LACKS[name]
    reason = lacking(Wish(None, needs=needs, unfit=unfit), replace(AROUND, boxes=boxes))
    assert (reason.kind, text in reason.text) == (kind, True), reason.text


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
    around = replace(AROUND, turns={"a": 0, "b": 1, "c": 2}, is_in_line=set("abc").__contains__)
    told = board.told(lambda: replace(around, queued={"d": 1}), lambda _: (placed("ready"),))
    assert [*told.of] == ["e", "a", "b", "c", "d"]
    assert [each.ahead for each in told.of.values()] == [0, 0, 1, 2, 0]
    kinds = [each.kind for each in told.of.values()]
    assert kinds == ["maximum", "room", "lent", "room", "room"]
    assert told.of["b"].full.startswith("2 of its containers have made room")
    assert board.counts == {"maximum": 1, "room": 3, "lent": 1}


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
