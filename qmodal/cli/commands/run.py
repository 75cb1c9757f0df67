"""`qmodal run`: load a file, run one of its objects within a running app, show what it prints."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.config import Settings
from qmodal.exception import ConfigurationError, InvalidError, UnimplementedError

if TYPE_CHECKING:
    from qmodal.app.app import App
    from qmodal.cli.arguments import Arguments
    from qmodal.cli.invocation import Invocation
    from qmodal.cli.reference import Runnable
    from qmodal.embedded.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What the command line asks for."""

    text: str
    rest: tuple[str, ...]
    detach: bool
    quiet: bool
    name: str | None
    write_result: Path | None
    environment: str | None
    as_module: bool
    timestamps: bool
    labels: bool | None
    interactive: bool

    @property
    def wants_help(self) -> bool:
        """Whether only the options of the object may be asked for: then nothing is started."""
        return "--help" in self.rest

    @property
    def line(self) -> str:
        """The command line from the reference on."""
        return shlex.join((self.text, *self.rest))


@click.command(no_args_is_help=True, context_settings={"allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="The app goes on if this command ends early.")
@click.option("-q", "--quiet", is_flag=True, help="Show the program's output and nothing else.")
@options.listed_name
@click.option(
    "-w",
    "--write-result",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result, a str or bytes, to this file.",
)
@options.environment
@options.as_module
@options.timestamps
@options.labels
@click.option("-i", "--interactive", is_flag=True, hidden=True)
@click.argument("text", metavar="FILE[::OBJECT]")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF THE OBJECT]")
def run(**given: Any) -> None:
    """Run a local entrypoint, a function or a method, and wait for it.

    Without a server in the settings and without a running `qmodal up`, a private one is started
    for the length of the command. `qmodal run FILE --help` shows the options of the object.
    """
    request = RunRequest(**given)
    if request.interactive:
        _refuse_interactive(request)
    if request.wants_help:
        _prepare(request)
        return
    with ended_by_signals():
        _run(request)


def _refuse_interactive(request: RunRequest) -> NoReturn:
    if request.quiet:
        raise InvalidError("To use interactive mode, remove the --quiet flag")
    if request.text.partition("::")[0] == "-":
        raise InvalidError("Interactive mode needs the terminal, and the script takes its place.")
    from qmodal.runner.run import INTERACTIVE

    raise UnimplementedError(INTERACTIVE)


def _run(request: RunRequest) -> None:
    from qmodal.client.client import resolve

    settings = resolve(Settings.from_environ(os.environ))
    if request.detach and settings.redis_url is None:
        raise ConfigurationError(
            "--detach needs a server that outlives this command: set QMODAL_REDIS_URL, or start "
            "`qmodal up` on this machine."
        )
    with ExitStack() as stack:
        private = _start_private(settings, stack) if settings.redis_url is None else None
        if private is not None:
            settings = private.settings
        from qmodal.runner.run import ensure_server

        stack.enter_context(ensure_server(settings, private))
        prepared = _prepare(request)
        if prepared is not None:
            _within_app(request, *prepared)


def _start_private(settings: Settings, stack: ExitStack) -> Stack:
    """Start a server of our own before anything else, and import while it starts."""
    from qmodal.embedded.stack import start_private

    threading.Thread(target=_import_early, daemon=True).start()
    return stack.enter_context(start_private(settings))


def _import_early() -> None:
    for name in (
        "qmodal.transport.driver",
        "qmodal.runner.run",
        "qmodal.runner.publish",
        "qmodal.app.app",
    ):
        import_module(name)


def _prepare(request: RunRequest) -> tuple[Runnable, Invocation, Arguments] | None:
    """What to run and with what; None if the command line asked for help."""
    from qmodal.cli.invocation import invocation_of
    from qmodal.cli.reference import find_runnable, load_reference, parse_reference

    text = _stored(request.text) if request.text.partition("::")[0] == "-" else request.text
    reference = parse_reference(text, as_module=request.as_module)
    module = load_reference(reference)
    runnable = find_runnable(module, reference)
    invocation = invocation_of(runnable, detached=request.detach)
    arguments = invocation.parse(f"qmodal run {request.text}", request.rest)
    return None if arguments is None else (runnable, invocation, arguments)


def _stored(text: str) -> str:
    """The script on standard input as a file, which is what containers get their code from."""
    import atexit
    import shutil
    import tempfile

    # No name of a private stack's folder: the next one that starts would sweep it away.
    folder = Path(tempfile.mkdtemp(prefix="qm-stdin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "stdin_script.py"
    file.write_text(sys.stdin.read(), encoding="utf-8")
    return str(file) + text.removeprefix("-")


def _within_app(
    request: RunRequest, runnable: Runnable, invocation: Invocation, arguments: Arguments
) -> None:
    from qmodal.output.screen import Style, styled

    app = cast("App", runnable.app)
    if not request.quiet:
        from qmodal.cli.undone import say_undone

        say_undone(app._registry)
    name = request.name or app.name or request.line
    result = None
    is_complete = False
    with (
        styled(Style(request.timestamps, not request.quiet, request.labels)),
        app.run(name=name, detach=request.detach, environment_name=request.environment),
    ):
        _introduce(request, runnable, app)
        try:
            result = invocation.call(arguments)
            is_complete = True
        except KeyboardInterrupt:
            _take_leave(request, app)
            raise
    if is_complete and request.write_result is not None:
        write_result(request.write_result, result)


def _introduce(request: RunRequest, runnable: Runnable, app: App) -> None:
    if request.quiet:
        return
    if sys.stderr.isatty():
        echo(f"Running {runnable.name} in {app.app_id}", err=True)
    if app.registered_web_endpoints:
        _say_addresses(app)
    if request.detach and runnable.kind == "entrypoint":
        echo("If this command ends early, only what was called last is sure to go on.", err=True)


def _say_addresses(app: App) -> None:
    from qmodal.cli.addresses import named_addresses
    from qmodal.client.client import current

    client = current()
    for line in client.run(named_addresses(client, app.app_id or "")):
        echo(line, err=True)


def _take_leave(request: RunRequest, app: App) -> None:
    if request.detach:
        echo(
            f"{app.app_id} goes on. Follow it with `qmodal app logs -f {app.app_id}`, "
            f"stop it with `qmodal app stop {app.app_id}`.",
            err=True,
        )


def write_result(path: Path, result: object) -> None:
    """Write the result to the file; raises InvalidError if it is neither str nor bytes."""
    match result:
        case str():
            path.write_text(result, encoding="utf-8")
        case bytes():
            path.write_bytes(result)
        case _:
            raise InvalidError(
                f"The result is of type {type(result).__name__}; --write-result takes str or bytes."
            )


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as sys.exit does: the app is stopped, nothing is left."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        # nohup ignores SIGHUP on purpose.
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
