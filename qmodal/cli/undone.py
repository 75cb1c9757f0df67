"""What a program declares and this installation will not do: said once, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qmodal.cli.echo import echo
from qmodal.resources.image import Image
from qmodal.resources.unsupported import Declared, FilePatternMatcher
from qmodal.spec.keywords.checks import RECORDED
from qmodal.spec.options import FunctionOptions
from qmodal.spec.registry import Registry

HEADING = "Declared, and not done here (docs/modal.md):"
# Steps of an image that change nothing here, or that are done: variables are set, and first-party code is sent.
_DONE_STEPS = frozenset({"add_local_python_source", "debian_slim", "env", "from_scratch"})
_OPTIONS = ("cloud", "ephemeral_disk")
# What to do instead.
_INSTEAD = {
    "image": "install that in the Python environment of the workers",
    "volumes": "use a folder that all boxes share",
    "network_file_systems": "mount them on the boxes",
    "proxy": "traffic leaves from the boxes",
    "block_network": "containers have the network of their box",
    "restrict_modal_access": "containers have the server's URL and key",
    "cloud": "containers run on your boxes",
    "ephemeral_disk": "containers share the disk of their box",
}


def say_undone(registry: Registry) -> None:
    """Say it on stderr, a line for each kind; nothing if all is done."""
    lines = list(undone(registry))
    if lines:
        echo("\n".join([HEADING, *(f"  {line}" for line in lines)]), err=True)


def undone(registry: Registry) -> Iterator[str]:
    """A line for each kind: what it is, the functions that declare it, and what to do instead."""
    functions: dict[str, list[str]] = {}
    details: dict[str, dict[str, None]] = {}
    for entry in registry.entries.values():
        for kind, parts in _of_options(entry.options):
            functions.setdefault(kind, []).append(entry.tag.removesuffix(".*"))
            details.setdefault(kind, {}).update(dict.fromkeys(parts))
    for kind, declaring in functions.items():
        parts = ", ".join(details[kind])
        instead = _INSTEAD.get(kind)
        yield (
            f"{kind}{f' ({parts})' if parts else ''}: {', '.join(declaring)}"
            f"{f' - {instead}' if instead else ''}"
        )
    yield from _unused(registry)


def _of_options(options: FunctionOptions) -> Iterator[tuple[str, Iterable[str]]]:
    """The kinds that one function declares, with what of each."""
    image = options.image
    if isinstance(image, Image):
        steps = [name for name, _, _ in image.steps if name not in _DONE_STEPS]
        if steps:
            yield "image", steps
    if options.volumes:
        yield "volumes", options.volumes
    for name in _OPTIONS:
        if getattr(options, name) is not None:
            yield name, ()
    for name, value in options.recorded.items():
        if name in RECORDED:
            yield name, value if isinstance(value, Mapping) else ()


def _named(options: FunctionOptions) -> Iterator[Any]:
    yield from options.volumes.values()
    for value in options.recorded.values():
        yield from value.values() if isinstance(value, Mapping) else (value,)


def _unused(registry: Registry) -> Iterator[str]:
    """A line for each class of objects that are declared beside the functions and named by none: to use one is an error."""
    used = {id(value) for entry in registry.entries.values() for value in _named(entry.options)}
    modules = {entry.raw.__module__ for entry in registry.entries.values()}
    variables: dict[type[Declared], list[str]] = {}
    for module in sorted(modules & sys.modules.keys()):
        for name, value in vars(sys.modules[module]).items():
            is_alone = isinstance(value, Declared) and not isinstance(value, FilePatternMatcher)
            if is_alone and id(value) not in used:
                variables.setdefault(type(value), []).append(name)
    for kind, names in variables.items():
        yield f"{kind.__name__}: {', '.join(names)} - {kind._instead}"
