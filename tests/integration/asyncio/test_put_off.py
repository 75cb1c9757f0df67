"""What programs put off is sent when they end, whichever way they make their calls."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from qmodal.config import Settings
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.stacks import program

IMPORTS = """
import asyncio, json, os, sys, threading
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport import aio_driver, driver
from qmodal.transport.operation import Later, ask_one
"""
# Each end in a process of its own, which does not have to import everything anew.
EACH = """
children = []
for code in json.loads(sys.argv[1]):
    children.append(os.fork())
    if not children[-1]:
        break
else:
    for child in children:
        os.waitpid(child, 0)
    os._exit(0)
"""
CLIENT = """
client = Client(Settings.from_environ(os.environ))
def op(name):
    yield from ask_one(b"PING")
    yield Later((b"SET", name, b"1", b"EX", b"60"))
async def call(name):
    await client.aio(op(name))
"""
ENDS = {
    "plain": "client.run(op('plain'))",
    "an exit code": "client.run(op('an exit code')); sys.exit(3)",
    "an exception": "client.run(op('an exception')); raise KeyError",
    "asyncio.run": "asyncio.run(call('asyncio.run'))",
    "a closed loop": "l = asyncio.new_event_loop(); l.run_until_complete(call('a closed loop')); l.close()",
    "a kept loop": "l = asyncio.new_event_loop(); l.run_until_complete(call('a kept loop'))",
    "a daemon thread": """
def body():
    client.run(op('a daemon thread'))
    done.set()
    threading.Event().wait()
done = threading.Event()
threading.Thread(target=body, daemon=True).start()
done.wait()
""",
    "a loop in a daemon thread": """
def body():
    loop.run_until_complete(call('a loop in a daemon thread'))
    loop.call_soon(done.set)
    loop.run_forever()
loop, done = asyncio.new_event_loop(), threading.Event()
threading.Thread(target=body, daemon=True).start()
done.wait()
""",
    "a thread": """
def body():
    threading.main_thread().join()
    client.run(op('a thread'))
threading.Thread(target=body).start()
""",
    "a forked process": """
import multiprocessing
client.run(ask_one(b"PING"))
child = multiprocessing.get_context("fork").Process(target=lambda: client.run(op('a forked process')))
child.start(); child.join()
os._exit(0)
""",
}


@pytest.fixture(scope="module")
def running() -> Iterator[TestServer]:
    with run_server(server_binary()) as own:
        yield own


def environ(server: TestServer) -> dict[str, str]:
    return Settings(redis_url=server.url, signing_key=bytes(32)).to_environ()


def test_it_is_sent_at_the_end_however_that_comes(running: TestServer) -> None:
    argv = ["-c", IMPORTS + EACH + CLIENT + "exec(code)", json.dumps(list(ENDS.values()))]
    with program(argv, **environ(running)) as process, running.plain() as plain:
        _, said = process.communicate(timeout=40)
        missing = [name for name in ENDS if not plain.delete(name)]
    assert not missing, said


def test_a_server_that_is_away_holds_the_end_up_for_a_second(running: TestServer) -> None:
    code = "client.run(op('away')); print('called', flush=True); sys.stdin.read()"
    with program(["-c", IMPORTS + CLIENT + code], **environ(running)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "called\n"
        with running.frozen():
            began = time.monotonic()
            _, said = process.communicate(timeout=20)
        took = time.monotonic() - began
    assert (process.returncode, said) == (0, "")
    assert 0.9 < took < 10.0


def test_a_server_that_is_gone_does_not_hold_the_end_up() -> None:
    code = "client.run(op('gone')); print('called', flush=True); sys.stdin.read()"
    with ExitStack() as stack:
        with run_server(server_binary()) as own:
            process = stack.enter_context(program(["-c", IMPORTS + CLIENT + code], **environ(own)))
            assert process.stdout is not None
            assert process.stdout.readline() == "called\n"
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")
