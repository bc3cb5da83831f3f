"""Values on their way to another process: no field of theirs may be lost, also none that is added later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.proposing import Proposal
from sdviewer.repair.matching.found import Fold, Found, Matching
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.target import Target


def filled(kind: Any) -> Any:
    """A value of a kind in which nothing is as a field is by default."""
    origin, of = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        slots = fields(kind)
        return kind(*[not one.default if hints[one.name] is bool else filled(hints[one.name]) for one in slots])
    if origin is tuple and of[-1] is not ...:
        return tuple(map(filled, of))
    if origin in (tuple, Sequence):
        empty = (None,) if get_origin(of[0]) is UnionType else ()
        return (filled(of[0]), *empty, filled(of[0]))
    if origin is frozenset:
        return frozenset({filled(of[0])})
    if origin is Mapping:
        return {filled(of[0]): filled(of[1])}
    if origin is UnionType:
        return filled(of[0])
    if origin is Literal:
        return of[-1]
    plain = {str: "a\udc80 ünd", int: 7, bool: True, float: 0.5, Any: ["b", {"c": [1, None]}]}
    return plain[kind]


@pytest.mark.parametrize("kind", [KeyTable, Target, Matching, Found, Fold, Suggestion, Caution, Proposal])
def test_that_every_field_arrives(kind: Any) -> None:
    value = filled(kind)
    for slot in fields(kind):
        assert getattr(value, slot.name) != slot.default, f"{slot.name} proves nothing"
    assert unpacked(kind, packed(value)) == value


@dataclass(frozen=True)
class Odd:
    field: object


def test_that_what_cannot_be_told_is_refused_and_not_left_out() -> None:
    with pytest.raises(TypeError, match="cannot be told"):
        packed(Odd(object()))
    with pytest.raises(TypeError, match="cannot be told"):
        unpacked(Odd, b'["x"]')
