"""The inert pickle machine: bytes in, node graph out; nothing imported, hashed or called.

A pickle is a program for a stack machine. CPython's runs it: GLOBAL imports, REDUCE calls. This one goes through the
same motions with nodes in place of objects. It has what every pickle machine has:

    stack       nodes that wait to be used. MARK puts the whole stack aside and starts an empty one; the opcode that
                closes the mark takes everything on it and brings the old stack back. So no opcode can reach below a
                mark, as in CPython, and a mark costs no counting.
    memo        slot number -> node, filled by PUT and MEMOIZE, read by GET. A dict, never a list as long as the highest
                slot: nine bytes can name slot 2^31.

An opcode that makes an object makes one node (`sdviewer.pickles.nodes`); an opcode that changes an object appends an
effect to its node. There is no recursion, so nesting is bounded by memory alone; there is at most one node for every
byte, and an argument is only taken after its length was compared with the bytes that are there, so memory is bounded
by the file. `pickletools.py` of CPython is the reference for every opcode.

Tensor records. In a checkpoint nine of ten opcodes belong to calls of `torch._utils._rebuild_tensor_v2`, which all look
alike. When the machine meets the GET that fetches this function, one regular expression tries to match the whole call.
Its alternatives differ in their first byte and have a fixed length from there, so what it matches is what the opcodes
say, not something that looks like it; lengths of strings are compared afterwards. The call becomes one `TensorRecord`.
The slots that it stores are not entered in the memo: they are consecutive and higher than all before, so a later GET
finds the record by its slot numbers, and the record is then expanded to ordinary nodes.

What is thrown away again (POP) stays as a `pop` effect of the node below it: dill and cloudpickle call functions for
their side effects this way, and so does malware.
"""

from __future__ import annotations

import gc
import re
import struct
from bisect import bisect_right
from codecs import escape_decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType
from typing import NamedTuple

from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import (
    Call,
    Const,
    Effect,
    Global,
    Group,
    GroupType,
    Node,
    Other,
    Persistent,
    TensorRecord,
    children,
)

_CHUNK = 4096
"""Opcodes between two looks at the clock: a few milliseconds."""

_LONGEST_NUMBER = 4300
"""Digits of a text number that are still converted: the limit of Python itself (the time grows with their square)."""


@dataclass(slots=True)
class Pickle:
    """One parsed pickle: `data[start:end]` (end is behind STOP) and the node its STOP returned.

    `broken` says why it broke off before STOP ("" when it did not); then `root` is None, `end` is where it broke off,
    and the lists below still hold what was made before. `unfaithful` says why it cannot be written back from its nodes,
    else "" (only what parsing itself notices: `emit.is_faithful` makes sure).

    `globals`, `calls` and `records` are all nodes of these kinds in stream order, reachable from the root or not (what
    was popped or left on the stack has run all the same); a record's inner calls and names are not repeated.
    `left_over` are nodes that STOP left on the stack. `beyond_torch` holds the opcodes it uses that torch's
    `weights_only` does not know.

    How it is written: `header` is its PROTO opcode (b"" in protocols 0 and 1), `frames` are the offsets of its
    FRAME opcodes, `text_memo` says that memo slots are
    text (protocol 0), `memoize` that they are implicit (protocols 4 and 5), `next_slot` is above all slots in use,
    `reused_slots` says that two nodes were stored in one slot, `duplicated` are nodes that DUP put on the stack twice.
    """

    data: bytes
    start: int
    end: int
    protocol: int
    root: Node | None
    broken: str = ""
    unfaithful: str = ""
    globals: list[Global] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    records: list[TensorRecord] = field(default_factory=list)
    left_over: list[Node] = field(default_factory=list)
    beyond_torch: set[int] = field(default_factory=set)
    header: bytes = b""
    frames: list[int] = field(default_factory=list)
    text_memo: bool = False
    memoize: bool = False
    next_slot: int = 0
    reused_slots: bool = False
    duplicated: list[Node] = field(default_factory=list)

    def expand(self, record: TensorRecord) -> Call:
        """The nodes that a tensor record stands for, made on first call."""
        return _expand(self.data, record)


def parse(data: bytes, start: int = 0, *, progress: Progress = no_progress) -> Pickle:
    """Read one pickle from `data[start:]` up to its STOP (several may follow one another in one stream).

    Raises:
        CorruptCheckpoint: without a path, which the caller knows (code `bad_pickle`, message with the byte offset).
        Cancelled: from `progress`, called with bytes done and total every few thousand opcodes.
    """
    pickle = parse_partial(data, start, progress=progress)
    if pickle.broken:
        raise CorruptCheckpoint(pickle.broken, code="bad_pickle")
    return pickle


