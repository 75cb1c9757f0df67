"""The command line: the table of commands, of which only the one that is used is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qmodal import __version__
from qmodal.cli.errors import exit_code_of, show_failure
from qmodal.client.streams import open_missing
from qmodal.exception import Error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUP = "qmodal.commands"


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command's place (`module:attribute`) and its line in the list of commands."""

    place: str
    summary: str


# A name of two words wins over a command of the first word: `worker` is another package's.
BUILT_IN = {
    "run": CommandEntry(
        "qmodal.cli.commands.run:run", "Run a function or a local entrypoint of a file."
    ),
    "deploy": CommandEntry(
        "qmodal.cli.commands.deploy:deploy", "Publish an app until it is stopped."
    ),
    "serve": CommandEntry(
        "qmodal.cli.commands.serve:serve", "Run an app and publish it anew when it changes."
    ),
    "up": CommandEntry(
        "qmodal.cli.commands.services.up:up", "Run the whole system on this machine."
    ),
    "down": CommandEntry(
        "qmodal.cli.commands.services.down:down", "Stop what `qmodal up` has started."
    ),
    "web": CommandEntry("qmodal.cli.commands.services.web:web", "Serve web functions over HTTP."),
    "control": CommandEntry(
        "qmodal.cli.commands.services.control:control", "Run schedules and chores."
    ),
    "app": CommandEntry("qmodal.cli.commands.app:app", "List and stop apps, and read their logs."),
    "call": CommandEntry(
        "qmodal.cli.commands.finding.call:call", "Find calls, and run again what has failed."
    ),
    "pool": CommandEntry(
        "qmodal.cli.commands.finding.pool:pool", "List, show, purge and pause pools."
    ),
    "why": CommandEntry(
        "qmodal.cli.commands.finding.why.command:why",
        "Say why a pool, a call or a box waits, and what to do.",
    ),
    "dead": CommandEntry(
        "qmodal.cli.commands.finding.dead:dead", "Show and requeue what no container will run."
    ),
    "dict": CommandEntry(
        "qmodal.cli.commands.objects.dict:dict_", "List, read and change dictionaries."
    ),
    "queue": CommandEntry(
        "qmodal.cli.commands.objects.queue:queue", "List queues, look into them, empty them."
    ),
    "container": CommandEntry("qmodal.cli.commands.fleet:container", "List and stop containers."),
    "worker list": CommandEntry(
        "qmodal.cli.commands.services.boxes:listing", "List the workers of all boxes."
    ),
    "worker show": CommandEntry(
        "qmodal.cli.commands.services.boxes:showing", "Show a box and what it runs."
    ),
    "worker cordon": CommandEntry(
        "qmodal.cli.commands.services.boxes:cordon", "Have a box get nothing new."
    ),
    "worker uncordon": CommandEntry(
        "qmodal.cli.commands.services.boxes:uncordon", "Have a box get containers again."
    ),
    "worker drain": CommandEntry(
        "qmodal.cli.commands.services.boxes:drain", "Empty a box, without loss."
    ),
    "schedule": CommandEntry(
        "qmodal.cli.commands.services.schedule:schedule",
        "List, run, pause and resume schedules.",
    ),
    "token": CommandEntry(
        "qmodal.cli.commands.services.token:token",
        "Make and revoke tokens for guarded web functions.",
    ),
    "secret": CommandEntry(
        "qmodal.cli.commands.objects.secret:secret", "Store variables for functions, encrypted."
    ),
    "doctor": CommandEntry(
        "qmodal.cli.commands.doctor:doctor", "Check the settings against the server."
    ),
    "key": CommandEntry("qmodal.cli.commands.key:key", "Show what a second machine needs."),
    "acl": CommandEntry(
        "qmodal.cli.commands.rights.acl:acl", "Print rules for users of Redis, by role."
    ),
    "completion": CommandEntry(
        "qmodal.cli.commands.completion:completion", "Have a shell complete commands."
    ),
}
# The commands of this distribution's other packages, as their entry points say: to look those up takes
# a tenth of a second and a mebibyte, which a service would keep.
EXTERNAL = {
    "worker": CommandEntry("qmodal_workers.cli:worker", "Run the containers of this machine."),
    "autoscaler": CommandEntry(
        "qmodal_autoscaler.cli:autoscaler", "Decide how many containers each pool has."
    ),
    "simulate": CommandEntry(
        "qmodal_autoscaler.simulator.command:command", "Compare scaling policies on made-up load."
    ),
}
# How the help groups them. What other distributions add comes behind these.
SECTIONS = {
    "Run programs": ("run", "deploy", "serve"),
    "Run the system": ("up", "down", "worker", "autoscaler", "control", "web"),
    "See and change what runs": (*("app", "call", "pool", "why", "dead", "container", "schedule"),),
    "See and change boxes": (
        *("worker list", "worker show", "worker cordon", "worker uncordon", "worker drain"),
    ),
    "Keep by name": ("dict", "queue", "secret", "token"),
    "Set up": ("doctor", "key", "acl", "completion", "simulate"),
}
EXAMPLES = (
    ("qmodal run shop.py", "Run its entrypoint; needs no setting up."),
    ("qmodal run shop.py::send", "Run one function of it."),
    ("qmodal up --detach", "Start everything on this machine, to stay."),
    ("qmodal deploy shop.py", "Publish the app for other programs."),
    ("qmodal app logs -f shop", "Follow what its containers print."),
    ("qmodal call list --app shop", "Find its calls, and which have failed."),
)


