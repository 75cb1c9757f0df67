"""Handles of instances: the `cls.Obj` that stands for an instance of a user's class, for `self.other.remote()`."""

from __future__ import annotations

import weakref
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_NAME = "_qmodal_obj"
_RUNNING = (CoroutineType, GeneratorType, AsyncGeneratorType)
# Instances of a class with `__slots__` have no room for their handle, most cannot be referenced
# weakly, and equal ones have equal hashes. So they are known by their id, which is theirs for as
# long as the handle lives, because a handle keeps its instance alive.
_beside: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def has_room(user_class: type) -> bool:
    """Whether its instances take any attribute; False for a class with `__slots__` on all levels."""
    return user_class.__dictoffset__ != 0


def stand_for(instance: object, handle: Any) -> None:
    """From now on `handle`, which refers to `instance`, stands for it."""
    if has_room(type(instance)):
        instance.__dict__[_NAME] = handle
    else:
        _beside[id(instance)] = handle


def handle_of(instance: object) -> Any:
    """The handle that stands for the instance, or None."""
    if has_room(type(instance)):
        return instance.__dict__.get(_NAME)
    return _beside.get(id(instance))


def keep(handle: Any, instance: object, result: object) -> None:
    """Keep the handle of an instance without room alive while a coroutine or generator of it runs.

    In `await Model(size=3).predict.local("a")` nothing else refers to it by then.
    """
    if isinstance(result, _RUNNING) and not has_room(type(instance)):
        weakref.finalize(result, _nothing, handle).atexit = False


def _nothing(_handle: object) -> None: ...
