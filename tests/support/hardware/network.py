"""A network of boxes on one machine: namespaces with addresses and host names of their own, which can be cut off."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

# As a box: in its network, with its host name.
_AS_BOX = ("sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"')
# What stands behind the bridge of a network: addresses that are set aside for trials (RFC 2544).
_TRIALS = "198.18"


class Network:
    """A bridge of this machine with a cable to each box."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bridge = f"qm{secrets.token_hex(3)}"
        self._part = f"{_TRIALS}.{secrets.randbelow(256)}"
        self._numbers = count(2)
        self._cables: dict[str, str] = {}
        self._add("link", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @property
    def address(self) -> str:
        """That of this machine, as boxes see it."""
        return f"{self._part}.1"

    def add(self, host: str) -> None:
        """A new box of that name."""
        number = next(self._numbers)
        cable, space = f"{self._bridge}-{number}", self._space(host)
        self._add("netns", space)
        self._add("link", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", cable, "master", self._bridge, "up")
        _ip("-n", space, "address", "add", f"{self._part}.{number}/24", "dev", "eth0")
        for name in ("lo", "eth0"):
            _ip("-n", space, "link", "set", name, "up")
        self._cables[host] = cable

    def within(self, host: str) -> Sequence[str]:
        """What stands before a command that is to run on that box; the process is the command's own."""
        space = f"--net=/run/netns/{self._space(host)}"
        return ("nsenter", space, "unshare", "--uts", *_AS_BOX, host)

    def cut(self, host: str) -> None:
        """Nothing reaches the box or comes from it, and nobody is told so."""
        _ip("link", "set", self._cables[host], "down")

    def heal(self, host: str) -> None:
        """The box is reached again."""
        _ip("link", "set", self._cables[host], "up")

    def _space(self, host: str) -> str:
        return f"{self._bridge}-{host}"

    def _add(self, kind: str, name: str, *more: str) -> None:
        _ip(kind, "add", name, *more)
        self._stack.callback(_ip, kind, "delete", name)


@contextmanager
def network() -> Iterator[Network]:
    """An empty one; skips the test where this machine may not have it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"network namespaces need {', '.join(missing)} (install iproute2, util-linux)")
    with ExitStack() as stack:
        try:
            made = Network(stack)
            made.add("probe")
            subprocess.run([*made.within("probe"), "true"], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield made


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)
