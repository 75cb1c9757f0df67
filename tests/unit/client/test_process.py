"""What there is once in a process: as a test, a fork and the end of the process find it."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.client import client as clients, context, process
from qmodal.client.client import Client
from qmodal.client.process import state
from qmodal.config import Settings
from qmodal.output.screen import enable_output, is_enabled

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(redis_url="redis://localhost:1", signing_key=b"k" * 32)


def changed() -> None:
    """Another value of everything."""
    clients.use(Client(SETTINGS, is_checked=True))
    context.serve()
    state.served["f"] = object()
    state.is_importing, state.importing_pid, state.output_style = True, 1, object()


def test_what_a_block_changes_is_as_before_behind_it() -> None:
    before = replace(state, served=dict(state.served))
    with pytest.raises(ZeroDivisionError), process.preserved():
        changed()
        assert not context.is_local()
        assert context.is_importing()
        assert is_enabled()
        raise ZeroDivisionError
    assert state == before
    assert context.is_local()


def test_blocks_within_each_other_end_in_order() -> None:
    with enable_output(), context.importing(for_container=True):
        with enable_output(show_progress=False), context.importing():
            assert context.is_local()
        assert (is_enabled(), context.is_local(), context.is_importing()) == (True, False, True)
    assert (is_enabled(), context.is_local(), context.is_importing()) == (False, True, False)


def in_child(code: str) -> str:
    """What the program prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    ).stdout


FORKED = """
import os, threading
from qmodal.client import client as clients, context, process
from qmodal.client.client import Client
from qmodal.config import Settings

client = Client(Settings(redis_url="redis://localhost:1", signing_key=b"k" * 32))
clients.use(client)
client.later((b"PING",))
context.serve()
process.making.acquire()
if os.fork() == 0:
    print(process.making.locked(), context.is_local(), len(client._later), flush=True)
    os._exit(0)
os.wait()
print(process.making.locked(), context.is_local(), len(client._later), flush=True)
os._exit(0)
"""


def test_a_forked_child_is_local_and_has_neither_locks_nor_what_was_put_off() -> None:
    assert in_child(FORKED).splitlines() == ["False True 0", "True False 1"]


def test_nothing_else_of_ours_is_changed_for_a_whole_process() -> None:
    """A `global` elsewhere would be state that neither a fork nor a test knows of."""
    for package in ("qmodal", "workers", "autoscaler"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text("utf-8")
            nodes = ast.walk(ast.parse(text)) if "global " in text else ()
            changes = [node for node in nodes if isinstance(node, ast.Global)]
            assert not changes or path == ROOT / "qmodal" / "client" / "process.py", path
