"""One check for each option of a decorator: it returns the value to keep, or raises InvalidError."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from qmodal.exception import InvalidError
from qmodal.spec.needs.gpus import GpuNeed
from qmodal.spec.resource import ImageResource, SecretResource, VolumeResource
from qmodal.spec.retries import Retries

# Accepted so that programs written for Modal run unchanged; nothing on a self-hosted box reads them.
RECORDED: dict[str, Any] = {
    "proxy": None,
    "nonpreemptible": False,
    "block_network": False,
    "i6pn": None,
    "routing_region": None,
    "restrict_modal_access": False,
    "experimental_options": None,
    "network_file_systems": {},
    "include_source": None,
}
# What follows names a trial of the hosted system: accepted, and not even recorded.
EXPERIMENTAL = "_experimental_"
LONGEST_TIMEOUT = 24 * 60 * 60
HIGHEST_PRIORITY = 100
LONGEST_SCALEUP_WINDOW = 300


def check_whole(name: str, value: object, low: int, high: int | None) -> int:
    """An integer between the limits; bool is none."""
    if type(value) is not int:
        raise InvalidError(f"`{name}` must be an int, not {type(value).__name__}")
    if high is not None and not low <= value <= high:
        raise InvalidError(f"`{name}` must be between {low} and {high} (inclusive), not {value}")
    if value < low:
        raise InvalidError(f"`{name}` must be at least {low}, not {value}")
    return value


def check_amount(min_containers: int, max_containers: int | None) -> None:
    """The two limits of a pool against each other."""
    if max_containers is not None and min_containers > max_containers:
        raise InvalidError(
            f"`min_containers` ({min_containers}) cannot be greater than "
            f"`max_containers` ({max_containers})",
        )


def _anything(_: str, value: Any) -> Any:
    return value


def _image(_: str, value: Any) -> ImageResource | None:
    if value is not None and not isinstance(value, ImageResource):
        raise InvalidError(f"Expected modal.Image object. Got {type(value)}.")
    return value


def _whole(low: int, high: int | None = None) -> Callable[[str, Any], int | None]:
    def check(name: str, value: Any) -> int | None:
        return None if value is None else check_whole(name, value, low, high)

    return check


def _flag(name: str, value: Any) -> bool | None:
    if value is not None and type(value) is not bool:
        raise InvalidError(f"`{name}` must be True or False, not {value!r}")
    return value


def _text(name: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise InvalidError(f"`{name}` must be a string that is not empty, not {value!r}")
    return value


def _window(name: str, value: Any) -> int | None:
    if type(value) is int and not 2 <= value <= 3600:
        raise InvalidError(f"`{name}` must be between 2 and 3600 (inclusive)")
    return None if value is None else check_whole(name, value, 2, 3600)


def _timeout(name: str, value: Any) -> int:
    if value is None:
        raise InvalidError(f"`{name}` cannot be None: give seconds, up to {LONGEST_TIMEOUT}")
    return check_whole(name, value, 1, LONGEST_TIMEOUT)


def _retries(_: str, value: Any) -> Retries | None:
    return Retries.of(value)


def _env(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value or {}, Mapping):
        raise InvalidError(f"`{name}` must be a dict of strings, not {type(value).__name__}")
    kept = {key: text for key, text in (value or {}).items() if text is not None}
    for key, text in kept.items():
        if not (isinstance(key, str) and isinstance(text, str)):
            raise InvalidError(f"`{name}` must map strings to strings; {key!r} does not")
        if not key or "=" in key or "\0" in key + text:
            raise InvalidError(f"`{name}`: {key!r} cannot be an environment variable")
    return kept


def _secrets(name: str, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        raise InvalidError(f"`{name}` must be a list of modal.Secret, not {type(value).__name__}")
    for secret in value:
        if not isinstance(secret, SecretResource):
            raise InvalidError(f"`{name}` must be a list of modal.Secret, but holds {secret!r:.40}")
    return tuple(value)


def _gpu(name: str, value: Any) -> str | tuple[str, ...] | None:
    if not value:
        return None
    wanted = value if isinstance(value, list | tuple) else [value]
    for kind in wanted:
        if not isinstance(kind, str):
            raise InvalidError(f'`{name}` must look like "A100" or "A100:2", not {kind!r}')
        GpuNeed.parse(kind, name)
    return value if isinstance(value, str) else tuple(wanted)


def _volumes(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise InvalidError(f"`{name}` must be a dict from path to volume")
    mounted: dict[str, Any] = {}
    for path, volume in (value or {}).items():
        if not isinstance(path, str | PurePosixPath) or not PurePosixPath(path).is_absolute():
            raise InvalidError(f"`{name}`: {path!r} must be an absolute path")
        if not isinstance(volume, VolumeResource):
            raise InvalidError(
                f"`{name}`: {path} must have a modal.Volume or modal.CloudBucketMount, "
                f"not {type(volume)}"
            )
        if any(volume is other for other in mounted.values()):
            raise InvalidError(f"`{name}`: the same volume cannot be mounted at two paths")
        mounted[str(PurePosixPath(path))] = volume
    return mounted


def _quantity(*types: type) -> Callable[[str, Any], Any]:
    """A positive number, or a pair of them: what is reserved, and the limit."""

    def check(name: str, value: Any) -> Any:
        pair = value if isinstance(value, tuple | list) else (value,)
        if value is None:
            return None
        if len(pair) > 2 or not all(type(v) in types and 0 < v < float("inf") for v in pair):
            wanted = " or ".join(t.__name__ for t in types)
            raise InvalidError(
                f"`{name}` must be {wanted} above 0, or a pair of them, not {value!r}"
            )
        if not pair or pair[0] > pair[-1]:
            raise InvalidError(f"`{name}`: the request {pair!r} cannot be above its limit")
        return tuple(pair) if isinstance(value, tuple | list) else value

    return check


def _region(name: str, value: Any) -> str | tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        return _text(name, value)
    if not isinstance(value, Collection) or not all(isinstance(each, str) for each in value):
        raise InvalidError(f"`{name}` must be a string or a list of strings, not {value!r}")
    return tuple(value)


def _share(name: str, value: Any) -> float | None:
    if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
        raise InvalidError(f"`{name}` must be a number from 0 to 1, not {value!r}")
    return None if value is None else float(value)


def _one_of(*words: str) -> Callable[[str, Any], str | None]:
    def check(name: str, value: Any) -> str | None:
        if value is not None and not (isinstance(value, str) and value in words):
            either = " or ".join(f'"{word}"' for word in words)
            raise InvalidError(f"`{name}` must be {either}, not {value!r}")
        return value

    return check


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "image": _image,
    "schedule": _anything,
    "env": _env,
    "secrets": _secrets,
    "gpu": _gpu,
    "volumes": _volumes,
    "cpu": _quantity(int, float),
    "memory": _quantity(int),
    "ephemeral_disk": _whole(1),
    "min_containers": _whole(0),
    "max_containers": _whole(1),
    "buffer_containers": _whole(0),
    "scaledown_window": _window,
    "scaleup_softness": _share,
    "scaleup_window": _whole(0, LONGEST_SCALEUP_WINDOW),
    "retries": _retries,
    "timeout": _timeout,
    "startup_timeout": _whole(1, LONGEST_TIMEOUT),
    "cloud": _text,
    "region": _region,
    "single_use_containers": _flag,
    "enable_memory_snapshot": _flag,
    "serialized": _flag,
    "fork": _flag,
    "delivery": _one_of("at_least_once", "at_most_once"),
    "on_crash_loop": _one_of("fail", "hold"),
    "priority": _whole(1, HIGHEST_PRIORITY),
}
