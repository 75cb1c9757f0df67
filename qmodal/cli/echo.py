"""How commands print: what others have written reaches the terminal as text, and no sequence in it is obeyed."""

from __future__ import annotations

import click

from qmodal.telemetry.printable import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True, colours: bool = False) -> None:
    """Print lines; with `colours`, for those that the command has made itself."""
    click.echo(printable(str(text), lines=True, colours=colours), err=err, nl=nl)


def confirm(question: str) -> None:
    """Ask on the terminal; raises Abort unless the answer is yes."""
    click.confirm(printable(question), abort=True)