def parse_partial(data: bytes, start: int = 0, *, progress: Progress = no_progress) -> Pickle:
    """Read one pickle as far as it goes: one that breaks off comes back with `broken` set.

    What stands before the place where a pickle breaks has run when Python finds out, so a scan must see it.

    Raises:
        Cancelled: from `progress`.
    """
    machine = _Machine(data, {})
    was_enabled = gc.isenabled()
    gc.disable()  # every node would be looked at again and again, and none is garbage
    try:
        end = machine.run(start, progress)
        root: Node | None = machine.stack.pop()
        broken = ""
    except _Broken as problem:
        end, root, broken = problem.at, None, str(problem)
    finally:
        if was_enabled:
            gc.enable()
    return machine.pickle(start, end, root, broken)


class _Broken(Exception):
    """The pickle makes no sense at byte `at`."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(f"the pickle is damaged at byte {at:,}: {what}")
        self.at = at


_u2 = struct.Struct("<H").unpack_from
_i4 = struct.Struct("<i").unpack_from
_u4 = struct.Struct("<I").unpack_from
_u8 = struct.Struct("<Q").unpack_from
_f8 = struct.Struct(">d").unpack_from


class _Machine:
    """The state of one run; `stack`, `marks` and `next_slot` are only up to date while a rare opcode is handled."""

    def __init__(self, data: bytes, memo: dict[int, Node]) -> None:
        self.data = data
        self.limit = len(data)
        self.stack: list[Node] = []
        self.marks: list[list[Node]] = []
        self.memo = memo
        self.next_slot = 0
        self.globals: list[Global] = []
        self.calls: list[Call] = []
        self.beyond_torch: set[int] = set()
        self.duplicated: list[Node] = []
        self.header = b""
        self.frames: list[int] = []
        self.protocol = -1
        self.text_memo = False
        self.memoize = False
        self.reused_slots = False
        self.unfaithful = ""
        self.rebuild: Global | None = None
        self.records = _Records(memo)

    def pickle(self, start: int, end: int, root: Node | None, broken: str) -> Pickle:
        left_over = [node for stack in (*self.marks, self.stack) for node in stack]
        if self.reused_slots:
            self.unfaithful = "it stores two objects in one memo slot"
        elif self.duplicated:
            self.unfaithful = "it duplicates objects on the stack"
        elif left_over or self.marks:
            self.unfaithful = "it leaves objects on the stack"
        protocol = self.protocol if self.protocol >= 0 else 0 if self.text_memo else 1
        return Pickle(
            self.data,
            start,
            end,
            protocol,
            root,
            broken,
            "it breaks off" if broken else self.unfaithful,
            self.globals,
            self.calls,
            self.records.all,
            left_over,
            self.beyond_torch,
            self.header,
            self.frames,
            self.text_memo,
            self.memoize,
            self.next_slot,
            self.reused_slots,
            self.duplicated,
        )

    def run(self, pos: int, progress: Progress) -> int:  # noqa: C901
        """Go on from `pos` up to STOP and return the offset behind it; what STOP returns is on top of the stack.

        The opcodes that make up checkpoints are handled here, the most frequent first, the rest in `_RARE`. `pos` stays
        at the opcode until it is done, for the messages.
        """
        start = pos
        data = self.data
        size = len(data)
        limit = size  # no opcode begins at or behind this: the end of the data, or of a frame
        stack = self.stack
        marks = self.marks
        memo = self.memo
        calls = self.calls
        records = self.records
        next_slot = self.next_slot
        rebuild = self.rebuild
        beyond_torch = self.beyond_torch
        node: Node | None
        try:
            while True:
                progress(pos - start, size - start)
                for _ in repeat(None, _CHUNK):
                    if pos >= limit:
                        if pos == size or pos > limit:
                            raise _Broken(
                                pos, "it ends before its STOP" if pos >= size else "it runs over a frame's end"
                            )
                        limit = size
                    code = data[pos]
                    if code == op.BINPUT or code == op.LONG_BINPUT:
                        if code == op.BINPUT:
                            slot = data[pos + 1]
                            pos += 2
                        else:
                            slot = _u4(data, pos + 1)[0]
                            pos += 5
                        node = stack[-1]
                        if slot < next_slot:
                            self.store_below(slot)
                        else:
                            next_slot = slot + 1
                        memo[slot] = node
                        if node.puts or node.effects:
                            node.add_put(slot)
                        else:
                            node.puts = [slot]
                    elif code == op.BINGET or code == op.LONG_BINGET:
                        if code == op.BINGET:
                            slot = data[pos + 1]
                            after = pos + 2
                        else:
                            slot = _u4(data, pos + 1)[0]
                            after = pos + 5
                        node = memo.get(slot)
                        if node is None:
                            node = self.fetch(slot, pos)
                        elif node is rebuild:
                            record = records.match(data, pos, limit, next_slot, rebuild)
                            if record is not None:
                                stack.append(record)
                                next_slot = record.puts[0] + 1
                                memo[next_slot - 1] = record
                                pos = record.end
                                continue
                        stack.append(node)
                        pos = after
                    elif code == op.BINUNICODE:
                        after = pos + 5 + _u4(data, pos + 1)[0]
                        if after > size:
                            raise _Broken(pos, "a string is longer than what is left")
                        text = data[pos + 5 : after]
                        try:
                            stack.append(Const(pos, data[pos:after], text.decode("utf-8", "surrogatepass")))
                        except UnicodeDecodeError:
                            stack.append(Const(pos, data[pos:after], text, True))
                        pos = after
                    elif code == op.MEMOIZE:
                        slot = len(memo) + records.hidden
                        node = stack[-1]
                        if slot < next_slot:
                            self.store_below(slot)
                        else:
                            next_slot = slot + 1
                        memo[slot] = node
                        node.add_put(slot)
                        self.memoize = True
                        beyond_torch.add(code)
                        pos += 1
                    elif code == op.BININT1:
                        stack.append(Const(pos, data[pos : pos + 2], data[pos + 1]))
                        pos += 2
                    elif code == op.MARK:
                        marks.append(stack)
                        stack = []
                        pos += 1
                    elif code == op.TUPLE:
                        items = stack
                        stack = marks.pop()
                        stack.append(Group(pos, "tuple", code, items))
                        pos += 1
                    elif code == op.REDUCE:
                        node = stack.pop()
                        call = Call(pos, "reduce", stack[-1], [node])
                        stack[-1] = call
                        calls.append(call)
                        pos += 1
                    elif code == op.TUPLE2:
                        node = stack.pop()
                        stack[-1] = Group(pos, "tuple", code, [stack[-1], node])
                        pos += 1
                    elif code == op.EMPTY_TUPLE:
                        stack.append(Group(pos, "tuple", code, []))
                        pos += 1
                    elif code == op.NEWFALSE:
                        stack.append(Const(pos, b"\x89", False))
                        pos += 1
                    elif code == op.BINPERSID:
                        stack[-1] = Persistent(pos, stack[-1])
                        pos += 1
                    elif code == op.BININT2:
                        stack.append(Const(pos, data[pos : pos + 3], _u2(data, pos + 1)[0]))
                        pos += 3
                    elif code == op.SHORT_BINUNICODE:
                        after = pos + 2 + data[pos + 1]
                        if after > size:
                            raise _Broken(pos, "a string is longer than what is left")
                        text = data[pos + 2 : after]
                        try:
                            stack.append(Const(pos, data[pos:after], text.decode("utf-8", "surrogatepass")))
                        except UnicodeDecodeError:
                            stack.append(Const(pos, data[pos:after], text, True))
                        beyond_torch.add(code)
                        pos = after
                    elif code == op.NEWTRUE:
                        stack.append(Const(pos, b"\x88", True))
                        pos += 1
                    elif code == op.NONE:
                        stack.append(Const(pos, b"N", None))
                        pos += 1
                    elif code == op.BININT:
                        stack.append(Const(pos, data[pos : pos + 5], _i4(data, pos + 1)[0]))
                        pos += 5
                    elif code == op.BINFLOAT:
                        stack.append(Const(pos, data[pos : pos + 9], _f8(data, pos + 1)[0]))
                        pos += 9
                    elif code == op.TUPLE1:
                        stack[-1] = Group(pos, "tuple", code, [stack[-1]])
                        pos += 1
                    elif code == op.SETITEM:
                        node = stack.pop()
                        key = stack.pop()
                        stack[-1].add_effect(Effect("setitem", [key, node]))
                        pos += 1
                    elif code == op.BUILD:
                        node = stack.pop()
                        stack[-1].add_effect(Effect("build", [node]))
                        pos += 1
                    elif code == op.APPEND:
                        node = stack.pop()
                        stack[-1].add_effect(Effect("append", [node]))
                        pos += 1
                    elif code == op.APPENDS:
                        items = stack
                        stack = marks.pop()
                        stack[-1].add_effect(Effect("appends", items))
                        pos += 1
                    elif code == op.SETITEMS:
                        items = stack
                        stack = marks.pop()
                        if len(items) % 2:
                            raise _Broken(pos, "a key has no value")
                        stack[-1].add_effect(Effect("setitems", items))
                        pos += 1
                    elif code == op.EMPTY_DICT:
                        stack.append(Group(pos, "dict", code, []))
                        pos += 1
                    elif code == op.EMPTY_LIST:
                        stack.append(Group(pos, "list", code, []))
                        pos += 1
                    elif code == op.TUPLE3:
                        third = stack.pop()
                        node = stack.pop()
                        stack[-1] = Group(pos, "tuple", code, [stack[-1], node, third])
                        pos += 1
                    elif code == op.STOP:
                        if not stack:
                            raise _Broken(pos, "it returns nothing")
                        self.stack = stack
                        self.next_slot = next_slot
                        return pos + 1
                    else:
                        handler = _RARE.get(code)
                        if handler is None:
                            raise _Broken(pos, f"0x{code:02x} is no opcode")
                        if code not in op.TORCH_OPCODES:
                            beyond_torch.add(code)
                        self.stack = stack
                        self.limit = limit
                        self.next_slot = next_slot
                        pos = handler(self, pos)
                        stack = self.stack
                        limit = self.limit
                        next_slot = self.next_slot
                        rebuild = self.rebuild
        except (IndexError, struct.error):
            self.stack = stack
            ends = pos + 9 > size and not _fits(data, pos)
            raise _Broken(pos, "it ends in an argument" if ends else "it takes from an empty stack") from None
        except _Broken:
            self.stack = stack
            raise

    def fetch(self, slot: int, at: int) -> Node:
        """What is in a slot that the memo does not list: something inside a tensor record, or nothing."""
        record = self.records.holding(slot)
        if record is None:
            raise _Broken(at, f"it fetches memo slot {slot:,}, in which nothing was stored")
        self.records.reveal(self.data, record)
        return self.memo[slot]

    def store_below(self, slot: int) -> None:
        """Take note of a PUT into a slot that is not above all others."""
        record = self.records.holding(slot)
        if record is not None:
            self.records.reveal(self.data, record)
        if slot in self.memo:
            self.reused_slots = True
            self.records.forget()

    def store(self, slot: int) -> None:
        """PUT the top of the stack into a slot."""
        node = self.stack[-1]
        if slot < self.next_slot:
            self.store_below(slot)
        else:
            self.next_slot = slot + 1
        self.memo[slot] = node
        node.add_put(slot)

    def line(self, pos: int) -> tuple[bytes, int]:
        """The text argument from `pos` to its newline, and the offset behind that."""
        end = self.data.find(b"\n", pos)
        if end < 0:
            raise _Broken(pos - 1, "a line has no end")
        return self.data[pos:end], end + 1

    def slot_line(self, pos: int) -> tuple[int, int]:
        line, after = self.line(pos + 1)
        if len(line) > 20 or not line.isdigit():
            raise _Broken(pos, "a memo slot is no number")
        self.text_memo = True
        return int(line), after

    def counted(self, pos: int, width: int, after: int) -> tuple[bytes, int]:
        """The bytes argument behind a length of `width` bytes, which end at `after`, and the offset behind it."""
        length = int.from_bytes(self.data[pos + 1 : pos + 1 + width], "little")
        if after > len(self.data) or length > len(self.data) - after:
            raise _Broken(pos, "a string is longer than what is left")
        return self.data[after : after + length], after + length

    def note_global(self, node: Global) -> None:
        self.globals.append(node)
        if node.name == "_rebuild_tensor_v2" and node.module == "torch._utils":
            self.rebuild = node

    def take_mark(self) -> list[Node]:
        items = self.stack
        self.stack = self.marks.pop()
        return items


def _fits(data: bytes, pos: int) -> bool:
    """Whether the fixed argument of the opcode at `pos` is there."""
    width = _FIXED.get(data[pos], 0) if pos < len(data) else 0
    return pos + 1 + width <= len(data)


_FIXED = MappingProxyType(
    {
        op.BINPUT: 1,
        op.LONG_BINPUT: 4,
        op.BINGET: 1,
        op.LONG_BINGET: 4,
        op.BINUNICODE: 4,
        op.SHORT_BINUNICODE: 1,
        op.BININT: 4,
        op.BININT1: 1,
        op.BININT2: 2,
        op.BINFLOAT: 8,
        op.PROTO: 1,
        op.FRAME: 8,
    }
)
"""Width in bytes of the arguments that are read without looking first."""


# ---- rare opcodes: each takes the machine and the opcode's offset and returns the offset behind it ------------------


def _proto(machine: _Machine, pos: int) -> int:
    protocol = machine.data[pos + 1]
    if protocol > op.HIGHEST_PROTOCOL:
        raise _Broken(pos, f"pickle protocol {protocol} does not exist")
    if machine.protocol >= 0 or machine.stack or machine.marks or machine.memo:
        machine.unfaithful = "it names its protocol in the middle"
    else:
        machine.header = machine.data[pos : pos + 2]
    machine.protocol = max(machine.protocol, protocol)
    return pos + 2


def _frame(machine: _Machine, pos: int) -> int:
    # A reader that buffers frames and one that does not see different opcodes behind an argument that runs over a
    # frame's end (cpython #154848), so that is damage here. So is a frame inside a frame, as in pickle.py.
    length = _u8(machine.data, pos + 1)[0]
    if length > len(machine.data) - pos - 9:
        raise _Broken(pos, "a frame is longer than what is left")
    if machine.limit != len(machine.data):
        raise _Broken(pos, "a frame begins inside a frame")
    machine.limit = pos + 9 + length
    machine.frames.append(pos)
    return pos + 9


def _put(machine: _Machine, pos: int) -> int:
    slot, after = machine.slot_line(pos)
    machine.store(slot)
    return after


def _get(machine: _Machine, pos: int) -> int:
    slot, after = machine.slot_line(pos)
    node = machine.memo.get(slot)
    machine.stack.append(node if node is not None else machine.fetch(slot, pos))
    return after


def _int(machine: _Machine, pos: int) -> int:
    line, after = machine.line(pos + 1)
    raw = machine.data[pos:after]
    if line in (b"00", b"01"):
        machine.stack.append(Const(pos, raw, line == b"01"))
    else:
        machine.stack.append(_number(pos, raw, line))
    return after


def _long(machine: _Machine, pos: int) -> int:
    line, after = machine.line(pos + 1)
    machine.stack.append(_number(pos, machine.data[pos:after], line.removesuffix(b"L")))
    return after


def _number(pos: int, raw: bytes, digits: bytes) -> Const:
    if len(digits) > _LONGEST_NUMBER:
        return Const(pos, raw, digits, True)
    try:
        return Const(pos, raw, int(digits, 0))
    except ValueError:
        raise _Broken(pos, "a number is none") from None


def _long1(machine: _Machine, pos: int) -> int:
    value, after = machine.counted(pos, 1, pos + 2)
    machine.stack.append(Const(pos, machine.data[pos:after], int.from_bytes(value, "little", signed=True)))
    return after


def _long4(machine: _Machine, pos: int) -> int:
    if _i4(machine.data, pos + 1)[0] < 0:
        raise _Broken(pos, "a number has a negative length")
    value, after = machine.counted(pos, 4, pos + 5)
    machine.stack.append(Const(pos, machine.data[pos:after], int.from_bytes(value, "little", signed=True)))
    return after


def _float(machine: _Machine, pos: int) -> int:
    line, after = machine.line(pos + 1)
    try:
        value = float(line)
    except ValueError:
        raise _Broken(pos, "a number is none") from None
    machine.stack.append(Const(pos, machine.data[pos:after], value))
    return after


def _old_text(pos: int, raw: bytes, value: bytes) -> Const:
    """A Python 2 str, which may be text or bytes: text where it is UTF-8."""
    try:
        return Const(pos, raw, value.decode("utf-8"))
    except UnicodeDecodeError:
        return Const(pos, raw, value, True)


def _string(machine: _Machine, pos: int) -> int:
    line, after = machine.line(pos + 1)
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise _Broken(pos, "a string has no quotes")
    try:
        value = escape_decode(line[1:-1])[0]
    except ValueError:
        raise _Broken(pos, "a string has a broken escape") from None
    machine.stack.append(_old_text(pos, machine.data[pos:after], bytes(value)))
    return after


def _binstring(machine: _Machine, pos: int) -> int:
    if _i4(machine.data, pos + 1)[0] < 0:
        raise _Broken(pos, "a string has a negative length")
    value, after = machine.counted(pos, 4, pos + 5)
    machine.stack.append(_old_text(pos, machine.data[pos:after], value))
    return after


def _short_binstring(machine: _Machine, pos: int) -> int:
    value, after = machine.counted(pos, 1, pos + 2)
    machine.stack.append(_old_text(pos, machine.data[pos:after], value))
    return after


def _unicode(machine: _Machine, pos: int) -> int:
    line, after = machine.line(pos + 1)
    raw = machine.data[pos:after]
    try:
        machine.stack.append(Const(pos, raw, line.decode("raw-unicode-escape")))
    except UnicodeDecodeError:
        machine.stack.append(Const(pos, raw, line, True))
    return after


def _binunicode8(machine: _Machine, pos: int) -> int:
    value, after = machine.counted(pos, 8, pos + 9)
    raw = machine.data[pos:after]
    try:
        machine.stack.append(Const(pos, raw, value.decode("utf-8", "surrogatepass")))
    except UnicodeDecodeError:
        machine.stack.append(Const(pos, raw, value, True))
    return after


def _bytes_of(width: int) -> Callable[[_Machine, int], int]:
    def handler(machine: _Machine, pos: int) -> int:
        value, after = machine.counted(pos, width, pos + 1 + width)
        machine.stack.append(Const(pos, machine.data[pos:after], value))
        return after

    return handler


def _bytearray8(machine: _Machine, pos: int) -> int:
    value, after = machine.counted(pos, 8, pos + 9)
    machine.stack.append(Const(pos, machine.data[pos:after], bytearray(value)))
    return after


def _name(pos: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise _Broken(pos, "a name is no UTF-8") from None


def _two_names(machine: _Machine, pos: int) -> tuple[Global, int]:
    module, middle = machine.line(pos + 1)
    name, after = machine.line(middle)
    node = Global(pos, machine.data[pos:after], _name(pos, module), _name(pos, name))
    machine.note_global(node)
    return node, after


def _global(machine: _Machine, pos: int) -> int:
    node, after = _two_names(machine, pos)
    machine.stack.append(node)
    return after


def _stack_global(machine: _Machine, pos: int) -> int:
    name = machine.stack.pop()
    module = machine.stack.pop()
    names = [part.value for part in (module, name) if isinstance(part, Const) and isinstance(part.value, str)]
    if len(names) == 2:
        node = Global(pos, b"\x93", names[0], names[1], (module, name))
    elif any(isinstance(part, (Group, Const, Global)) and not _is_text(part) for part in (module, name)):
        raise _Broken(pos, "a name is no string")
    else:
        node = Global(pos, b"\x93", "", "", (module, name))  # computed by a call: nobody knows without running it
    machine.note_global(node)
    machine.stack.append(node)
    return pos + 1


def _is_text(node: Node) -> bool:
    return isinstance(node, Const) and isinstance(node.value, str)


def _inst(machine: _Machine, pos: int) -> int:
    node, after = _two_names(machine, pos)
    _call(machine, Call(pos, "inst", node, machine.take_mark()))
    return after


def _obj(machine: _Machine, pos: int) -> int:
    items = machine.take_mark()
    _call(machine, Call(pos, "obj", items[0], items[1:]))
    return pos + 1


def _newobj(machine: _Machine, pos: int) -> int:
    args = machine.stack.pop()
    _call(machine, Call(pos, "newobj", machine.stack.pop(), [args]))
    return pos + 1


def _newobj_ex(machine: _Machine, pos: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    _call(machine, Call(pos, "newobj_ex", machine.stack.pop(), [args, kwargs]))
    return pos + 1


def _call(machine: _Machine, call: Call) -> None:
    machine.stack.append(call)
    machine.calls.append(call)


def _marked(kind: GroupType) -> Callable[[_Machine, int], int]:
    def handler(machine: _Machine, pos: int) -> int:
        items = machine.take_mark()
        if kind == "dict" and len(items) % 2:
            raise _Broken(pos, "a key has no value")
        machine.stack.append(Group(pos, kind, machine.data[pos], items))
        return pos + 1

    return handler


def _empty_set(machine: _Machine, pos: int) -> int:
    machine.stack.append(Group(pos, "set", op.EMPTY_SET, []))
    return pos + 1


def _additems(machine: _Machine, pos: int) -> int:
    items = machine.take_mark()
    machine.stack[-1].add_effect(Effect("additems", items))
    return pos + 1


def _pop(machine: _Machine, pos: int) -> int:
    """POP: take the top away again; on an empty stack it takes the mark below, as in CPython."""
    after = _recursive_tuple(machine, pos)
    if after:
        return after
    if not machine.stack:
        machine.stack = machine.marks.pop()
        return pos + 1
    _throw_away(machine, [machine.stack.pop()])
    return pos + 1


def _pop_mark(machine: _Machine, pos: int) -> int:
    after = _recursive_tuple(machine, pos)
    if after:
        return after
    _throw_away(machine, machine.take_mark())
    return pos + 1


def _throw_away(machine: _Machine, nodes: list[Node]) -> None:
    """Keep popped nodes as effects of the node below them: they may have been made for a side effect."""
    if machine.stack:
        for node in nodes:
            machine.stack[-1].add_effect(Effect("pop", [node]))
    elif nodes:
        machine.unfaithful = "it throws objects away where nothing is below them"


_POPS_AND_GET = re.compile(rb"(0+|1)(?:h(.)|j(.{4})|g([0-9]{1,18})\n)", re.DOTALL)


def _recursive_tuple(machine: _Machine, pos: int) -> int:
    """Recognise how a tuple (or frozenset) that contains itself ends, and return the offset behind the POPs, or 0.

    Having saved the items, a pickler finds that saving them has already saved the tuple: it pops the items and fetches
    the tuple. The emitter comes to the same place by itself (`emit._Emitter.close`), so nothing has to be noted.
    """
    found = _POPS_AND_GET.match(machine.data, pos)
    if not found:
        return 0
    pops, short, long, text = found.groups()
    slot = short[0] if short else int.from_bytes(long, "little") if long else int(text)
    node = machine.memo.get(slot)
    if not isinstance(node, Group) or node.type not in ("tuple", "frozenset") or not node.items:
        return 0
    marked = node.opcode in (op.TUPLE, op.FROZENSET)
    n = len(node.items)
    if len(pops) != (n + marked if pops[:1] == b"0" else 1) or len(machine.stack) < n or (pops == b"1" and not marked):
        return 0
    if marked and (len(machine.stack) != n or not machine.marks):
        return 0
    if any(a is not b for a, b in zip(machine.stack[-n:], node.items, strict=True)):
        return 0
    if marked:
        machine.take_mark()
    else:
        del machine.stack[-n:]
    return found.end(1)


def _dup(machine: _Machine, pos: int) -> int:
    machine.stack.append(machine.stack[-1])
    machine.duplicated.append(machine.stack[-1])
    return pos + 1


def _extension(width: int) -> Callable[[_Machine, int], int]:
    def handler(machine: _Machine, pos: int) -> int:
        after = pos + 1 + width
        if after > len(machine.data):
            raise _Broken(pos, "it ends in an argument")
        machine.stack.append(Other(pos, machine.data[pos:after]))
        return after

    return handler


def _persid(machine: _Machine, pos: int) -> int:
    _, after = machine.line(pos + 1)
    machine.stack.append(Persistent(pos, None, machine.data[pos:after]))
    return after


def _next_buffer(machine: _Machine, pos: int) -> int:
    machine.stack.append(Other(pos, b"\x97"))
    return pos + 1


def _readonly_buffer(machine: _Machine, pos: int) -> int:
    machine.stack[-1] = Other(pos, b"\x98", machine.stack[-1])
    return pos + 1


_RARE: dict[int, Callable[[_Machine, int], int]] = {
    op.PROTO: _proto,
    op.FRAME: _frame,
    op.PUT: _put,
    op.GET: _get,
    op.INT: _int,
    op.LONG: _long,
    op.LONG1: _long1,
    op.LONG4: _long4,
    op.FLOAT: _float,
    op.STRING: _string,
    op.BINSTRING: _binstring,
    op.SHORT_BINSTRING: _short_binstring,
    op.UNICODE: _unicode,
    op.BINUNICODE8: _binunicode8,
    op.SHORT_BINBYTES: _bytes_of(1),
    op.BINBYTES: _bytes_of(4),
    op.BINBYTES8: _bytes_of(8),
    op.BYTEARRAY8: _bytearray8,
    op.GLOBAL: _global,
    op.STACK_GLOBAL: _stack_global,
    op.INST: _inst,
    op.OBJ: _obj,
    op.NEWOBJ: _newobj,
    op.NEWOBJ_EX: _newobj_ex,
    op.LIST: _marked("list"),
    op.DICT: _marked("dict"),
    op.FROZENSET: _marked("frozenset"),
    op.EMPTY_SET: _empty_set,
    op.ADDITEMS: _additems,
    op.POP: _pop,
    op.POP_MARK: _pop_mark,
    op.DUP: _dup,
    op.EXT1: _extension(1),
    op.EXT2: _extension(2),
    op.EXT4: _extension(4),
    op.PERSID: _persid,
    op.NEXT_BUFFER: _next_buffer,
    op.READONLY_BUFFER: _readonly_buffer,
}


# ---- tensor records -----------------------------------------------------------------------------------------------


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
    persistent = rb"\(" + get + get + rb"(?:" + key + rb"|" + get + rb")(?:" + location + rb"|" + get + rb")"
    return re.compile(
        rb"%s\(%s(%s)N?t(%s)Q(%s)%s%s([\x88\x89])%s\)R(%s)t(%s)R(%s)"
        % (get, persistent, number, put, number, sizes, sizes, get, put, put, put),
        re.DOTALL,
    )


_WITH_PUTS = _record_pattern(rb"X(.)\0\0\0", rb"q.|r.{4}")
_WITH_MEMOIZE = _record_pattern(rb"\x8c(.)", rb"\x94")
_LONG_PUTS = tuple(struct.Struct("<" + "xI" * n).unpack for n in range(9))
"""Decodes n LONG_BINPUTs in a row."""


class _Names(NamedTuple):
    """What the GETs of a record stand for: the same for nearly all records of a file."""

    storage_class: Global
    hooks_class: Global
    location: str | None
    gets: tuple[int, ...]
    nodes: Mapping[int, Node]


class _Records:
    """Recognises tensor records, and knows which memo slots are inside them.

    `hidden` is how many slots the records stored without an entry in the memo.
    """

    def __init__(self, memo: dict[int, Node]) -> None:
        self.all: list[TensorRecord] = []
        self.hidden = 0
        self._memo = memo
        self._first_slots: list[int] = []
        self._pattern = _WITH_PUTS
        self._names: dict[tuple[bytes, ...], _Names | None] = {}
        self._numbers: dict[bytes, int] = {}
        self._sizes: dict[bytes, tuple[int, ...]] = {}

    def match(self, data: bytes, pos: int, limit: int, next_slot: int, rebuild: Global) -> TensorRecord | None:
        """The record whose first GET is at `pos`, or None when it has to be read opcode by opcode."""
        found = self._pattern.match(data, pos, limit) or self._other_pattern(data, pos, limit)
        if found is None:
            return None
        # fmt: off
        (function, tag, storage_class, key_length, key, key_put, key_get, location_length, location, location_put,
         location_get, numel, id_put, offset, size, size_put, stride, stride_put, flag, hooks, hooks_put, args_put,
         put) = found.groups(b"")
        # fmt: on
        context = (function, tag, storage_class, location_get, hooks)
        names = self._names.get(context)
        if names is None:
            names = self._names[context] = self._resolve(context)
            if names is None:
                return None
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
        last_slot = self._last_slot(
            next_slot, key_put, location_put, id_put, size_put, stride_put, hooks_put, args_put, put
        )
        if last_slot < 0:
            return None
        numbers = self._numbers
        try:
            numel_, offset_ = numbers[numel], numbers[offset]
        except KeyError:
            numel_ = numbers[numel] = _decode_number(numel)
            offset_ = numbers[offset] = _decode_number(offset)
        sizes = self._sizes
        try:
            size_, stride_ = sizes[size], sizes[stride]
        except KeyError:
            size_ = sizes[size] = _decode_sizes(size)
            stride_ = sizes[stride] = _decode_sizes(stride)
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
            last_slot,
        )
        self.all.append(record)
        self._first_slots.append(next_slot)
        self.hidden += last_slot - next_slot
        return record

    def holding(self, slot: int) -> TensorRecord | None:
        """The record that stored `slot` without an entry in the memo, if there is one."""
        at = bisect_right(self._first_slots, slot) - 1
        return self.all[at] if at >= 0 and slot < self.all[at].puts[0] else None

    def reveal(self, data: bytes, record: TensorRecord) -> None:
        """Enter the slots inside a record in the memo."""
        if record.expanded is None:
            inside = _slots_inside(_expand(data, record), record.first_slot, record.puts[0])
            self._memo.update(inside)
            self.hidden -= len(inside)

    def forget(self) -> None:
        """A slot got another meaning: what was resolved before may be wrong now."""
        self._names.clear()

    def _other_pattern(self, data: bytes, pos: int, limit: int) -> re.Match[bytes] | None:
        other = _WITH_MEMOIZE if self._pattern is _WITH_PUTS else _WITH_PUTS
        found = other.match(data, pos, limit)
        if found:
            self._pattern = other
        return found

    def _resolve(self, context: tuple[bytes, ...]) -> _Names | None:
        nodes = {_slot(get): self._memo.get(_slot(get)) for get in context if get}
        _, tag, storage_class, location, hooks = (self._memo.get(_slot(get)) if get else None for get in context)
        if not (isinstance(tag, Const) and tag.value == "storage" and isinstance(storage_class, Global)):
            return None
        if not (isinstance(hooks, Global) and hooks.qualified == "collections.OrderedDict"):
            return None
        place = None
        if location is not None:
            if not (isinstance(location, Const) and isinstance(location.value, str)):
                return None
            place = location.value
        elif context[3]:
            return None
        known = {slot: node for slot, node in nodes.items() if node is not None}
        return _Names(storage_class, hooks, place, tuple(known), known)

    def _key_in(self, slot: int) -> Const | TensorRecord | None:
        node = self._memo.get(slot)
        if isinstance(node, Const) and isinstance(node.value, str):
            return node
        record = self.holding(slot) if node is None else None
        if record is not None and record.first_slot == slot and record.key_from is None:
            return record
        return None

    def _last_slot(self, next_slot: int, *puts: bytes) -> int:
        """The last memo slot that a record's PUTs store, or -1 when they are not `next_slot` and those that follow."""
        joined = b"".join(puts)
        n = len(puts) - puts.count(b"")
        if len(joined) == 5 * n:
            slots = _LONG_PUTS[n](joined)
        elif self._pattern is _WITH_MEMOIZE:
            return next_slot + n - 1 if next_slot == len(self._memo) + self.hidden else -1
        else:
            slots = tuple([_slot(put) for put in puts if put])
        return next_slot + n - 1 if slots == tuple(range(next_slot, next_slot + n)) else -1


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


