"""Publishing: an app's code as a bundle, its functions as a signed version, its warm pools."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from qmodal.client.client import Client
from qmodal.exception import InternalFailure, InvalidError, NotFoundError
from qmodal.functions.definition import publishing
from qmodal.functions.submission import open_pool
from qmodal.functions.target import label_of
from qmodal.source.bundle import Bundle, collect, pack, roots_of
from qmodal.source.imports import locate
from qmodal.source.loader import RENAMED, alias_main, is_typed, main_origin
from qmodal.spec.documents import PoolSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.spec.registry import Registry
from qmodal.spec.variables import check_keys, named
from qmodal.spec.web import has_web, routes_of, web_functions
from qmodal.store.apps import LIFETIMES_MS, AppRecord, AppState
from qmodal.transport.operation import Op
from qmodal.wire.envelope import PYTHON, MalformedError
from qmodal.wire.ids import new_app_id
from qmodal.wire.signing import Signer

MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class Release:
    """The version that is current after publishing; `is_new` is False if the same was current before."""

    version: Version
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code of an app; `main` is the module that `__main__` of this process is called there."""

    bundle: Bundle | None
    module: str
    main: str | None
    files: tuple[str, ...] = ()


def code_of(registry: Registry) -> Code:
    """Collect the code of the module that defines the app's functions.

    Raises InvalidError for functions that no file defines, RequestSizeError for too much.
    """
    modules = {
        entry.raw.__module__: entry
        for entry in registry.entries.values()
        if not entry.options.serialized
    }
    if not modules:
        return Code(bundle=None, module="", main=None)
    # A file that runs as a script is found by its path only, all others by their names.
    name, *others = sorted(modules, key=lambda name: not _is_script(name))
    file, module = _origin(name)
    if file is None and module is None:
        raise InvalidError(
            f"The functions of this app are defined in {name!r}, which is no file; "
            "put them into one, or use `serialized=True`."
        )
    roots = roots_of(file)
    extra = [other for other in others if locate(other.partition(".")[0], roots)]
    collection = collect(file, module, roots, extra)
    main = collection.entry if name == "__main__" else None
    if main is not None:
        # Results speak of the module by that name; importing it would run the program again.
        alias_main(main)
    return Code(
        bundle=pack(collection),
        module=collection.entry,
        main=main,
        files=tuple(str(file.path) for file in collection.files),
    )


def is_typed_in(registry: Registry) -> bool:
    """Whether the app is one of a notebook: its functions were typed in, or will be."""
    modules = {entry.raw.__module__ for entry in registry.entries.values()}
    return is_typed() and (not modules or "__main__" in modules)


def _is_script(name: str) -> bool:
    return name == "__main__" or name.startswith(RENAMED)


def _origin(name: str) -> tuple[Path | None, str | None]:
    """A file that was loaded as a script, or else the name of a module."""
    if name == "__main__":
        return main_origin()
    found = sys.modules.get(name)
    file = getattr(found, "__file__", None)
    is_package = hasattr(found, "__path__") or "." in name
    if is_package or file is None:
        return None, name
    return Path(file), None


def version_of(
    registry: Registry,
    code: Code,
    signer: Signer,
    *,
    name: str,
    environment: str,
    state: AppState,
    tag: str = "",
) -> Version:
    """The version to publish, without its place; the values of its secrets are sealed."""
    functions = {}
    for name_there, entry in registry.entries.items():
        module = entry.raw.__module__
        with publishing(registry):
            spec = entry.spec(
                module=code.module if module == "__main__" else module, signer=signer, app=name
            )
        functions[name_there] = spec
    return Version(
        app_id="",
        name=name,
        environment=environment,
        number=0,
        is_ephemeral=state != "deployed",
        python=PYTHON,
        bundle=code.bundle.digest if code.bundle else None,
        main=code.main,
        functions=functions,
        tag=tag,
    )


def publish(
    client: Client,
    registry: Registry,
    *,
    name: str,
    environment: str,
    state: AppState,
    tag: str = "",
    app_id: str = "",
    is_recreating: bool = False,
) -> Op[Release]:
    """Publish the app; a deployed one, or one with an `app_id`, gets the next version under its id.

    What is the same as the current version stays that version; its overrides end all the same.
    `is_recreating`: containers of older versions leave at once.
    """
    code = code_of(registry)
    draft = version_of(
        registry, code, client.signer, name=name, environment=environment, state=state, tag=tag
    )
    return (
        yield from publish_draft(
            client,
            registry,
            code,
            draft,
            state,
            app_id=app_id,
            is_recreating=is_recreating,
            is_pinned=state != "deployed" and is_typed_in(registry),
        )
    )


