"""`qmodal doctor`: the settings, the server and this machine, a line for each check."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli.echo import echo
from qmodal.config import Settings, redacted
from qmodal.exception import ConfigurationError, Error
from qmodal.telemetry.printable import printable

if TYPE_CHECKING:
    from qmodal.cli.commands.doctor_checks import Check, Finding
    from qmodal.client.client import Client

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
OLDEST_PYTHON = (3, 11)


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check the settings, the server and this machine; exit 2 if something cannot work."""
    is_failed = False
    for finding in findings():
        is_failed |= finding.state == "fail"
        for line in lines(finding):
            echo(line, colours=True)
    if is_failed:
        context.exit(2)


def lines(finding: Finding) -> Iterator[str]:
    """What is printed of a finding: one line, and one more if there is something to do."""
    state = click.style(f"{finding.state:<4}", fg=COLOURS[finding.state])
    yield f"{state}  {finding.what:<12} {printable(finding.found)}"
    if finding.advice:
        yield f"{'':<19}-> {printable(finding.advice)}"


def findings() -> Iterator[Finding]:
    """The results of all checks that make sense here, in order."""
    yield python()
    yield gpus()
    try:
        settings = Settings.from_environ(os.environ)
    except ConfigurationError as error:
        yield _failed("settings", error)
        return
    yield home(settings)
    yield from _of_server(settings)


def python() -> Finding:
    """This interpreter; containers need the same minor version to load pickled functions."""
    from qmodal.cli.commands.doctor_checks import Finding

    is_new = sys.version_info >= OLDEST_PYTHON
    return Finding(
        what="python",
        state="ok" if is_new else "fail",
        found=platform.python_version(),
        advice="" if is_new else "install Python 3.11 or newer",
    )


def home(settings: Settings) -> Finding:
    """The state folder: of `qmodal up`, and where workers unpack code."""
    from qmodal.cli.commands.doctor_checks import Finding
    from qmodal.embedded.folder import check_home

    try:
        check_home(settings.home)
    except ConfigurationError as error:
        return _failed("state folder", error)
    return Finding(what="state folder", state="ok", found=str(settings.home))


def gpus() -> Finding:
    """The GPUs of this machine, as a worker would find them; to have none is fine."""
    from qmodal.cli.commands.doctor_checks import Finding

    declared = os.environ.get("QMODAL_GPUS", "").strip()
    found, why_none = _listed_gpus()
    if declared:
        found = f"QMODAL_GPUS is {declared!r}; the driver lists {found or 'none'}"
    return Finding(what="GPUs", state="ok", found=found or f"none: {why_none}")


def _listed_gpus() -> tuple[str, str]:
    """What the driver lists, a kind and a UUID each, or why it lists nothing."""
    try:
        import pynvml
    except ImportError:
        return "", "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        is_missing = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        why = "there is no NVIDIA driver here" if is_missing else f"the NVIDIA driver says: {error}"
        return "", why
    listed = [_gpu(pynvml, index) for index in range(count)]
    return ", ".join(listed), "the NVIDIA driver lists none"


def _gpu(pynvml: Any, index: int) -> str:
    from qmodal.spec.needs.gpus import kind_of

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total // 2**20
        return f"{kind_of(pynvml.nvmlDeviceGetName(handle), memory)} {pynvml.nvmlDeviceGetUUID(handle)}"
    except pynvml.NVMLError as error:
        return f"number {index}, which cannot be used: {error}"


def _of_server(settings: Settings) -> Iterator[Finding]:
    from qmodal.cli.commands.doctor_checks import ON_SERVER, Finding
    from qmodal.client.client import Client, resolve

    try:
        resolved = resolve(settings)
        if resolved.redis_url is None:
            yield _private_server()
            return
        client = Client(resolved)
    except ConfigurationError as error:
        yield _failed("settings", error)
        return
    origin = "QMODAL_REDIS_URL or REDIS_URL" if settings.redis_url else "a running `qmodal up`"
    found = f"{redacted(resolved.redis_url)} of {origin}, environment {resolved.environment}"
    yield Finding(what="settings", state="ok", found=found)
    try:
        yield _connection(client)
    except Error as error:
        yield _failed("connection", error)
        return
    for what, check in ON_SERVER.items():
        yield _carried_out(what, check, client)
    client.close()


def _private_server() -> Finding:
    from qmodal.cli.commands.doctor_checks import Finding
    from qmodal.embedded.server import find_binary, probe_version

    try:
        server = probe_version(find_binary())
    except ConfigurationError as error:
        return _failed("server", error)
    return Finding(
        what="server",
        state="ok",
        found=f"none set: `qmodal run` starts a private one ({server}) for its own time",
        advice="to keep apps and results, start `qmodal up`, or set QMODAL_REDIS_URL",
    )


def _connection(client: Client) -> Finding:
    import time

    from qmodal.cli.commands.doctor_checks import Finding
    from qmodal.store.server import ping

    client.blocking.run(ping(patience=2.0))
    before = time.perf_counter()
    client.blocking.run(ping(patience=2.0))
    millis = (time.perf_counter() - before) * 1000
    return Finding(what="connection", state="ok", found=f"{millis:.2f} ms there and back")


def _carried_out(what: str, check: Check, client: Client) -> Finding:
    from qmodal.cli.commands.doctor_checks import Finding

    try:
        return client.blocking.run(check(client))
    except Error as error:
        advice = "let the user of the URL ask this, or check it on the server"
        return Finding(what=what, state="warn", found=f"not checked: {error}", advice=advice)


def _failed(what: str, error: Error) -> Finding:
    from qmodal.cli.commands.doctor_checks import Finding

    return Finding(what=what, state="fail", found=str(error))
