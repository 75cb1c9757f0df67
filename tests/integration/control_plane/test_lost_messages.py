"""Hints, assignments and reports that are lost, or come twice: no container too many, and decisions still come."""

from __future__ import annotations

import functools
import itertools
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.transport.script import script
from tests.support.boxes import Fleet
from tests.support.store.relay import Fate, Relay, relay
from tests.support.waiting import wait_until
from tests.support.web.scraping import Scrape, autoscaler, free_port, scrape, until_up

pytestmark = [pytest.mark.leaves_keys, pytest.mark.timeout(180)]
INPUTS = 3
# Looks at everything that find nothing more to do.
CALM_ROUNDS = 3
SECONDS = 60.0
MESSAGES = {script(name).sha for name in ("assign", "renew")}
SOURCE = """
import os, pathlib, time

def hold(folder, number):
    pathlib.Path(folder, f"began-{number}-" + os.environ["QMODAL_CONTAINER"]).touch()
    while not pathlib.Path(folder, "go").exists():
        time.sleep(0.02)
    return number

def other(number):
    return -number
"""


class Boxes(Fleet):
    """Boxes only: an autoscaler leads."""

    def __init__(self, client: Client) -> None:
        self.client, self.folder = client, client.settings.home
        self.serials = itertools.count(1)


@dataclass(slots=True)
class Some:
    """The fate of assignments and reports: of each of them, or of the first and then every second one, so many times."""

    fate: Fate
    times: int = 1_000_000
    every: int = 1
    _seen: Counter[bytes] = field(default_factory=Counter)

    def __call__(self, command: list[bytes]) -> Fate:
        if command[0] != b"EVALSHA" or command[1] not in MESSAGES:
            return Fate.PASSES
        number = self._seen[command[1]]
        self._seen[command[1]] += 1
        is_meant = number % self.every == 0 and number // self.every < self.times
        return self.fate if is_meant else Fate.PASSES


def passes(_command: list[bytes]) -> Fate:
    return Fate.PASSES


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to commands and hints, and whether that has happened at all."""

    judge: Callable[[], Callable[[list[bytes]], Fate]]
    hints: int = 1
    happened: Callable[[Relay], bool] = lambda _: True


def lost(fate: Fate) -> Trouble:
    return Trouble(lambda: Some(fate, times=3, every=2), happened=lambda relay: relay.lost > 1)


TROUBLES = {
    "every hint three times": Trouble(lambda: passes, hints=3),
    "no hint at all": Trouble(lambda: passes, hints=0),
    "every assignment and every report twice": Trouble(
        lambda: Some(Fate.TWICE), happened=lambda relay: relay.doubled > 2
    ),
    "assignments and reports lost": lost(Fate.LOST),
    "assignments and reports whose answer is lost": lost(Fate.UNANSWERED),
}


@dataclass(frozen=True, slots=True)
class Installation:
    """A worker and two autoscalers behind a relay; `ports`: where the latter show their metrics."""

    boxes: Boxes
    ports: tuple[int, int]
    autoscalers: list[subprocess.Popen[bytes]]
    between: Relay
    pools: dict[str, str]

    def leader(self) -> Scrape:
        """What the autoscaler that leads shows."""
        shown = (scrape(port) for port in self.ports)
        return next((each for each in shown if each.value("qmodal_autoscaler_leads")), Scrape({}))

    def calm(self) -> None:
        """Wait until the leader has looked at everything some more times."""

        def looks() -> float:
            return self.leader().total("qmodal_round_seconds_count", pools="all")

        before = wait_until(looks, what="a leader that looks", seconds=SECONDS)
        assert before is not None
        wait_until(lambda: looks() >= before + CALM_ROUNDS, what="more looks", seconds=SECONDS)

    def starts(self, function: str) -> float:
        """How many containers of the function the box says that it has started."""
        return self.leader().total("qmodal_container_starts_total", function=function)

    def states(self) -> list[str]:
        """Those of all containers that live."""
        client = self.boxes.client
        living = client.run(client.fleet.living_containers())
        return [each.state for listed in living.values() for each in listed]

    def leading(self) -> int:
        """Which of the autoscalers leads."""

        def found() -> list[int]:
            shown = enumerate(map(scrape, self.ports))
            return [number for number, each in shown if each.value("qmodal_autoscaler_leads")]

        (number,) = wait_until(found, what="a leader", seconds=SECONDS) or []
        return number


@contextmanager
def installed(client: Client, folder: Path, trouble: Trouble) -> Iterator[Installation]:
    """All of it at work, with the trouble between the processes and their server."""
    boxes, ports = Boxes(client), (free_port(), free_port())
    with ExitStack() as stack:
        url = client.settings.redis_url or ""
        between = stack.enter_context(relay(url, trouble.judge(), hints=trouble.hints))
        behind = replace(client.settings, redis_url=between.url)
        stack.enter_context(boxes.box(QMODAL_REDIS_URL=between.url))
        autoscalers = [
            stack.enter_context(autoscaler(behind, "--metrics-port", str(port))) for port in ports
        ]
        for port in ports:
            until_up(port)
        pools = boxes.publish(folder / "src", SOURCE, {"hold": None, "other": None})
        yield Installation(boxes, ports, autoscalers, between, pools)


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_no_container_too_many_is_started_and_decisions_come(
    client: Client, tmp_path: Path, trouble: Trouble
) -> None:
    with installed(client, tmp_path, trouble) as there:
        boxes, pools = there.boxes, there.pools
        calls = [boxes.call(pools["hold"], str(tmp_path), n) for n in range(INPUTS)]

        def began() -> list[Path]:
            return list(tmp_path.glob("began-*"))

        wait_until(lambda: len(began()) == INPUTS, what="all inputs run", seconds=SECONDS)
        there.calm()
        assert len(began()) == INPUTS
        assert there.states() == ["ready"] * INPUTS
        (tmp_path / "go").touch()
        assert [boxes.value(called, SECONDS) for called in calls] == list(range(INPUTS))
        assert boxes.value(boxes.call(pools["other"], 7), SECONDS) == -7
        wait_until(lambda: there.starts("hold") >= INPUTS, what="the starts", seconds=SECONDS)
        assert there.starts("hold") == INPUTS
        assert trouble.happened(there.between)


def test_a_paused_leader_costs_warm_calls_nothing_and_starts_nothing_when_it_resumes(
    client: Client, tmp_path: Path
) -> None:
    with installed(client, tmp_path, Trouble(lambda: passes)) as there:
        boxes, pools = there.boxes, there.pools
        assert boxes.value(boxes.call(pools["other"], 1), SECONDS) == -1
        wait_until(lambda: "ready" in there.states(), what="a warm container", seconds=SECONDS)
        paused = there.autoscalers[there.leading()]
        paused.send_signal(signal.SIGSTOP)
        assert [boxes.value(boxes.call(pools["other"], n)) for n in range(20)] == [
            -n for n in range(20)
        ]
        held = boxes.call(pools["hold"], str(tmp_path), 5)
        wait_until(lambda: list(tmp_path.glob("began-*")), what="the other one", seconds=SECONDS)
        paused.send_signal(signal.SIGCONT)
        there.calm()
        assert there.states() == ["ready"] * 2
        (tmp_path / "go").touch()
        assert boxes.value(held, SECONDS) == 5
        for function in pools:
            wait_until(functools.partial(there.starts, function), what="a start", seconds=SECONDS)
            assert there.starts(function) == 1
