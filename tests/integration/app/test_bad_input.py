"""Bytes that are broken, forged or foreign: refused with a reason, and the pool goes on."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

import qmodal
from qmodal.config import Settings
from qmodal.embedded.stack import start_private
from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    NotFoundError,
    RemoteError,
    RequestSizeError,
)
from qmodal.functions.submission import LARGEST_PAYLOAD, _digest_of, call_id_for
from qmodal.runner.run import ensure_server
from qmodal.source.loader import load_file
from qmodal.wire.envelope import PYTHON
from qmodal.wire.ids import shard_of
from qmodal.wire.outcome import Outcome
from qmodal.wire.signing import Signer, digest_of
from tests.support.servers import leftovers
from tests.support.store.foreign import BROKEN, STRANGER, Bomb, Forge, Stage
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "everything.py"
# What a stack runs, with leases of five seconds instead of ten: a lost box is cleared as much sooner.
SHORT_LEASES = """
from qmodal.store import fleet
fleet.LEASE_MS, fleet.RENEW_SECONDS = 5_000, 0.5
from qmodal.embedded.supervisor.crew import main
main()
"""
SOON_LOST = {"crew": (sys.executable, "-P", "-c", SHORT_LEASES)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One stack for all tests of this module; nothing may be left of its pools at the end."""
    settings = Settings.from_environ({"QMODAL_HOME": str(tmp_path_factory.mktemp("home"))})
    module = load_file(PROGRAM)
    with (
        start_private(settings, children=SOON_LOST) as stack,
        ensure_server(stack.settings) as client,
    ):
        plain = redis.Redis.from_url(client.settings.redis_url or "")
        with plain:
            with module.app.run():
                yield Stage(module, client, plain)

            def are_gone() -> bool:
                left = leftovers(plain, client.settings.prefix)
                return not [key for key in left if "{fleet}" not in key]

            wait_until(are_gone, what="the pools of the stopped app leave")


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    """The stack with a container that waits for inputs and an empty dead stream."""
    running.goes_on()
    running.plain.delete(running.client.keys.dead(shard_of(running.square.pool)))
    yield running
    running.goes_on()