class CommandGroup(click.Group):
    """The commands of this package and those of the entry points `qmodal.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, ours first."""
        return [name for name, _ in _summaries()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        known = BUILT_IN.get(cmd_name) or EXTERNAL.get(cmd_name)
        if known is not None:
            module, _, attribute = known.place.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        found = _entry_points(cmd_name)
        return found[0].load() if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with, one of two words before one of one."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in BUILT_IN:
            return name, self.get_command(ctx, name), args[2:]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without importing them, and options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=summary)
            for name, summary in _summaries()
            if name.startswith(incomplete) and " " not in name
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The lists of commands, without importing them, and examples."""
        summaries = dict(_summaries())
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summaries.pop(name)) for name in names])
        if summaries:
            with formatter.section("From other packages"):
                formatter.write_dl(list(summaries.items()))
        with formatter.section("Examples"):
            formatter.write_dl(EXAMPLES)


def _summaries() -> Iterator[tuple[str, str]]:
    yield from ((name, command.summary) for name, command in BUILT_IN.items())
    for point in sorted(_entry_points(), key=lambda point: point.name):
        known = EXTERNAL.get(point.name)
        summary = f"From {point.value.partition(':')[0]}." if known is None else known.summary
        yield point.name, summary


def _entry_points(*names: str) -> list[Any]:
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    return [point for name, point in found.items() if name in names or not names]


@click.command(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="qmodal", message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Modal's programming model on your own machines."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, 1 for a failure, 2 for wrong usage or settings, 130 for Ctrl-C."""
    open_missing()
    # What user code raises is shown by Python's own way out, which ends with 1, too.
    sys.excepthook = show_failure
    try:
        code = program.main(args=argv, prog_name="qmodal", standalone_mode=False)
    except (Error, click.ClickException, click.Abort) as failure:
        cause = failure.__cause__
        if isinstance(failure, click.Abort) and isinstance(cause, EOFError):
            # click takes it for an answer to a prompt; it may well be the program's.
            raise cause from None
        end_with(failure)
    sys.exit(code if isinstance(code, int) else 0)


def end_with(failure: Error | click.ClickException | click.Abort) -> NoReturn:
    """Say what failed, and exit with the code for it."""
    sys.exit(exit_code_of(failure))
