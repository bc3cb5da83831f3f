"""Tensor records: a whole `_rebuild_tensor_v2` call recognised by one regular expression.

In a checkpoint nine of ten opcodes belong to such calls, which all look alike. The expression's alternatives differ in
their first byte and have a fixed length from there, so what it matches is what the opcodes say, not something that
looks like it; lengths of strings are compared afterwards, and the memo slots it stores must be consecutive and higher
than all before. What is different in any way is left to the machine's ordinary path.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import Const, Global, Node, TensorRecord

_i4 = struct.Struct("<i").unpack_from


def _record_pattern(string: bytes, put: bytes) -> re.Pattern[bytes]:
    """One whole `_rebuild_tensor_v2` call: `string` is how its fresh strings begin, `put` how memo slots are stored.

    (GET function) MARK
        MARK (GET "storage") (GET storage class) (storage key) (location) (numel) [None, in legacy streams] TUPLE PUT
        BINPERSID
        (offset) (size) (stride) (requires_grad)
        (GET OrderedDict) EMPTY_TUPLE REDUCE PUT
    TUPLE PUT REDUCE PUT
    """
    get = rb"(h.|j.{4})"
    number = rb"(?:K.|M..|J.{4}|\x8a\x05.{5})"
    key = string + rb"([0-9]{1,40})(" + put + rb")"
    location = string + rb"([a-z]{1,20}?|[a-z]{1,20}:[0-9]{1,5})(" + put + rb")"
    up_to_three = number + rb"(?:\x85|" + number + rb"(?:\x86|" + number + rb"\x87))"
    sizes = rb"(\)|" + up_to_three + rb"|\((?:" + number + rb"){4,64}t)((?:" + put + rb")?)"
    persistent = rb"\((h.h.|(?:h.|j.{4}){2})(?:" + key + rb"|" + get + rb")(?:" + location + rb"|" + get + rb")"
    return re.compile(
        rb"%s\(%s(%s)N?t(%s)Q(%s)%s%s([\x88\x89])%s\)R(%s)t(%s)R(%s)"
        % (get, persistent, number, put, number, sizes, sizes, get, put, put, put),
        re.DOTALL,
    )


_WITH_PUTS = _record_pattern(rb"X(.)\0\0\0", rb"q.|r.{4}")
_WITH_MEMOIZE = _record_pattern(rb"\x8c(.)", rb"\x94")
_PUT = re.compile(rb"q.|r.{4}", re.DOTALL)
# n LONG_BINPUTs in a row as one little-endian number: that of slots 0, 1, 2 ..., and what the next first slot adds.
_LONG_PUTS = tuple(
    int.from_bytes(b"".join(struct.pack("<BI", op.LONG_BINPUT, i) for i in range(n)), "little") for n in range(9)
)
_LONG_STEPS = tuple(int.from_bytes(struct.pack("<BI", 0, 1) * n, "little") for n in range(9))

_FIRST_SLOT = attrgetter("first_slot")


class _Names(NamedTuple):
    """What the GETs of a record stand for: the same for nearly all records of a file."""

    storage_class: Global
    hooks_class: Global
    location: str | None
    gets: tuple[int, ...]
    nodes: Mapping[int, Node]


class Records:
    """Recognises tensor records, and knows which memo slots are inside them.

    `hidden` is how many slots the records stored that are not in the memo (yet).
    """

    def __init__(self, memo: dict[int, Node]) -> None:
        self.all: list[TensorRecord] = []
        self.hidden = 0
        self._memo = memo
        self._pattern = _WITH_PUTS
        self._names: dict[tuple[bytes, ...], _Names | None] = {}
        self._layouts: dict[tuple[bytes, ...], tuple[int, int, tuple[int, ...], tuple[int, ...]]] = {}

    def match(self, data: bytes, pos: int, limit: int, next_slot: int, rebuild: Global) -> TensorRecord | None:
        """The record whose first GET is at `pos`, or None when it has to be read opcode by opcode."""
        found = self._pattern.match(data, pos, limit) or self._other_pattern(data, pos, limit)
        if found is None:
            return None
        # fmt: off
        (function, tag_and_class, key_length, key, key_put, key_get, location_length, location, location_put,
         location_get, numel, id_put, offset, size, size_put, stride, stride_put, flag, hooks, hooks_put, args_put,
         put) = found.groups(b"")
        # fmt: on
        context = (function, tag_and_class, location_get, hooks)
        names = self._names.get(context)
        if names is None:
            names = self._resolve(*context)
            if names is None:
                return None
            self._names[context] = names
        gets = names.gets
        key_from: Const | TensorRecord | None = None
        if key_put:
            if key_length[0] != len(key):
                return None
            text = key.decode("ascii")
        else:
            slot = _slot(key_get)
            key_from = self._key_in(slot)
            if key_from is None:
                return None
            text = key_from.key if isinstance(key_from, TensorRecord) else str(key_from.value)
            gets = (*gets, slot)
        place = names.location
        if place is None:
            if location_length[0] != len(location):
                return None
            place = location.decode("ascii")
        puts = b"".join((key_put, location_put, id_put, size_put, stride_put, hooks_put, args_put, put))
        n = len(puts) // 5
        if len(puts) % 5 or int.from_bytes(puts, "little") != _LONG_PUTS[n] + next_slot * _LONG_STEPS[n]:
            next_slot, n = self._slots(puts, next_slot)
            if not n:
                return None
        layout = (numel, offset, size, stride)
        try:
            numel_, offset_, size_, stride_ = self._layouts[layout]
        except KeyError:
            numel_, offset_, size_, stride_ = self._layouts[layout] = (
                _decode_number(numel),
                _decode_number(offset),
                _decode_sizes(size),
                _decode_sizes(stride),
            )
        record = TensorRecord(
            pos,
            found.end(),
            rebuild,
            names.storage_class,
            names.hooks_class,
            text,
            place,
            numel_,
            offset_,
            size_,
            stride_,
            flag == b"\x88",
            gets,
            names.nodes,
            key_from,
            next_slot,
            next_slot + n - 1,
        )
        self.all.append(record)
        self.hidden += n
        return record

    def holding(self, slot: int) -> TensorRecord | None:
        """The record that stored `slot`, if there is one."""
        at = bisect_right(self.all, slot, key=_FIRST_SLOT) - 1
        return self.all[at] if at >= 0 and slot <= self.all[at].puts[0] else None

    def reveal(self, slots: Mapping[int, Node]) -> None:
        """Enter slots that records stored in the memo."""
        self.hidden -= sum(slot not in self._memo for slot in slots)
        self._memo.update(slots)

    def forget(self) -> None:
        """A slot got another meaning: what was resolved before may be wrong now."""
        self._names.clear()

    def _other_pattern(self, data: bytes, pos: int, limit: int) -> re.Match[bytes] | None:
        other = _WITH_MEMOIZE if self._pattern is _WITH_PUTS else _WITH_PUTS
        found = other.match(data, pos, limit)
        if found:
            self._pattern = other
        return found

    def _resolve(self, function: bytes, tag_and_class: bytes, location: bytes, hooks: bytes) -> _Names | None:
        split = 2 if tag_and_class[0] == op.BINGET else 5
        gets = (function, tag_and_class[:split], tag_and_class[split:], hooks, *([location] if location else []))
        slots = tuple([_slot(get) for get in gets])
        nodes = [self._memo.get(slot) for slot in slots]
        _, tag, storage_class, hooks_class = nodes[:4]
        if not (isinstance(tag, Const) and tag.value == "storage" and isinstance(storage_class, Global)):
            return None
        if not (isinstance(hooks_class, Global) and hooks_class.qualified == "collections.OrderedDict"):
            return None
        place = nodes[4] if location else None
        if location and not (isinstance(place, Const) and isinstance(place.value, str)):
            return None
        text = place.value if isinstance(place, Const) and isinstance(place.value, str) else None
        known = {slot: node for slot, node in zip(slots, nodes, strict=True) if node is not None}
        return _Names(storage_class, hooks_class, text, slots, known)

    def _key_in(self, slot: int) -> Const | TensorRecord | None:
        node = self._memo.get(slot)
        if isinstance(node, Const) and isinstance(node.value, str):
            return node
        record = self.holding(slot) if node is None else None
        if record is not None and record.first_slot == slot < record.puts[0] and record.key_from is None:
            return record
        return None

    def _slots(self, puts: bytes, next_slot: int) -> tuple[int, int]:
        """The first memo slot that a record's PUTs store and how many, 0 when not one after the other and all new.

        Slots may be left out before a record: an edit that renames a key stores the key no more.
        """
        if self._pattern is _WITH_MEMOIZE:
            return next_slot, len(puts) if next_slot == len(self._memo) + self.hidden else 0
        slots = [_slot(put) for put in _PUT.findall(puts)]
        is_new = slots[0] >= next_slot and slots == list(range(slots[0], slots[0] + len(slots)))
        return slots[0], len(slots) if is_new else 0


def _slot(opcode: bytes) -> int:
    """The slot of a whole GET or PUT opcode."""
    return int.from_bytes(opcode[1:], "little")


def _decode_number(raw: bytes) -> int:
    if raw[0] == op.BININT:
        return int(_i4(raw, 1)[0])
    if raw[0] == op.LONG1:
        return int.from_bytes(raw[2:], "little", signed=True)
    return int.from_bytes(raw[1:], "little")


_NUMBER = re.compile(rb"K.|M..|J.{4}|\x8a\x05.{5}", re.DOTALL)


def _decode_sizes(raw: bytes) -> tuple[int, ...]:
    inner = raw[1:-1] if raw[0] == op.MARK else raw[:-1]
    return tuple([_decode_number(number) for number in _NUMBER.findall(inner)])