@pytest.mark.parametrize(("forge", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_ours_is_set_aside_and_its_caller_told(
    stage: Stage, forge: Forge, reason: str
) -> None:
    with pytest.raises(RemoteError, match=reason) as caught:
        stage.accept(forge(stage)).get(timeout=20)
    assert len(str(caught.value).splitlines()) == 1
    (written,) = stage.reasons()
    assert reason in written


@pytest.mark.parametrize("forge", [forge for forge, _ in BROKEN.values()], ids=BROKEN)
def test_what_was_written_past_the_scripts_is_set_aside(stage: Stage, forge: Forge) -> None:
    stage.forge(forge(stage))
    wait_until(stage.reasons, what="the entry is on the dead stream")


@pytest.mark.parametrize(
    "fields",
    [
        (b"\x00", b"\xff"),
        (b"e", b""),
        tuple(str(n) for n in range(200)),
        (b"e", b"x", b"c", b"fc", b"i", b"-1", b"r", b"0", b"d", b"0", b"n", b"0"),
        (b"e", b"x", b"c", b"fc", b"i", b"0", b"r", b"9" * 5000, b"d", b"9" * 5000, b"n", b"0"),
        (b"e", b"x", b"c", b"\xff}:{", b"i", b"0", b"r", b"0x1", b"d", b"1e3", b"n", b"0"),
    ],
    ids=["bytes", "a part", "too many", "negative", "huge numbers", "odd numbers"],
)
def test_entries_of_another_shape_are_set_aside(
    stage: Stage, fields: tuple[bytes | str, ...]
) -> None:
    stage.write(*fields)
    wait_until(stage.reasons, what="the entry is on the dead stream")
    assert stage.reasons() == ["unprocessable: the entry was not written by qmodal"]


def test_an_unsigned_pickle_is_never_opened(stage: Stage, tmp_path: Path) -> None:
    bomb = pickle.dumps(((Bomb(tmp_path / "open"),), {}))
    envelope = stage.envelope(format="p", payload=bomb)
    stage.forge(stage.client.signer.key_id + bytes(16) + envelope.seal(STRANGER)[20:])
    wait_until(stage.reasons, what="the entry is on the dead stream")
    assert not (tmp_path / "open").exists()


def test_a_genuine_input_that_is_repeated_changes_no_result(stage: Stage) -> None:
    call = stage.accept_own()
    assert call.get(timeout=20) == 9
    sealed = stage.sealed(call=call.object_id, payload=stage.payload(4))
    stage.write("e", sealed, "c", call.object_id, "i", "0", "r", "0", "d", "0", "at", "1")
    stage.goes_on()
    assert call.get(timeout=20) == 9


def test_code_for_another_python_names_both_versions(stage: Stage) -> None:
    call = stage.accept_own(python="2.7", format="c")
    with pytest.raises(RemoteError, match=rf"Python 2\.7.*Python {PYTHON}.*same minor version"):
        call.get(timeout=20)
    assert "Python 2.7" in stage.reasons()[0]


def test_an_input_of_an_unknown_format_or_method_is_an_error(stage: Stage) -> None:
    with pytest.raises(qmodal.Error, match="z"):
        stage.accept_own(format="z").get(timeout=20)
    with pytest.raises(ExecutionError, match="no method 'nothing'"):
        stage.accept_own(method="nothing").get(timeout=20)


def test_stored_arguments_that_were_changed_are_not_opened(stage: Stage) -> None:
    digest = digest_of(b"what was signed")
    call = stage.accept_own(b"something else", payload=b"", blob=digest)
    with pytest.raises(RemoteError, match="stored arguments were changed"):
        call.get(timeout=20)


def test_stored_arguments_that_are_gone_are_an_error(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    running = stage.user.hold.spawn(str(path))
    queued = stage.user.hold.spawn(str(path), b"x" * 50_000)
    assert stage.plain.unlink(stage.client.keys.blob(queued.object_id, 0)) == 1
    path.touch()
    with pytest.raises(RemoteError, match="stored arguments are gone"):
        queued.get(timeout=20)
    assert running.get(timeout=20) == str(path)


def test_an_input_of_another_accepted_key_is_released_until_that_key_is_not(stage: Stage) -> None:
    signing, key_id = stage.client.keys.signing, STRANGER.key_id.hex()
    stage.plain.hset(signing, key_id, STRANGER.fingerprint)
    again = stage.client.keys.again(stage.square.pool)
    call = stage.accept(stage.envelope().seal(STRANGER))
    wait_until(lambda: stage.plain.xlen(again), what="the input is given back")
    assert stage.reasons() == []
    stage.plain.hdel(signing, key_id)
    with pytest.raises(RemoteError, match="does not accept that key"):
        call.get(timeout=20)


def forged_outcomes(stage: Stage, call: str, path: Path) -> dict[str, bytes]:
    """What somebody could put into the outputs of a call."""
    bomb = Outcome(kind="value", format="p", payload=pickle.dumps(Bomb(path)))

    def sealed(signer: Signer, of: str = call) -> bytes:
        return bomb.seal(signer, call=of, index=0, request=bytes(16))

    ours = stage.client.signer
    return {
        "garbage": b"\xff",
        "a bare pickle": pickle.dumps(Bomb(path)),
        "another key": sealed(STRANGER),
        "no MAC": ours.key_id + bytes(16) + sealed(ours)[20:],
        "an input": stage.sealed(format="p", payload=pickle.dumps(Bomb(path))),
        "another call": sealed(ours, call_id_for(stage.square)),
    }


@pytest.mark.parametrize(
    "kind", ["garbage", "a bare pickle", "another key", "no MAC", "an input", "another call"]
)
def test_a_forged_result_is_not_opened(stage: Stage, tmp_path: Path, kind: str) -> None:
    call = stage.user.nap.spawn(20.0)
    forged = forged_outcomes(stage, call.object_id, tmp_path / "open")[kind]
    outputs = stage.client.keys.outputs(call.object_id)
    stage.plain.execute_command("XADD", outputs, "*", "i", "0", "o", forged)
    with pytest.raises(ExecutionError, match="not opened") as caught:
        call.get(timeout=5)
    call.cancel()
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "open").exists()


def test_a_stored_result_that_was_changed_is_not_opened(stage: Stage) -> None:
    call = stage.user.echo.spawn(b"x" * 2_000_000)
    call.get(timeout=20)
    key = stage.client.keys.result_blob(call.object_id, 0)
    stage.plain.set(key, b"something else", keepttl=True)
    with pytest.raises(DeserializationError, match="was changed"):
        call.get(timeout=20)


@pytest.fixture(scope="module")
def shop(running: Stage) -> Iterator[None]:
    """A deployed app with one function and one class."""
    client, made = running.client, qmodal.App("bad-input")
    made.function(name="square")(running.user.square._raw())
    made.cls()(running.user.Model._user_cls)
    made.deploy()
    yield
    record = client.run(client.apps.record(made.app_id or ""))
    assert record is not None
    client.run(client.apps.stop(record))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: qmodal.Function.from_name("nowhere", "f").remote(), NotFoundError, "nowhere"),
        (lambda: qmodal.Function.from_name("bad-input", "f").remote(), NotFoundError, "f"),
        (lambda: qmodal.Cls.from_name("nowhere", "C")().f.remote(), NotFoundError, "nowhere"),
        (lambda: qmodal.Cls.from_name("bad-input", "C")().f.remote(), NotFoundError, "C"),
        (lambda: model(name="a").nothing.remote(), NotFoundError, "nothing"),
        (lambda: model().describe.remote(), qmodal.exception.InvalidError, "name"),
        (lambda: model(name="a", nme=1).describe.remote(), qmodal.exception.InvalidError, "nme"),
        (lambda: model(name=3).describe.remote(), TypeError, "Expected str, got int"),
    ],
    ids=["app", "function", "class's app", "class", "method", "missing", "unknown", "type"],
)
def test_what_does_not_exist_is_named_in_one_line(
    call: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def model(**parameters: Any) -> Any:
    return qmodal.Cls.from_name("bad-input", "Model")(**parameters)


def test_arguments_beyond_the_limit_are_refused_before_they_are_sent() -> None:
    # Zeroes that nobody looks at take no memory.
    with pytest.raises(RequestSizeError, match="shared storage"):
        _digest_of(bytes(LARGEST_PAYLOAD + 1))


def _write_odd_things(stage: Stage) -> None:
    """What ended workers and leaders before, all of it at once."""
    keys, pool = stage.client.keys, stage.square.pool
    plain: Any = stage.plain  # its types know one kind of key at a time
    worker = min(stage.client.run(stage.client.fleet.workers()))
    plain.zadd(keys.workers, {b"\xff": 1, b"\xfe": 9e15, "wk-odd": 9e15, "wk-gone": 1})
    plain.set(keys.assigned("wk-gone"), "no hash")
    plain.hset(keys.worker("wk-odd"), "report", msgpack.packb({"worker": "wk-odd", "cpus": "x"}))
    plain.hset(keys.assigned(worker), mapping={b"\xff": b"\xff", "ta-odd-1": pool, "x": ""})
    plain.hset(keys.containers(worker), mapping={b"\xff": b"\xc1", "ta-odd": msgpack.packb([1])})
    plain.zadd(keys.active(shard_of(pool)), {b"\xff": 0, "no pool": 0})
    odd_times = {"service_time": "nan", "start_time": "-inf", "inflight": "x", "submitted": "-9"}
    plain.hset(keys.pool(pool), mapping=odd_times)
    plain.hset(keys.settings(stage.user.app.app_id), mapping={b"\xff": b"\xff", pool: b"\xc1"})
    plain.zadd(keys.delayed(pool), {b"\xc1": 1})
    plain.set(keys.epoch, "no number")
    for text in (b"\xff", b"+", b"no pool", b"+" + b"0" * 40):
        plain.publish(keys.wake, text)
        plain.publish(keys.nudge(worker), b"cancelled " + text + b" x")


def _take_away_odd_things(stage: Stage) -> None:
    keys, plain = stage.client.keys, stage.plain
    plain.zrem(keys.workers, b"\xff", b"\xfe", "wk-odd", "wk-gone")
    plain.delete(keys.worker("wk-odd"))
    plain.zrem(keys.active(shard_of(stage.square.pool)), b"\xff", "no pool")


def test_odd_writes_into_the_fleets_records_end_nobody(stage: Stage) -> None:
    def fleet() -> list[str]:
        return sorted(stage.client.run(stage.client.fleet.workers()))

    before = fleet()
    _write_odd_things(stage)
    assert stage.user.Model(name="after").describe.remote() is not None
    assert list(stage.user.square.map(range(40))) == [n * n for n in range(40)]
    wait_until(lambda: "wk-gone" not in fleet(), what="the lost box is cleared", seconds=20)
    _take_away_odd_things(stage)
    assert fleet() == before, "no worker has come back under another id"
