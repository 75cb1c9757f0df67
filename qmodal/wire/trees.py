"""Arguments and results to msgpack, if no container is in them twice.

msgpack would write such a container again for each place where it stands: one list would come back as
two, and one that doubles from level to level has no end. Pickle keeps what is one, one. Short
tuples are as good as equal ones, and stand for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from qmodal.wire.foreign import module_and_name, type_name
from qmodal.wire.plain import (
    CONTAINERS,
    MAX_DEPTH,
    SCALARS,
    NotPlain,
    pack_checked,
    pack_scalar_columns,
)

_FROZEN = frozenset({tuple, frozenset})
_SHORT = 16
# Where nothing but msgpack is allowed, lists may be there again and again until they are so many.
MOST_COPIES = 1_000_000


class _SharedError(NotPlain):
    """A container stands in more than one place."""


def pack_value(value: object, *, may_share: bool = False) -> bytes:
    """The bytes of `plain.pack`; raises NotPlain also for a container that is there twice.

    `may_share`: the copies of such a one are no harm, as long as they have an end.
    """
    try:
        if type(value) not in SCALARS and not _is_flat(value):
            _check([(value,)], 0, may_share=may_share)
    except TypeError as reason:  # a type that cannot be hashed
        raise NotPlain(f"{type_name(value)} is not plain: {reason}") from None
    return pack_checked(value)


def pack_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, may_share: bool = False
) -> bytes:
    """As `pack_value([[*args], kwargs])`, in one look if the arguments are scalars."""
    try:
        nested = [each for each in args if type(each) not in SCALARS]
        if kwargs:
            nested += [each for each in kwargs.values() if type(each) not in SCALARS]
        if nested and not (len(nested) == 1 and _is_flat(nested[0])):
            _check([nested], 2, may_share=may_share)
    except TypeError as reason:
        raise NotPlain(f"an argument is not plain: {reason}") from None
    return pack_checked([[*args], kwargs])


def pack_columns(kwargs: dict[str, Any], columns: Sequence[Sequence[Any]]) -> bytes:
    """As `pack([kwargs, lists of the columns])`, in one look if all of them hold scalars only.

    What several inputs have in common each gets for itself; NotPlain is for what is twice in one.
    """
    if not kwargs and SCALARS.issuperset(map(type, chain.from_iterable(columns))):
        return pack_scalar_columns(columns)
    nested = [column for column in columns if not SCALARS.issuperset(map(type, column))]
    if nested or not SCALARS.issuperset(map(type, kwargs.values())):
        _check_inputs(kwargs.values(), nested)
    return pack_checked([kwargs, [*map(list, columns)]])


def _is_flat(value: Any) -> bool:
    """Whether it is a list, or the like, of scalars, which needs no closer look."""
    kind = type(value)
    if kind is list or kind is tuple:
        return SCALARS.issuperset(map(type, value))
    return kind is dict and SCALARS.issuperset(map(type, chain(value, value.values())))


def _check_inputs(common: Iterable[Any], columns: Sequence[Sequence[Any]]) -> None:
    distinct = [list({id(each): each for each in column}.values()) for column in columns]
    try:
        _check([common, *distinct], 3)
    except _SharedError:  # perhaps by several inputs only
        for row in zip(*columns, strict=True):
            _check([common, row], 3)


def _check(groups: list[Iterable[Any]], level: int, *, may_share: bool = False) -> None:
    """Raise NotPlain for what msgpack would change, and for what is there twice."""
    seen: set[int] = set()
    for _ in range(level, MAX_DEPTH + 1):
        nodes = [node for node in chain.from_iterable(groups) if type(node) not in SCALARS]
        if not nodes:
            return
        ids = set(map(id, nodes))
        if len(ids) < len(nodes) or (seen and not seen.isdisjoint(ids)):
            _check_shared(nodes, set(seen), may_share=may_share)
        seen |= ids
        groups = []
        for node in nodes:
            kind = type(node)
            if kind not in CONTAINERS:
                raise NotPlain(f"{'.'.join(module_and_name(kind))} is not a plain type")
            groups.append(node)
            if kind is dict:
                groups.append(node.values())
    raise NotPlain(f"it is not plain: nested more than {MAX_DEPTH} deep")


def _check_shared(nodes: list[Any], seen: set[int], *, may_share: bool) -> None:
    for node in nodes:
        if id(node) in seen and not _is_short(node):
            if may_share:
                _count_copies(nodes)
                return
            raise _SharedError(f"a {type(node).__name__} is in it more than once")
        seen.add(id(node))


def _is_short(node: Any) -> bool:
    return type(node) in _FROZEN and len(node) <= _SHORT and SCALARS.issuperset(map(type, node))


def _count_copies(nodes: list[Any]) -> None:
    """Raise NotPlain if written one by one they, and what is in them, are too many."""
    sizes: dict[int, int] = {}
    if sum(_size(node, sizes, 0) for node in nodes) > MOST_COPIES:
        raise NotPlain(
            "it is not plain: the same lists are in it again and again, which makes more than "
            f"{MOST_COPIES} of them"
        )


def _size(node: Any, sizes: dict[int, int], depth: int) -> int:
    """How many containers are written for this one; `sizes` of those that are known."""
    if depth > MAX_DEPTH:
        raise NotPlain(f"it is not plain: nested more than {MAX_DEPTH} deep")
    if id(node) not in sizes:
        parts = chain(node, node.values()) if type(node) is dict else node
        inner = (part for part in parts if type(part) in CONTAINERS)
        sizes[id(node)] = 1 + sum(_size(part, sizes, depth + 1) for part in inner)
    return sizes[id(node)]
