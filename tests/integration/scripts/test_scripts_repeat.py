"""Every script may be sent twice: a client that lost the reply does exactly that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from qmodal.transport.operation import Command
from qmodal.transport.script import load_commands
from tests.support.store.bench import Bench, state_of
from tests.support.store.cases import CASES, WORKER, disown
from tests.support.store.pack_cases import PACK_CASES


@pytest.fixture
def clean_fleet(bench: Bench) -> Bench:
    """A bench whose box, if a case enrolled one, is not there before."""
    bench.client.run(bench.client.fleet.retire(WORKER))
    return bench


@pytest.mark.parametrize("case", [*CASES, *PACK_CASES], ids=lambda case: case.__name__)
def test_a_script_run_twice_changes_nothing_more(
    clean_fleet: Bench, case: Callable[[Bench], Command]
) -> None:
    bench = clean_fleet
    command = case(bench)
    first = bench.ask(*command)
    assert not isinstance(first, Exception)
    before = state_of(bench.line, bench.client.settings.prefix)
    again = bench.ask(*command)
    assert not isinstance(again, Exception)
    assert state_of(bench.line, bench.client.settings.prefix) == before
    bench.client.run(bench.client.fleet.retire(WORKER))


def test_every_script_is_among_the_cases(bench: Bench) -> None:
    tried = {case(bench)[1] for case in (*CASES, *PACK_CASES)}
    known = {script_of(text) for _, _, text in load_commands()}
    assert tried == known
    bench.ask(*disown(bench))  # nothing else takes off what it was given to find
    bench.client.run(bench.client.fleet.retire(WORKER))


def script_of(text: str) -> bytes:
    """The address of a script's text."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
