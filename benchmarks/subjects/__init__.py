"""The subjects by name. To add one: a line here, and a module `on_<name>` with a class `Subject`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How to find out whether a subject is installed, and what its figures depend on."""

    module: str
    packages: tuple[str, ...]
    needs_server: bool = True
    knows_unix: bool = False
    # Whether it is a queue between processes that do not know each other, as qmodal is.
    is_peer: bool = True
    # Whether maps are measured once more with one input an entry; for the others that is no choice.
    runs_unpacked: bool = False


def _peer(module: str, *packages: str) -> Entry:
    return Entry(module=module, packages=(*packages, "redis", "hiredis", "uvloop"))


RAW, OURS, POOL = "raw", "qmodal", "pool"
SUBJECTS: dict[str, Entry] = {
    RAW: Entry(
        module="hiredis",
        packages=("hiredis", "msgpack"),
        knows_unix=True,
        is_peer=False,
        runs_unpacked=True,
    ),
    OURS: Entry(
        module="qmodal",
        packages=("qmodal", "redis", "hiredis"),
        knows_unix=True,
        is_peer=False,
        runs_unpacked=True,
    ),
    POOL: Entry(module="concurrent.futures", packages=(), needs_server=False, is_peer=False),
    "rq": _peer("rq", "rq"),
    "celery": _peer("celery", "celery", "kombu"),
    "dramatiq": _peer("dramatiq", "dramatiq"),
    "huey": _peer("huey", "huey"),
    "arq": _peer("arq", "arq"),
    "taskiq": _peer("taskiq_redis", "taskiq", "taskiq-redis"),
    "saq": _peer("saq", "saq"),
    "streaq": _peer("streaq", "streaq", "coredis"),
    "docket": _peer("docket", "pydocket"),
    "ardiq": _peer("ardiq", "ardiq"),
    "ray": Entry(module="ray", packages=("ray",), needs_server=False),
}
