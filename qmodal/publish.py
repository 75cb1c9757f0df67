"""Publish an app: its code as a bundle, its functions as a signed version, its warm pools."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qmodal.client import Client
from qmodal.exception import InternalFailure, InvalidError
from qmodal.options import FunctionOptions
from qmodal.source.bundle import Bundle, collect, pack, roots_of
from qmodal.source.loader import alias_main, main_origin
from qmodal.store.apps import AppRecord, AppState
from qmodal.store.exchange import Op
from qmodal.wire.envelope import PYTHON
from qmodal.wire.ids import new_app_id
from qmodal.wire.spec import FunctionSpec, PoolSpec, Version

if TYPE_CHECKING:
    from qmodal.app import App

MOST_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code of an app; `main` is the module that `__main__` of this process is called there."""

    bundle: Bundle | None
    module: str
    main: str | None


def code_of(app: App) -> Code:
    """Collect the code of the module that defines the app's functions.

    Raises InvalidError for functions that no file defines, RequestSizeError for too much.
    """
    modules = {
        entry.raw.__module__: entry
        for entry in app._entries.values()
        if not entry.options.serialized
    }
    if not modules:
        return Code(bundle=None, module="", main=None)
    name = next(iter(modules))
    file, module = _origin(name)
    if file is None and module is None:
        raise InvalidError(
            f"The functions of this app are defined in {name!r}, which is no file; "
            "put them into one, or use `serialized=True`."
        )
    collection = collect(file, module, roots_of(file))
    main = collection.entry if name == "__main__" else None
    if main is not None:
        # Results speak of the module by that name; importing it would run the program again.
        alias_main(main)
    return Code(bundle=pack(collection), module=collection.entry, main=main)


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
    app: App, code: Code, *, app_id: str, name: str, environment: str, number: int, state: AppState
) -> Version:
    """The version to publish."""
    functions = {}
    for tag, entry in app._entries.items():
        module = entry.raw.__module__
        functions[tag] = entry.spec(module=code.module if module == "__main__" else module)
    return Version(
        app_id=app_id,
        name=name,
        environment=environment,
        number=number,
        is_ephemeral=state != "deployed",
        python=PYTHON,
        bundle=code.bundle.digest if code.bundle else None,
        main=code.main,
        functions=functions,
    )


def publish(
    client: Client, app: App, *, name: str, environment: str, state: AppState
) -> Op[Version]:
    """Publish the app; a deployed one gets the next version under its id."""
    code = code_of(app)
    if code.bundle is not None:
        yield from client.apps.store_code(code.bundle.digest, code.bundle.content)
    for _ in range(MOST_TRIES):
        app_id, number = yield from _place(client, name, environment, state)
        version = version_of(
            app,
            code,
            app_id=app_id,
            name=name,
            environment=environment,
            number=number,
            state=state,
        )
        record = AppRecord(
            app_id=app_id, name=name, environment=environment, state=state, version=number
        )
        document = version.seal(client.signer)
        now = time.time_ns() // 1_000_000
        if (yield from client.apps.publish(record, document=document, now=now)):
            yield from _keep_warm(client, version)
            return version
    raise InternalFailure(f"other deploys of {name!r} were always faster; try again")


def _place(client: Client, name: str, environment: str, state: AppState) -> Op[tuple[str, int]]:
    if state == "deployed":
        app_id = yield from client.apps.find(environment, name)
        if app_id is not None:
            record = yield from client.apps.record(app_id)
            return app_id, (record.version if record else 0) + 1
    return new_app_id(), 1


def _keep_warm(client: Client, version: Version) -> Op[None]:
    """Pools with a minimum exist from now on; those of parameters do once they are called."""
    for spec in version.functions.values():
        options = FunctionOptions.from_plain(spec.options)
        if options.min_containers and spec.parameters == ():
            yield from _open(client, version, spec)


def _open(client: Client, version: Version, spec: FunctionSpec) -> Op[None]:
    label = spec.tag.removesuffix(".*")
    pool = PoolSpec(app_id=version.app_id, function=spec.tag, label=label)
    yield from client.pools.open(
        pool.pool,
        spec=pool.seal(client.signer),
        app=version.app_id,
        function=spec.tag,
        label=label,
    )
    yield from client.pools.join(pool.pool)
