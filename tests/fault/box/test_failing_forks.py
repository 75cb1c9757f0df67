"""A system without room for another process: whoever asked for one is told so."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qmodal_workers.ipc import messages
from qmodal_workers.ipc.start_request import Descriptors
from qmodal_workers.output.pipes import Pipes
from qmodal_workers.spawn.template_client import TemplateClient, TemplateEndpoints, UnusableError

# A user who has no other process; root has no limit.
NOBODY = 54321
PROGRAM = f"""
import os, resource
from qmodal_workers.ipc import messages
from qmodal_workers.spawn import template_process, zygote

ours, theirs = messages.pair()
if os.geteuid() == 0:
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
room = int(os.environ["ROOM"])
resource.setrlimit(resource.RLIMIT_NPROC, (room, room))
template_process._fork(theirs, "c", [], lambda _: os._exit(0))
zygote._fork(theirs, os.getpid(), {{}}, [])
print(messages.receive(ours)[0], messages.receive(ours)[0])
"""


@pytest.mark.parametrize("room", [0, 2], ids=["for none", "for the middle process only"])
def test_a_template_says_that_it_cannot_fork(room: int) -> None:
    if room and os.geteuid() != 0:
        pytest.skip("needs a user who has no other process")
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**os.environ, "ROOM": str(room), "PYTHONPATH": f"{root}:{root / 'workers'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "{'forked': 'c', 'pid': 0} {'pid': 0}\n", ended.stderr


def test_a_container_that_could_not_be_forked_is_not_waited_for() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        asyncio.run(asyncio.wait_for(_fork_in_vain(process), 10))


async def _fork_in_vain(process: subprocess.Popen[bytes]) -> None:
    pipes, ends = Pipes(lambda: None), TemplateEndpoints.create()
    other = socket.socket(fileno=os.dup(ends.theirs[0]))
    template = TemplateClient("template", pipes, ends, process)
    ends.hand_over()
    asking = asyncio.create_task(template.fork("c", Descriptors(0, 0, 0, 0), 0))
    await asyncio.sleep(0)
    received = messages.receive(other)
    assert received is not None
    for fd in received[1]:
        os.close(fd)
    assert received[0] == {"fork": "c"}
    messages.send(other, {"forked": "c", "pid": 0})
    with pytest.raises(UnusableError, match="no room"):
        await asking
    template.close()
    other.close()
    pipes.close()
