"""Options of redis-py that only some of the versions have which qmodal works with (5 and newer)."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_NOTICES = "redis.maint_notifications"


def without_notices() -> dict[str, Any]:
    """The option by which a connection asks the server for no notices of its maintenance; older ones never ask."""
    if find_spec(_NOTICES) is None:
        return {}
    config = import_module(_NOTICES).MaintNotificationsConfig(enabled=False)
    return {"maint_notifications_config": config}


def with_name_checked(url: str) -> dict[str, Any]:
    """The option by which a TLS server has to be whom its certificate names, which older versions leave out."""
    is_checked = url.startswith("rediss") and "ssl_cert_reqs=none" not in url
    return {"ssl_check_hostname": True} if is_checked and "ssl_check_hostname=" not in url else {}


def known_to(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that the constructors of this kind of connection take."""
    taken = {
        name
        for each in kind.__mro__
        for name in inspect.signature(each.__init__).parameters  # type: ignore[misc]
    }
    return {name: value for name, value in options.items() if name in taken}
