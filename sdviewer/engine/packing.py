"""Frozen values of ours as bytes, for another of our processes: every field of them, by what its annotation says.

Tuples within a `Mapping[str, Any]` arrive as lists, as JSON has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Read = Callable[[Any], Any]

_AS_THEY_ARE = (str, int, float, bool, Any)


def packed(value: Any) -> bytes:
    """A dataclass as bytes; its fields are found by their places."""
    return json.dumps(value, default=_told).encode()


def unpacked(kind: type[T], raw: Any) -> T:
    """What `packed` made of a value of this dataclass.

    Raises:
        TypeError: a field of it is of a kind that cannot be told.
    """
    read: Callable[[Any], T] = _reader(cast("Any", kind))
    return read(json.loads(bytes(raw)))


def _told(value: Any) -> list[Any]:
    if isinstance(value, frozenset):
        return sorted(value)
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__qualname__} cannot be told to another process")
    return [getattr(value, slot.name) for slot in fields(value)]


@cache
def _reader(kind: Any) -> Read:
    """Who makes a value of some kind of what JSON has for it."""
    if kind in _AS_THEY_ARE or get_origin(kind) is Literal:
        return lambda told: told
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        slots = [_reader(hints[slot.name]) for slot in fields(kind)]
        return lambda told: kind(*[read(one) for read, one in zip(slots, told, strict=True)])
    origin, of = get_origin(kind), get_args(kind)
    if origin is UnionType and of[1:] == (NoneType,):
        read = _reader(of[0])
        return lambda told: None if told is None else read(told)
    if origin is tuple and of[-1] is not ...:
        parts = list(map(_reader, of))
        return lambda told: tuple([read(one) for read, one in zip(parts, told, strict=True)])
    if origin in (tuple, Sequence, frozenset):
        make, item = (frozenset if origin is frozenset else tuple), _reader(of[0])
        return make if of[0] in _AS_THEY_ARE else lambda told: make([item(one) for one in told])
    if origin is Mapping:
        name, item = (int if of[0] is int else str), _reader(of[1])
        return lambda told: {name(key): item(one) for key, one in told.items()}
    raise TypeError(f"{kind} cannot be told to another process")
