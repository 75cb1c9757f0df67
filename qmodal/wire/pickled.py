"""The one door to pickle and cloudpickle; imported late, so that plain payloads never load either."""

from __future__ import annotations

import io
import pickle
import sys
from types import FunctionType
from typing import Any

import cloudpickle

PROTOCOL = 5
_BY_VALUE = b"cloudpickle.cloudpickle"


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Cloudpickle's choice, except that what `__main__` defines at its top may go by reference."""

    def __init__(self, file: io.BytesIO, *, main_by_reference: bool) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._main_by_reference = main_by_reference

    def reducer_override(self, obj: Any) -> Any:
        """What pickle asks before anything else; a string means: the global of that name."""
        if self._main_by_reference and isinstance(obj, FunctionType | type) and _is_of_main(obj):
            return obj.__qualname__
        return super().reducer_override(obj)


def dumps(value: object, *, main_by_reference: bool = False) -> bytes:
    """The pickle of `value`: by reference what can be imported, by value what cannot."""
    file = io.BytesIO()
    _Pickler(file, main_by_reference=main_by_reference).dump(value)
    return file.getvalue()


def dumps_by_reference(value: object) -> bytes:
    """The pickle of `value` without any code in it: as plain pickle does it, or raises what that raises."""
    return pickle.dumps(value, PROTOCOL)


def dumps_tree(value: object) -> bytes:
    """A pickle that equal trees share, whichever of their leaves are the same object; else `dumps`."""
    file = io.BytesIO()
    pickler = _Pickler(file, main_by_reference=True)
    # Without the memo ("a", "a") has one pickle, not two that depend on interning; cycles need it.
    pickler.fast = True
    try:
        pickler.dump(value)
    except (ValueError, RecursionError):
        return dumps(value, main_by_reference=True)
    return file.getvalue()


def loads(pickled: bytes) -> Any:
    """The value of a pickle; raises whatever the value's own code raises."""
    return pickle.loads(pickled)


def holds_code(pickled: bytes) -> bool:
    """Whether code travels inside, which only the same minor version of Python can run."""
    return _BY_VALUE in pickled


def _is_of_main(obj: FunctionType | type) -> bool:
    if obj.__module__ != "__main__":
        return False
    found: object = sys.modules.get("__main__")
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj
