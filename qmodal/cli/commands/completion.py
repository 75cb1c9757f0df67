"""`qmodal completion`: what a shell has to read so that it completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
# What a shell sets when it asks for completions; click takes it from the name of the program.
VARIABLE = "_QMODAL_COMPLETE"


@click.command(no_args_is_help=True)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that has a shell complete commands and options of qmodal.

    \b
    bash: echo 'eval "$(qmodal completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(qmodal completion zsh)"' >> ~/.zshrc
    fish: qmodal completion fish > ~/.config/fish/completions/qmodal.fish
    """
    from qmodal.cli import program

    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this click completes nothing for {shell}")
    click.echo(found(program, {}, "qmodal", VARIABLE).source())
