"""Operations on an app that is on the server: look it up, stop it, read and replace its tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import InvalidError, NotFoundError
from qmodal.output.logs import LogSource
from qmodal.spec.documents import Version
from qmodal.spec.names import check_name, is_app_id
from qmodal.spec.registry import AppLike, Registry
from qmodal.store.apps import AppRecord
from qmodal.transport.operation import Op

A = TypeVar("A", bound=AppLike)


def lookup(make: Callable[[str], A], name: str, environment: str | None, *, create: bool) -> Op[A]:
    """The deployed app of that name, or the app of that id."""
    from qmodal.runner.publish import publish

    if is_app_id(name) and create:
        raise InvalidError("`create_if_missing=True` needs an App's name, and this is an id.")
    if not is_app_id(name):
        check_name("App", name)
    client = clients.current()
    environment = environment or client.settings.environment
    version = yield from find_version(client, name, environment)
    if version is None and create:
        release = yield from publish(
            client, make(name)._registry, name=name, environment=environment, state="deployed"
        )
        version = release.version
    if version is None:
        raise NotFoundError(
            f"App '{name}' not found in environment '{environment}'. Deploy it with `qmodal deploy`."
        )
    found = make(version.name)
    found._registry.is_known_here = False
    found._registry.attach(version)
    return found


def find_version(client: Client, name: str, environment: str) -> Op[Version | None]:
    """The current version of the app that goes on under that name or id."""
    if not is_app_id(name):
        version = yield from client.specs.deployed(environment, name)
        return None if version is None else version.value
    record = yield from client.apps.record(name)
    if record is None or record.state == "stopped":
        return None
    version = yield from client.specs.of_record(record)
    return None if version is None else version.value


def stop(registry: Registry) -> Op[None]:
    """End the app, whoever started it."""
    record = yield from _record(registry, "stop")
    yield from clients.current().apps.stop(record)
    registry.attach(None)


def set_tags(registry: Registry, tags: Mapping[str, str]) -> Op[None]:
    """Replace the app's tags."""
    checked = checked_tags(tags)
    record = yield from _record(registry, "set_tags")
    yield from clients.current().apps.set_tags(record.app_id, checked)


def get_tags(registry: Registry) -> Op[dict[str, str]]:
    """The tags of the app on the server."""
    record = yield from _record(registry, "get_tags")
    return (yield from clients.current().apps.tags(record.app_id))


def log_source(registry: Registry) -> Op[LogSource]:
    """The log source that `app.logs` reads."""
    record = yield from _record(registry, "logs")
    return LogSource(record.app_id)


def checked_tags(tags: Mapping[Any, Any]) -> dict[str, str]:
    """The tags; raises InvalidError unless all names and values are str."""
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidError(f"Tags are str to str, and {name!r}: {value!r} is not.")
    return dict(tags)


def _record(registry: Registry, verb: str) -> Op[AppRecord]:
    if registry.app_id is None:
        raise InvalidError(f"`App.{verb}` needs an App that is running, deployed or looked up.")
    record = yield from clients.current().apps.record(registry.app_id)
    if record is None:
        raise NotFoundError(f"App {registry.app_id} has ended.")
    return record
