"""Deploying: publish an app until it is stopped, and replace its older containers gradually or at once."""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass

from qmodal.client import client as clients, context, process
from qmodal.client.client import Client
from qmodal.exception import InvalidError, ServerWarning, UnimplementedError
from qmodal.runner.gateway import declares_web, gateway_ready, start_gateway
from qmodal.runner.publish import publish
from qmodal.runner.shortage import say_impossible
from qmodal.spec.documents import Version
from qmodal.spec.names import check_name
from qmodal.spec.registry import AppLike
from qmodal.transport.operation import Op, Pause

STRATEGIES = ("rolling", "recreate")
RECREATE_SECONDS = 40.0
RECREATE_POLL_SECONDS = 0.1
_TAG = re.compile(r"[A-Za-z0-9._-]{1,50}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployResult:
    """The version that is current after a deploy; `is_new` is False if nothing had changed."""

    app_id: str
    version: int
    is_new: bool


def deploy(
    app: AppLike,
    name: str | None,
    environment: str | None,
    *,
    tag: str = "",
    strategy: str = "rolling",
    allow_empty: bool = False,
) -> Op[DeployResult]:
    """Publish the app under its name; what is the same as before gets no new version.

    `recreate` ends containers of older versions at once, and waits up to 40 s for that. An app without functions
    replaces one that has some with `allow_empty` only: InvalidError.
    """
    if context.is_importing():
        raise InvalidError("app.deploy() cannot be called in global scope.")
    if process.state.eager is not None:
        raise UnimplementedError("Eager mode has no server to deploy to: use `qmodal_stack`.")
    registry = app._registry
    title = name or registry.name
    if title is None:
        raise InvalidError(
            "a deployed App needs a name: `qmodal.App('name')` or `app.deploy(name='name')`."
        )
    check_name("App", title)
    check_release(tag, strategy)
    client = clients.current()
    environment = environment or client.settings.environment
    if not (registry.entries or allow_empty):
        yield from _check_replaces_nothing(client, environment, title)
    gateway = start_gateway(client, has_web=declares_web(registry))
    release = yield from publish(
        client,
        registry,
        name=title,
        environment=environment,
        state="deployed",
        tag=tag,
        is_recreating=strategy == "recreate",
    )
    version = release.version
    registry.description = title
    registry.attach(version, main_by_reference=version.main is not None)
    if release.is_new and strategy == "recreate":
        yield from wait_until_replaced(client, version)
    if gateway:
        yield from gateway_ready(client)
    yield from say_impossible(client, version)
    return DeployResult(app_id=version.app_id, version=version.number, is_new=release.is_new)


def _check_replaces_nothing(client: Client, environment: str, name: str) -> Op[None]:
    """Raise InvalidError if functions are deployed under that name: an app without any would end them all."""
    app_id = yield from client.apps.find(environment, name)
    record = (yield from client.apps.record(app_id)) if app_id else None
    if record is None or record.state != "deployed":
        return
    version = yield from client.specs.version(record.app_id, record.version)
    functions = version.value.functions if version is not None else {}
    if functions:
        raise InvalidError(
            f"this app has no functions, and {name!r} is deployed with {', '.join(sorted(functions))}, which would end. "
            "Is it the right App, and is everything that defines its functions imported? `qmodal deploy --allow-empty` "
            "deploys it all the same; `qmodal app stop` stops what is deployed."
        )


def check_release(tag: str, strategy: str) -> None:
    """Raise InvalidError for a tag or a strategy that cannot be."""
    if tag and not _TAG.fullmatch(tag):
        raise InvalidError(
            f"Invalid deployment tag: {tag!r}. Tags may have up to 50 letters, digits, dashes, "
            "underscores and periods."
        )
    if strategy not in STRATEGIES:
        raise InvalidError(f"`strategy` is {strategy!r}; it may be 'rolling' or 'recreate'.")


def wait_until_replaced(client: Client, version: Version) -> Op[None]:
    """Have older containers ended now; warns if some are still there after 40 s."""
    ends = time.monotonic() + RECREATE_SECONDS
    nudged: set[str] = set()
    while older := (yield from _older(client, version)):
        if time.monotonic() > ends:
            text = ", ".join(sorted(name for names in older.values() for name in names))
            warnings.warn(f"containers of older versions still run: {text}", ServerWarning, 2)
            return
        yield from client.fleet.nudge([worker for worker in older if worker not in nudged])
        nudged |= older.keys()
        yield Pause(RECREATE_POLL_SECONDS)


def _older(client: Client, version: Version) -> Op[dict[str, list[str]]]:
    """The containers of the app's older versions on each box, those of pinned pools left out."""
    listed = yield from client.fleet.living_containers()
    older = {
        worker: [
            each.container
            for each in containers
            if each.app == version.app_id and each.number < version.number and not each.pinned
        ]
        for worker, containers in listed.items()
    }
    return {worker: names for worker, names in older.items() if names}