def publish_draft(
    client: Client,
    registry: Registry,
    code: Code,
    draft: Version,
    state: AppState,
    *,
    app_id: str = "",
    is_recreating: bool = False,
    is_pinned: bool = False,
) -> Op[Release]:
    """As `publish`, what was made of the app by `version_of` already; `is_pinned`: calls will be for this very version."""
    client.publisher.check()
    web_functions(draft)  # raises before anything is published, as what follows does
    yield from _check_secrets(client, draft)
    if code.bundle is not None:
        yield from client.apps.store_code(code.bundle.digest, code.bundle.content)
    for _ in range(MOST_TRIES):
        place = yield from _place(client, draft, app_id)
        same = replace(draft, app_id=place.app_id, number=place.number)
        is_new = not (yield from _is_current(client, same))
        version = replace(same, number=place.number + 1) if is_new else same
        record = AppRecord(
            app_id=place.app_id,
            name=draft.name,
            environment=draft.environment,
            state=state,
            version=version.number,
            least=version.number if is_recreating else 0,
        )
        if (yield from _write(client, record, version)):
            yield from publish_routes(client, version, state)
            if is_new:
                yield from _introduce(client, registry, version, is_pinned=is_pinned)
            else:
                yield from client.apps.reset(place.app_id)
            return Release(version, is_new=is_new)
    raise InternalFailure(f"other deploys of {draft.name!r} were always faster; try again")


def _check_secrets(client: Client, version: Version) -> Op[None]:
    """Raise NotFoundError unless the secrets that its functions name are there, with the keys that they require."""
    for spec in version.functions.values():
        for secret in named(spec.options.get("secrets", ()), version.environment):
            found = yield from client.secrets.find(secret.environment, secret.name)
            check_keys(secret, None if found is None else found.keys)


def _write(client: Client, record: AppRecord, version: Version) -> Op[bool]:
    """Also what is current already: its code may be there from before a deploy kept it."""
    document, now = document_of(client, version), time.time_ns() // 1_000_000
    bundle = version.bundle
    return (yield from client.apps.publish(record, document=document, now=now, bundle=bundle))


def publish_routes(client: Client, version: Version, state: AppState) -> Op[None]:
    """Have what leads to the app lead to its web functions of this version, if that is still the current one."""
    routes = routes_of(version)
    if routes or version.number > 1:  # there are none of an earlier one
        yield from client.routes.publish(
            version.app_id, version.number, routes, lifetime=LIFETIMES_MS.get(state, 0)
        )


def _introduce(
    client: Client, registry: Registry, version: Version, *, is_pinned: bool
) -> Op[None]:
    yield from client.apps.set_tags(version.app_id, registry.tags)
    yield from client.fleet.wake()
    for pool in warm_pools(version, is_pinned=is_pinned):
        yield from open_pool(client, pool)
        yield from client.pools.join(pool.pool)


@dataclass(frozen=True, slots=True)
class _Place:
    app_id: str
    number: int  # of the current version, 0 if there is none


def _place(client: Client, draft: Version, app_id: str) -> Op[_Place]:
    if not draft.is_ephemeral:
        return (yield from _deployed_place(client, draft))
    found = app_id
    if not found:
        return _Place(new_app_id(), 0)
    record = yield from client.apps.record(found)
    if record is not None and record.state == "stopped":
        raise NotFoundError(f"app {found} has stopped; start it again to publish more of it.")
    return _Place(found, record.version if record else 0)


def _deployed_place(client: Client, draft: Version) -> Op[_Place]:
    """The place of the deployed app of that name; raises MismatchError if the name leads to another one."""
    found = yield from client.apps.find(draft.environment, draft.name)
    record = None if found is None else (yield from client.apps.record(found))
    if record is None or record.state == "stopped":
        return _Place(new_app_id(), 0)
    client.specs.check_title(record, draft.environment, draft.name)
    with suppress(MalformedError):  # of another release
        # Without it nothing says that the app is of that name: the record is not signed.
        if (yield from client.specs.of_record(record)) is None:
            raise NotFoundError(
                f"version {record.version} of {draft.name!r}, which is current, is gone: end what is left of the app "
                f"with `qmodal app stop {record.app_id}`, and deploy it again."
            )
    return _Place(record.app_id, record.version)


def _is_current(client: Client, version: Version) -> Op[bool]:
    """Whether that very version is published already; its code is there then."""
    if not version.number:
        return False
    document = yield from client.apps.version(version.app_id, version.number)
    return document == document_of(client, version)


def document_of(client: Client, version: Version) -> bytes:
    """The version as it is published; raises ConfigurationError unless this process may do so."""
    return client.publisher.sign(version.seal(client.signer))


def warm_pools(version: Version, *, is_pinned: bool) -> Iterator[PoolSpec]:
    """The pools with a minimum, which exist from its publication on; those of parameters do once they are called.

    Requests find the pools that are not pinned.
    """
    for spec in version.functions.values():
        if FunctionOptions.from_plain(spec.options).min_containers and spec.parameters == ():
            number = (spec.since or version.number) if is_pinned and not has_web(spec) else 0
            label = label_of(spec.tag.removesuffix(".*"), number)
            yield PoolSpec(app_id=version.app_id, function=spec.tag, label=label, number=number)
