"""`qmodal deploy`: publish an app, and say what was published and how to call it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import click

from qmodal.cli import options
from qmodal.cli.echo import echo

if TYPE_CHECKING:
    from qmodal.app.app import App
    from qmodal.spec.documents import FunctionSpec, Version


@click.command(no_args_is_help=True)
@click.option("--name", help="The app's name, instead of the one in its definition.")
@options.environment
@options.as_module
@click.option("--tag", default="", help="What to call this version in the app's history.")
@click.option(
    "--strategy",
    type=click.Choice(["rolling", "recreate"]),
    default="rolling",
    help="recreate: end the containers of older versions at once.",
)
@click.option(
    "--allow-empty", is_flag=True, help="Also without functions, where some are deployed: they end."
)
@options.quiet
@click.option("--dry-run", is_flag=True, help="Only list the files that would be sent.")
@click.argument("text", metavar="FILE[::APP]")
def deploy(
    text: str,
    name: str | None,
    environment: str | None,
    as_module: bool,
    dry_run: bool,
    allow_empty: bool,
    quiet: bool,
    **release: str,
) -> None:
    """Publish an app under its name; what was deployed under it before is replaced."""
    from qmodal.client.client import current

    if not dry_run:
        # Without a server there is no reason to run the user's module first.
        current()
    app = _load(text, as_module=as_module)
    if dry_run:
        for line in _files(app):
            echo(line)
        return
    from qmodal.cli.addresses import addresses_of
    from qmodal.cli.undone import say_undone
    from qmodal.runner.deploy import deploy

    if not quiet:
        say_undone(app._registry)

    client = current()
    result = client.run(deploy(app, name, environment, allow_empty=allow_empty, **release))
    version = cast("Version", app._registry.version)
    addresses = client.run(addresses_of(client, version.app_id))
    for line in _deployed(version, addresses, is_new=result.is_new):
        echo(line)


def _load(text: str, *, as_module: bool) -> App:
    from qmodal.cli.reference import find_app, load_reference, parse_reference

    reference = parse_reference(text, as_module=as_module)
    return cast("App", find_app(load_reference(reference), reference))


def _files(app: App) -> Iterator[str]:
    import io
    import zipfile

    from qmodal.cli.tables import aligned
    from qmodal.runner.publish import code_of
    from qmodal.spec.needs.sizes import size

    bundle = code_of(app._registry).bundle
    if bundle is None:
        yield "No files: every function of this app is serialized."
        return
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        members = archive.infolist()
    yield from aligned([[size(member.file_size), member.filename] for member in members] or [[]])
    total = sum(member.file_size for member in members)
    yield f"{len(members)} files, {size(total)}; compressed {size(len(bundle.content))}"


def _deployed(
    version: Version, addresses: Mapping[tuple[str, str], str], *, is_new: bool
) -> Iterator[str]:
    done = "Deployed" if is_new else "Nothing has changed since"
    place = f"{version.name} version {version.number} ({version.app_id})"
    yield f"{done} {place} to {version.environment}:"
    for spec in version.functions.values():
        for method, kind in spec.methods.items():
            verb = "remote_gen" if kind.is_generator else "remote"
            address = addresses.get((spec.tag, method))
            how = f".{verb}(...)" if address is None else f" => {address}"
            yield f"  {_handle(version, spec, method)}{how}"


def _handle(version: Version, spec: FunctionSpec, method: str) -> str:
    if not spec.is_class:
        return f'qmodal.Function.from_name("{version.name}", "{spec.tag}")'
    name = spec.tag.removesuffix(".*")
    return f'qmodal.Cls.from_name("{version.name}", "{name}")(...).{method}'
