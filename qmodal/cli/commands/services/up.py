"""`qmodal up`: the whole system on this machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from qmodal.cli.echo import echo
from qmodal.config import Settings
from qmodal.exception import ConfigurationError

if TYPE_CHECKING:
    from qmodal.embedded.up import Kept

DEFAULT_PORT = 6379


class _Misconfigured(click.ClickException):
    exit_code = 2


@click.command()
@click.option("--bind", metavar="ADDR[:PORT]", help="Let other machines in through this address.")
@click.option("--port", type=click.IntRange(1, 65535), help="The TCP port for --bind (6379).")
@click.option("--home", type=click.Path(path_type=Path), help="State folder (QMODAL_HOME).")
@click.option(
    "--web-port",
    type=click.IntRange(1, 65535),
    help="The gateway's TCP port, or the next free one (QMODAL_WEB_PORT, else 8000).",
)
@click.option(
    "--metrics-port",
    metavar="FIRST",
    type=click.IntRange(1, 65535),
    help="Serve metrics on this port (autoscaler) and the next ones (worker, web, control; QMODAL_METRICS_PORT).",
)
@click.option("--no-web", is_flag=True, help="Start no gateway: nothing serves web functions.")
@click.option(
    "-d", "--detach", is_flag=True, help="Go on in the background; `qmodal down` stops it."
)
@click.option("--child", "children", multiple=True, hidden=True)
def up(
    bind: str | None,
    port: int | None,
    home: Path | None,
    web_port: int | None,
    metrics_port: int | None,
    children: tuple[str, ...],
    *,
    no_web: bool,
    detach: bool,
) -> None:
    """Run a server, an autoscaler, a worker, schedules and a web gateway on this machine until Ctrl-C.

    Calls, results and deployed apps are kept in the state folder and are there again at the next
    start. Programs of the same user on this machine find it by themselves.
    """
    from qmodal.embedded import stack, up as kept
    from qmodal.embedded.gateway import GATEWAY_PORT, missing_for_gateway

    if detach:
        given = {
            "--bind": bind,
            "--port": port,
            "--web-port": web_port,
            "--metrics-port": metrics_port,
        }
        _detach(home, given, children, no_web=no_web)
        return
    try:
        settings = Settings.from_environ(os.environ)
        if home is not None:
            settings = replace(settings, home=home.expanduser().absolute())
        address = None if bind is None else parse_bind(bind, port)
        named = {f"child {n}": shlex.split(line) for n, line in enumerate(children, 1)}
        missing = [] if no_web or named else missing_for_gateway()
        wanted = web_port or settings.web_port or GATEWAY_PORT
        started = kept.start_kept(
            settings,
            bind=address,
            web_port=None if no_web or named or missing else wanted,
            metrics_port=metrics_port or settings.metrics_port,
            children=named or stack.CHILDREN,
        )
    except ConfigurationError as error:
        raise _Misconfigured(str(error)) from error
    _stop_on_signals(started)
    for line in introduction(started, missing):
        echo(line)
    _run_to_the_end(started)


def _detach(
    home: Path | None,
    given: Mapping[str, str | int | None],
    children: Sequence[str],
    *,
    no_web: bool,
) -> None:
    from qmodal.cli.commands.services.down import home_of, start_detached

    values = [part for name, value in given.items() if value is not None for part in (name, value)]
    more = [part for each in children for part in ("--child", each)]
    options = [*map(str, values), *more, *(["--no-web"] if no_web else [])]
    try:
        start_detached(home_of(home), options)
    except ConfigurationError as error:
        raise _Misconfigured(str(error)) from error


def parse_bind(text: str, port: int | None) -> tuple[str, int]:
    """The address and port of `ADDR`, `ADDR:PORT` or `[ADDR6]:PORT`; ConfigurationError if none."""
    address, separator, given = text.rpartition(":")
    if not separator or (":" in address and not address.startswith("[")):
        address, given = text, ""
    address = address.strip("[]")
    if not address or (given and not given.isdecimal()):
        raise ConfigurationError(f"--bind is {text!r}; write ADDR or ADDR:PORT")
    number = int(given) if given else port or DEFAULT_PORT
    if not 1 <= number <= 65535 or (given and port not in (None, number)):
        raise ConfigurationError(f"--bind is {text!r} and --port {port}; name one port, 1 to 65535")
    return address, number


def introduction(started: Kept, missing: Sequence[str] = ()) -> list[str]:
    """What a person needs to know about the running stack, line by line.

    `missing`: the packages without which there is no gateway.
    """
    from qmodal.embedded.gateway import INSTALL_WEB

    home = started.home
    lines = [
        f"qmodal is up: {started.server}, state in {home.folder}",
        "Your programs on this machine find it by themselves, for example: qmodal run FILE.py",
    ]
    if started.gateway_url:
        lines.append(f"Web functions are served at {started.gateway_url}")
    if started.metrics:
        ports = ", ".join(f"{name} {port}" for name, port in started.metrics.items())
        lines.append(f"Metrics for Prometheus are at /metrics on these ports: {ports}")
    if missing:
        lines.append(f"Web functions are not served ({', '.join(missing)} missing): {INSTALL_WEB}")
    if started.listen is not None:
        host = reachable(started.listen.address)
        lines += [
            f"A second machine needs a copy of {home.key_file} (mode 0600) and this line:",
            f"QMODAL_REDIS_URL=redis://:{started.listen.password}@{host}:{started.listen.port} "
            f"QMODAL_SIGNING_KEY_FILE={shlex.quote(str(home.key_file))} qmodal worker",
            "The connection is not encrypted: use it in a network that you trust.",
        ]
    return [*lines, "Ctrl-C stops it; running inputs get 25 s, a second Ctrl-C stops at once."]


def _stop_on_signals(started: Kept) -> None:
    from qmodal.embedded.up import STOP_GRACE

    graces = iter((STOP_GRACE,))

    def stop(_number: int, _frame: FrameType | None) -> None:
        started.stack.stop(next(graces, 0.0))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup and shells that start us in the background ignore some of them on purpose.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _run_to_the_end(started: Kept) -> None:
    started.stack.wait()
    if started.stack.close(grace=0.0) != 0:
        raise click.ClickException(
            f"The supervisor ended by itself; the lines above and {started.home.server_log} say why"
        )
    echo("qmodal is down; what it held is kept for the next start")


def reachable(address: str) -> str:
    """How others name this machine, where the address only says 'all of them'."""
    if address in {"0.0.0.0", "*"}:
        return _own_address("192.0.2.1", socket.AF_INET)
    if address == "::":
        address = _own_address("2001:db8::1", socket.AF_INET6)
    return f"[{address}]" if ":" in address else address


def _own_address(towards: str, family: socket.AddressFamily) -> str:
    """The address that the routing table gives us; nothing is sent to that documentation host."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return socket.getfqdn()
        return str(probe.getsockname()[0])
