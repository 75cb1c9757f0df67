"""Renewal: an app that was typed in is published again once what it consists of has changed.

What was typed in is pickled with the functions and globals that it uses, so to pickle it again says whether any of these
has changed. Calls are pinned to the version since which their function is as it is: new code has containers of its own
from its first call on, calls that were made before end with the old code, and what has not changed keeps its containers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from qmodal.client.notebook import around_cells
from qmodal.exception import Error
from qmodal.runner.gateway import declares_web, gateway_ready, start_gateway
from qmodal.runner.publish import code_of, publish_draft, version_of, warm_pools

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.output.screen import Follower
    from qmodal.runner.heartbeat import Heartbeat
    from qmodal.spec.documents import Version
    from qmodal.spec.registry import Registry
    from qmodal.store.apps import AppState
    from qmodal.transport.operation import Op

log = logging.getLogger("qmodal")


class Renewal:
    """Publishes one app that runs; `follower` shows its output, if anybody does."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        state: AppState,
        heartbeat: Heartbeat,
        follower: Follower | None,
    ) -> None:
        self._client = client
        self._registry = registry
        self._state = state
        self._heartbeat = heartbeat
        self._follower = follower
        self._code = code_of(registry)
        self._looked_at = dict(registry.entries)
        self._is_used = True

    @contextmanager
    def active(self) -> Iterator[None]:
        """During the block, calls and cells publish the app again if it has changed."""
        self._registry.renew = self.renew
        try:
            with around_cells(self.begin_cell, self.end_cell, self.catch_up):
                yield
        finally:
            self._registry.renew = None

    def renew(self) -> Op[None]:
        """Publish the app if it has changed; raises as `publish`."""
        self._is_used = True
        registry = self._registry
        self._looked_at = dict(registry.entries)
        before = registry.version
        if before is None:
            return
        draft = version_of(
            registry,
            self._code,
            self._client.signer,
            name=before.name,
            environment=before.environment,
            state=self._state,
        )
        draft = dated(draft, before)
        if is_same(draft, before):
            registry.confirm()
        else:
            yield from self._publish(draft, before)

    def _publish(self, draft: Version, before: Version) -> Op[None]:
        client, registry, app_id = self._client, self._registry, before.app_id
        gateway = start_gateway(client, has_web=declares_web(registry))
        # Nobody has asked for a deploy, which ends overrides; and of what was replaced nothing is kept warm.
        overrides = yield from client.apps.overrides(app_id)
        release = yield from publish_draft(
            client, registry, self._code, draft, self._state, app_id=app_id, is_pinned=True
        )
        version = release.version
        warm = {pool.pool for pool in warm_pools(version, is_pinned=True)}
        for pool in warm_pools(before, is_pinned=True):
            if pool.pool not in warm:
                overrides[pool.pool] = {**overrides.get(pool.pool, {}), "min_containers": 0}
        for name, settings in overrides.items():
            yield from client.apps.override(app_id, name, settings)
        self._heartbeat.follow(version.number)
        registry.attach(version, is_pinned=True)
        if gateway:
            yield from gateway_ready(client)

    def begin_cell(self) -> None:
        """Anything may change in it."""
        self._is_used = False
        self._registry.outdate()

    def end_cell(self) -> None:
        """Publish what was defined in it, and wait for what its calls have printed."""
        entries = self._registry.entries
        if any(entry is not self._looked_at.get(tag) for tag, entry in entries.items()):
            try:
                self._client.run(self._registry.renewed())
            except Error as error:
                log.warning("not published, so calls will fail: %s", error)
        if self._is_used:
            self.catch_up()

    def catch_up(self) -> None:
        """Wait for what containers have printed."""
        if self._follower is not None:
            self._follower.catch_up()


def dated(draft: Version, before: Version) -> Version:
    """The draft, where each function that is as it was before says since when."""
    functions = dict(draft.functions)
    for tag, spec in functions.items():
        known = before.functions.get(tag)
        if known is not None and replace(known, since=0) == spec:
            functions[tag] = replace(spec, since=known.since or before.number)
    return replace(draft, functions=functions)


def is_same(draft: Version, before: Version) -> bool:
    """Whether a dated draft has the functions of the version before, and no others."""
    return draft.functions.keys() == before.functions.keys() and all(
        spec.since for spec in draft.functions.values()
    )