def _expand(data: bytes, record: TensorRecord) -> Call:
    """The nodes of a record, made from its bytes by the same machine."""
    if record.expanded is not None:
        return record.expanded
    memo = dict(record.names)
    if record.key_from is not None:
        key = record.key_from
        memo[record.gets[-1]] = _key_node(_expand(data, key)) if isinstance(key, TensorRecord) else key
    fetched = {id(node) for node in memo.values()}
    machine = _Machine(data[record.at : record.end] + b".", memo)
    machine.next_slot = record.first_slot
    machine.records.hidden = record.first_slot - len(memo)  # so that MEMOIZE counts from where the record stands
    machine.run(0, no_progress)
    call = machine.stack[-1]
    assert isinstance(call, Call)
    made: list[Node] = [call]
    for node in made:
        node.at += record.at
        made.extend(child for child in children(node) if id(child) not in fetched)
    record.expanded = call
    return call


def _slots_inside(call: Call, first: int, last: int) -> dict[int, Node]:
    """The memo slots from `first` up to and without `last` that are stored in an expanded record."""
    slots: dict[int, Node] = {}
    todo: list[Node] = [call]
    for node in todo:
        slots.update((slot, node) for slot in node.puts if first <= slot < last)
        todo.extend(children(node))
    return slots


def _key_node(call: Call) -> Node:
    """The storage key in an expanded record."""
    args = call.args[0]
    assert isinstance(args, Group)
    storage = args.items[0]
    assert isinstance(storage, Persistent)
    assert isinstance(storage.id, Group)
    return storage.id.items[2]
