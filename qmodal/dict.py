"""Dict: a dictionary on the server, which all containers and callers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, ClassVar, TypeVar

from qmodal.client.client import Client, current
from qmodal.client.deprecation import Removed
from qmodal.client.quick import UNUSUAL, quick_verb
from qmodal.client.verb import Stream, stream_verb, verb
from qmodal.exception import RequestSizeError
from qmodal.resources.ephemeral import EphemeralContext, Twin
from qmodal.resources.manager import ObjectManager
from qmodal.resources.stored import StoredObject, created_at
from qmodal.resources.values import bodies_of, open_value, seal, small_body
from qmodal.store.objects.dicts import SteadyDict, is_noted
from qmodal.store.objects.names import ObjectKind
from qmodal.store.objects.sealed import entry_place, pack_key, unpack_key
from qmodal.transport.operation import Op
from qmodal.types import DictInfo

MOST_REQUEST_BYTES, MOST_ENTRIES, MOST_COUNTED = 100 * 1024 * 1024, 10_000, 100_000


class _NoDefault:
    """Stands for a default that was not given."""

    def __repr__(self) -> str:
        return "<unset>"


_NO_DEFAULT: Any = _NoDefault()
R = TypeVar("R")


def _ephemeral(
    *, client: Any = None, environment_name: str | None = None
) -> EphemeralContext[Dict]:
    """A dictionary that lasts as long as the `with` (or `async with`) block that this begins.

    >>> with qmodal.Dict.ephemeral() as d:
    ...     d["a"] = 1
    """
    return EphemeralContext(Dict, environment_name)


def _get_now(client: Client, of: Dict, key: Any, default: Any = None) -> Any:
    """As `Dict.get`, for a thread: one round trip if the entry is there."""
    object_id = of._id
    if object_id is None:
        return UNUSUAL
    packed, dicts = pack_key(key), client.dicts
    replies = client.blocking.at_once(dicts.packed_get(object_id, packed), 2)
    if replies is None:
        return UNUSUAL
    signed, hour = replies
    if not signed or not is_noted(hour):
        signed = client.run(dicts.found(object_id, packed, replies))
        if signed is None:
            return default
    return open_value(client, entry_place(object_id, packed), signed)


def _getitem_now(client: Client, of: Dict, key: Any) -> Any:
    value = _get_now(client, of, key, _NO_DEFAULT)
    if value is _NO_DEFAULT:
        raise of._no_key(key)
    return value


def _put_now(
    client: Client, of: Dict, key: Any, value: Any, *, skip_if_exists: bool = False
) -> Any:
    """As `Dict.put`, for a thread and a small plain value."""
    object_id = of._id
    if object_id is None or skip_if_exists:
        return UNUSUAL
    packed, dicts = pack_key(key), client.dicts
    body = small_body(value)
    if body is None:
        return UNUSUAL
    signed = client.signer.sign_at(entry_place(object_id, packed), body)
    # What is sent in vain is sent again by the operation: the same, once more.
    if dicts.is_known(object_id, packed):
        put = dicts.packed_put_again(object_id, packed, signed)
        replies = client.blocking.at_once(put, 3)
        return True if replies is not None and is_noted(replies[1]) else UNUSUAL
    steady = dicts.steady.get(object_id)
    put_new = None if steady is None else steady.packed(packed, signed)
    if put_new is not None:
        replies = client.blocking.at_once(put_new, 6)
        if replies is None or not SteadyDict.has_put(replies):
            return UNUSUAL
    else:
        now = monotonic()
        replies = client.blocking.at_once(dicts.packed_put(object_id, packed, signed), 1)
        if replies is None or replies[0] < 1:
            return UNUSUAL
        if replies[0] > 1:
            dicts.know_steady(object_id, replies[0], now)
    dicts.know(object_id, packed)
    return True


def _setitem_now(client: Client, of: Dict, key: Any, value: Any) -> Any:
    return UNUSUAL if _put_now(client, of, key, value) is UNUSUAL else None


class Dict(StoredObject):
    """A dictionary on the server: what one container puts, any other one (or a caller) gets.

    Values are copies: to change one, put it again. An entry that nobody reads or puts for seven days goes.

    >>> prices = qmodal.Dict.from_name("prices", create_if_missing=True)
    >>> prices["apple"] = 3
    >>> prices.get("pear", 0)
    0
    """

    __slots__ = ()
    _kind: ClassVar[ObjectKind] = "dict"
    objects = ObjectManager["Dict"]()
    ephemeral = Twin(_ephemeral)
    delete = Removed("Dict.objects.delete(name)")
    create_deployed = Removed("Dict.objects.create(name)")

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,
    ) -> Dict:
        """The dictionary of that name, looked up on first use, which raises NotFoundError if there is none.

        Raises InvalidError for a name that none can have.
        """
        return Dict._named(name, environment_name, create=create_if_missing)

    @staticmethod
    def from_id(dict_id: str, client: Any = None) -> Dict:
        """The dictionary of that id (`di-...`); asks nothing of the server. Raises InvalidError for another kind."""
        return Dict._identified(dict_id)

    @verb
    def hydrate(self) -> Op[Dict]:
        """Find out now, rather than on first use, which object this is; returns itself. Raises NotFoundError."""
        return self._hydrated()

    @verb
    def info(self) -> Op[DictInfo]:
        """Its name and when it was made."""
        record = yield from self._record()
        return DictInfo(record.name, created_at(record), None)

    @verb
    def clear(self) -> Op[None]:
        """Remove all entries."""
        object_id = self._id or (yield from self._find())
        yield from current().dicts.clear(object_id)

    @quick_verb(_get_now)
    def get(self, key: Any, default: Any = None) -> Op[Any]:
        """The value of a key, or `default`."""
        packed = pack_key(key)
        object_id = self._id or (yield from self._find())
        client = current()
        signed = yield from client.dicts.get(object_id, packed)
        if signed is None:
            return default
        return open_value(client, entry_place(object_id, packed), signed)

    @verb
    def contains(self, key: Any) -> Op[bool]:
        """Whether there is an entry of that key."""
        return (yield from self._contains(key))

    @verb
    def len(self) -> Op[int]:
        """How many entries there are, 100,000 at most."""
        object_id = self._id or (yield from self._find())
        count = yield from current().dicts.count(object_id)
        return min(count, MOST_COUNTED)

    @quick_verb(_getitem_now)
    def __getitem__(self, key: Any) -> Op[Any]:
        """The value of a key; raises KeyError."""
        value = yield from self.get.op(key, _NO_DEFAULT)
        if value is _NO_DEFAULT:
            raise self._no_key(key)
        return value

    @verb
    def update(self, other: Mapping[Any, Any] | None = None, /, **kwargs: Any) -> Op[None]:
        """Put all entries of a mapping, and of keywords, in one step; 10,000 entries at most."""
        entries = {**(dict(other) if other is not None else {}), **kwargs}
        if len(entries) > MOST_ENTRIES:
            raise RequestSizeError(
                f"Dict.update request is too large: it has {len(entries)} entries, and {MOST_ENTRIES} are allowed."
            )
        if not entries:
            return
        keys = list(map(pack_key, entries))
        object_id = self._id or (yield from self._find())
        client = current()
        sign, flat = client.signer.sign_at, list[bytes]()
        for key, body in zip(keys, bodies_of(client, entries.values()), strict=True):
            flat += (key, sign(entry_place(object_id, key), body))
        _check_size("Dict.update", sum(map(len, flat)))
        yield from client.dicts.put(object_id, flat)

    @quick_verb(_put_now)
    def put(self, key: Any, value: Any, *, skip_if_exists: bool = False) -> Op[bool]:
        """Put an entry; with `skip_if_exists` only if there is none of that key.

        False if it was skipped. Of many who put so at once one gets True, so it makes a lock. Raises
        RequestSizeError above 100 MiB.
        """
        packed = pack_key(key)
        object_id = self._id or (yield from self._find())
        client = current()
        signed = seal(client, entry_place(object_id, packed), value)
        _check_size("Dict.put", len(signed))
        if skip_if_exists:
            return (yield from client.dicts.put_absent(object_id, packed, signed))
        yield from client.dicts.put(object_id, (packed, signed))
        return True

    @quick_verb(_setitem_now)
    def __setitem__(self, key: Any, value: Any) -> Op[None]:
        """Put an entry."""
        yield from self.put.op(key, value)

    @verb
    def pop(self, key: Any, default: Any = _NO_DEFAULT) -> Op[Any]:
        """Remove an entry and return its value, else `default`; raises KeyError if that is not given."""
        packed = pack_key(key)
        object_id = self._id or (yield from self._find())
        client = current()
        # Read first, then removed if it is still the same: no lost reply, nor a value that cannot be rebuilt here, loses it.
        while (signed := (yield from client.dicts.get(object_id, packed))) is not None:
            value = open_value(client, entry_place(object_id, packed), signed)
            if (yield from client.dicts.remove(object_id, packed, signed)):
                return value
        if default is _NO_DEFAULT:
            raise self._no_key(key)
        return default

    @verb
    def __delitem__(self, key: Any) -> Op[None]:
        """Remove an entry; raises KeyError."""
        packed = pack_key(key)
        object_id = self._id or (yield from self._find())
        if not (yield from current().dicts.remove(object_id, packed)):
            raise self._no_key(key)

    @verb
    def __contains__(self, key: Any) -> Op[bool]:
        """Whether there is an entry of that key."""
        return (yield from self._contains(key))

    @stream_verb
    def keys(self) -> Stream[Any]:
        """All keys, in no order; those that are put meanwhile may be among them or not."""
        return _Entries[Any](self, lambda key, _: key, with_values=False)

    @stream_verb
    def values(self) -> Stream[Any]:
        """All values, in no order."""
        return _Entries[Any](self, lambda _, value: value)

    @stream_verb
    def items(self) -> Stream[tuple[Any, Any]]:
        """All keys with their values, in no order."""
        return _Entries[tuple[Any, Any]](self, lambda key, value: (key, value))

    def _contains(self, key: Any) -> Op[bool]:
        packed = pack_key(key)
        object_id = self._id or (yield from self._find())
        return (yield from current().dicts.contains(object_id, packed))

    def _no_key(self, key: Any) -> KeyError:
        return KeyError(f"{key!r} not in dict {self._id}")


def _check_size(what: str, size: int) -> None:
    if size > MOST_REQUEST_BYTES:
        raise RequestSizeError(
            f"{what} request is too large: it has {size} bytes, and {MOST_REQUEST_BYTES} are allowed. "
            "Write large values to shared storage and put the place."
        )


class _Entries(Stream[R]):
    """The entries of a dictionary page by page, each once."""

    __slots__ = ("_cursor", "_dict", "_keys", "_seen", "_select", "_with_values")

    def __init__(
        self, of: Dict, select: Callable[[Any, Any], R], *, with_values: bool = True
    ) -> None:
        self._dict = of
        self._select = select
        self._with_values = with_values
        self._cursor: bytes | None = None  # where the next page begins
        self._keys: list[bytes] = []  # found, and not returned yet
        self._seen: set[bytes] = set()

    def next(self) -> Op[list[R] | None]:
        """The next page; None behind the last."""
        object_id, store = self._dict._id or (yield from self._dict._find()), current().dicts
        if self._cursor is None:
            yield from store.count(
                object_id
            )  # what is too old goes; raises if the dictionary is gone
            self._cursor = b"0"
        elif not self._keys and self._cursor == b"0":
            return None
        if not self._keys:
            self._cursor, found = yield from store.scan(object_id, self._cursor)
            self._keys = [key for key in dict.fromkeys(found) if key not in self._seen]
            self._seen.update(self._keys)
        if not self._keys:
            return []
        return (yield from self._page(object_id))

    def _page(self, object_id: str) -> Op[list[R]]:
        if not self._with_values:
            keys, self._keys = self._keys, []
            return [self._select(unpack_key(key), None) for key in keys]
        client = current()
        read = yield from client.dicts.read(object_id, self._keys)
        self._keys = self._keys[len(read) :]
        return [
            self._select(unpack_key(key), open_value(client, entry_place(object_id, key), signed))
            for key, signed in read
            if signed
        ]
