"""The program that `qmodal serve` starts for each publication: `python -m qmodal.cli.commands.republish`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from qmodal.cli.echo import echo
from qmodal.cli.errors import exit_code_of, show_failure
from qmodal.exception import Error

if TYPE_CHECKING:
    from qmodal.app.app import App


def main() -> None:
    """Publish the app that the first argument describes; says what was published as JSON."""
    sys.excepthook = show_failure
    try:
        said = _publish(**json.loads(sys.argv[1]))
    except (Error, click.ClickException) as failure:
        sys.exit(exit_code_of(failure))
    echo(f"\n{json.dumps(said)}")


def _publish(
    *, text: str, name: str | None, environment: str | None, as_module: bool, app_id: str
) -> dict[str, Any]:
    from qmodal.cli.reference import find_app, load_reference, parse_reference
    from qmodal.client import client as clients
    from qmodal.runner.deploy import wait_until_replaced
    from qmodal.runner.publish import code_of, publish

    reference = parse_reference(text, as_module=as_module)
    module = load_reference(reference)
    app = cast("App", find_app(module, reference))
    client = clients.current()
    release = client.run(
        publish(
            client,
            app._registry,
            name=name or app.name or reference.text,
            environment=environment or client.settings.environment,
            state="ephemeral",
            app_id=app_id,
            is_recreating=True,
        )
    )
    client.run(wait_until_replaced(client, release.version))
    return {
        "number": release.version.number,
        "name": release.version.name,
        "files": sorted({str(module.__file__), *code_of(app._registry).files}),
    }


if __name__ == "__main__":
    main()
