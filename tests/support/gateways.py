"""Gateways as their clients see them, and the processes that they are."""

from __future__ import annotations

import urllib.error
import urllib.request

import psutil

# Nothing of a test goes through a proxy of the machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, seconds: float = 30.0) -> tuple[int, str]:
    """The status and body of the answer, whatever its status is."""
    try:
        with _opener.open(url, timeout=seconds) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def gateways_below(pid: int) -> list[psutil.Process]:
    """The gateway processes among the descendants of that one."""
    return [each for each in psutil.Process(pid).children(recursive=True) if _is_gateway(each)]


def _is_gateway(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return "qmodal" in line and "web" in line[line.index("qmodal") :]
