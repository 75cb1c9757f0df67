"""Modal's surface on the embedded stack: what user code raises, variables, declared functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.exception import (
    ExecutionError,
    InvalidError,
    RemoteError,
    UnimplementedError,
    WorkerLost,
)
from qmodal.resources.secret import Secret
from qmodal.transport.operation import ask_one
from tests.support.stacks import running_program

PROGRAM = Path(__file__).parents[2] / "programs" / "surface.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


# KeyboardInterrupt means that the input runs elsewhere, a few times; by InputCancellation it is cancelled.
ARRIVES: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": WorkerLost,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BaseException,
    "StopIteration": StopIteration,
    "InputCancellation": RemoteError,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
}


def call_keys() -> set[bytes]:
    """The keys of all calls that the server knows."""
    client = clients.current()
    client.run(ask_one(b"PING"))  # what was put off goes along
    found: set[bytes] = set(client.run(ask_one(b"KEYS", b"*:call:*")))
    return found


@pytest.mark.parametrize("name", ARRIVES)
@pytest.mark.parametrize("function", ["raising", "raising_async"])
def test_whatever_user_code_raises_reaches_its_caller(user: Any, function: str, name: str) -> None:
    kind = ARRIVES[name]
    if (name, function) == ("StopIteration", "raising_async"):
        kind = RuntimeError  # Python's own: no coroutine raises it
    with pytest.raises(kind):
        getattr(user, function).spawn(name).get(timeout=30)


@pytest.mark.parametrize("name", [name for name in ARRIVES if name != "KeyboardInterrupt"])
def test_a_container_goes_on_after_what_user_code_raised(user: Any, name: str) -> None:
    before, calls = user.here_or_raise.remote(""), call_keys()
    with pytest.raises(ARRIVES[name]):
        user.here_or_raise.remote(name)
    assert not call_keys() - calls, "the call was delivered"
    assert user.here_or_raise.remote("") == before


def test_variables_arrive_in_their_order(user: Any) -> None:
    expected = {"WHO": "function", "APP": "app", "PART": "env", "MODE": "fast"}
    assert user.variables.remote() == expected


def test_the_secrets_of_a_variant_replace_the_others_and_leave_the_image(user: Any) -> None:
    secret = Secret.from_dict({"WHO": "variant", "PART": "variant"})
    expected = {"WHO": "variant", "APP": None, "PART": "env", "MODE": "fast"}
    assert user.variables.with_options(secrets=[secret]).remote() == expected


def test_web_functions_are_not_called(user: Any) -> None:
    for verb in ("remote", "spawn"):
        with pytest.raises(InvalidError, match=rf"web function 'answer'.*\.{verb}"):
            getattr(user.answer, verb)("you")
    with pytest.raises(InvalidError, match="web function"):
        list(user.answer.map(["you"]))
    assert user.answer.local("you") == "you"
    assert user.square.get_web_url() is None


def test_a_class_with_a_web_method_has_its_other_methods(user: Any) -> None:
    assert user.Site().add.remote(1) == 2
    with pytest.raises(InvalidError, match="web function"):
        user.Site().serve.remote()


def test_what_is_only_recorded_is_refused_when_called(user: Any) -> None:
    with pytest.raises(UnimplementedError, match="clustered"):
        user.ranks.remote()


def test_a_preempted_input_runs_elsewhere(user: Any, tmp_path: Path) -> None:
    assert user.preempted.spawn(str(tmp_path / "seen")).get(timeout=30) == "interrupted"
    assert user.preempted_async.spawn(str(tmp_path / "async")).get(timeout=30) == "elsewhere"


def test_exit_hooks_run_when_a_container_is_preempted(user: Any, tmp_path: Path) -> None:
    assert user.Leaving(path=str(tmp_path / "left")).stop.spawn().get(timeout=30) == "left"


def test_calls_in_a_loop_raise_the_same(user: Any) -> None:
    async def program() -> None:
        with pytest.raises(SystemExit):
            await user.raising.remote.aio("SystemExit")
        with pytest.raises(MemoryError):
            await user.raising.remote.aio("MemoryError")
        await clients.current().aclose()

    asyncio.run(program())


def test_what_an_image_cannot_import_is_said_with_what_to_install(user: Any) -> None:
    with pytest.raises(ExecutionError, match="No module named 'no_such_module_anywhere'") as caught:
        user.needy.remote()
    assert "install no_such_module_anywhere there" in str(caught.value)
