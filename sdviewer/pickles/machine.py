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

Tensor records. When the machine meets the GET that fetches `torch._utils._rebuild_tensor_v2`, a regular expression
tries to match the whole call, which becomes one `TensorRecord` (`sdviewer.pickles.records`). The slots that it stores
are not entered in the memo: a later GET finds the record by its slot numbers, and one of a slot inside it expands it.

What is thrown away again (POP) stays as a `pop` effect of the node below it: dill and cloudpickle call functions for
their side effects this way, and so does malware.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType

from sdviewer.core.collector import collector_off
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import (
    Call,
    Const,
    Effect,
    Global,
    Group,
    Node,
    Persistent,
    TensorRecord,
    children,
)
from sdviewer.pickles.opcodes import BrokenPickle
from sdviewer.pickles.rare_opcodes import RARE, odd_text
from sdviewer.pickles.records import Records

_CHUNK = 4096
"""Opcodes between two looks at the clock: a few milliseconds."""


@dataclass(slots=True)
class Pickle:
    """One parsed pickle: `data[start:end]` (end is behind STOP) and the node its STOP returned.

    `broken` says why it broke off before STOP ("" when it did not); then `root` is None, `end` is where it broke off,
    and the lists below still hold what was made before. `unfaithful` says why it cannot be written back from its nodes,
    else "" (only what parsing itself notices: `emit.is_faithful` makes sure).

    `globals`, `calls` and `records` are all nodes of these kinds in stream order, reachable from the root or not (what
    was popped or left on the stack has run all the same); a record's inner calls and names are not repeated.
    `left_over` are nodes that STOP left on the stack, or that were thrown away where nothing was below them.
    `beyond_torch` holds the opcodes it uses that torch's `weights_only` does not know. `levels` is the stack of one
    that broke off, in pieces from mark to mark.

    How it is written: `header` is its PROTO opcode (b"" in protocols 0 and 1), `frames` are the offsets of its
    FRAME opcodes, `text_memo` says that memo slots are
    text (protocol 0), `memoize` that they are implicit (protocols 4 and 5), `next_slot` is above all slots in use,
    `reused_slots` says that two nodes were stored in one slot, `duplicated` are nodes that DUP put on the stack twice.
    `refused` holds (offset, what) of arguments that Python's own machine stops at and this one does not.
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
    refused: list[tuple[int, str]] = field(default_factory=list)
    levels: list[list[Node]] = field(default_factory=list)

    @property
    def is_cut(self) -> bool:
        """Whether it broke off because its bytes ended."""
        return self.broken.partition(": ")[2] in op.CUT_OFF

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
    machine = Machine(data, {})
    try:
        with collector_off():
            end = machine.run(start, progress)
        root: Node | None = machine.stack.pop()
        broken = ""
    except BrokenPickle as problem:
        end, root, broken = problem.at, None, str(problem)
    return machine.pickle(start, end, root, broken)


_u2 = struct.Struct("<H").unpack_from
_i4 = struct.Struct("<i").unpack_from
_u4 = struct.Struct("<I").unpack_from
_f8 = struct.Struct(">d").unpack_from


class Machine:
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
        self.thrown_away: list[Node] = []
        self.header = b""
        self.frames: list[int] = []
        self.protocol = -1
        self.text_memo = False
        self.memoize = False
        self.reused_slots = False
        self.unfaithful = ""
        self.refused: list[tuple[int, str]] = []
        self.pops_end = 0
        self.rebuild: Global | None = None
        self.records = Records(memo)

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
            [*self.thrown_away, *left_over],
            self.beyond_torch,
            self.header,
            self.frames,
            self.text_memo,
            self.memoize,
            self.next_slot,
            self.reused_slots,
            self.duplicated,
            self.refused,
            [*self.marks, self.stack] if broken else [],
        )

    def run(self, pos: int, progress: Progress) -> int:  # noqa: C901
        """Go on from `pos` up to STOP and return the offset behind it; what STOP returns is on top of the stack.

        The opcodes that make up checkpoints are handled here, the most frequent first, the rest in `RARE`. `pos` stays
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
                            raise BrokenPickle(
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
                                pos = record.end
                                continue
                        stack.append(node)
                        pos = after
                    elif code == op.BINUNICODE:
                        after = pos + 5 + _u4(data, pos + 1)[0]
                        if after > size:
                            raise BrokenPickle(pos, "a string is longer than what is left")
                        raw = data[pos:after]
                        try:
                            stack.append(Const(pos, raw, raw[5:].decode()))
                        except UnicodeDecodeError:
                            stack.append(odd_text(self, pos, raw, raw[5:]))
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
                            raise BrokenPickle(pos, "a string is longer than what is left")
                        raw = data[pos:after]
                        try:
                            stack.append(Const(pos, raw, raw[2:].decode()))
                        except UnicodeDecodeError:
                            stack.append(odd_text(self, pos, raw, raw[2:]))
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
                            raise BrokenPickle(pos, "a key has no value")
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
                            raise BrokenPickle(pos, "it returns nothing")
                        self.stack = stack
                        self.next_slot = next_slot
                        return pos + 1
                    else:
                        handler = RARE.get(code)
                        if handler is None:
                            raise BrokenPickle(pos, f"0x{code:02x} is no opcode")
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
            raise BrokenPickle(pos, "it ends in an argument" if ends else "it takes from an empty stack") from None
        except BrokenPickle:
            self.stack = stack
            raise

    def fetch(self, slot: int, at: int) -> Node:
        """What is in a slot that the memo does not list: something inside a tensor record, or nothing."""
        record = self.records.holding(slot)
        if record is None:
            raise BrokenPickle(at, f"it fetches memo slot {slot:,}, in which nothing was stored")
        self.reveal(record, slot)
        return self.memo[slot]

    def reveal(self, record: TensorRecord, slot: int) -> None:
        """Enter a slot that a record stored in the memo; one inside the record brings the others inside it along."""
        last = record.puts[0]
        if slot == last:
            self.records.reveal({last: record})
        elif slot not in self.memo:
            self.records.reveal(_slots_inside(_expand(self.data, record), record, last))

    def store_below(self, slot: int) -> None:
        """Take note of a PUT into a slot that is not above all others."""
        record = self.records.holding(slot)
        if record is not None:
            self.reveal(record, slot)
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

    def line(self, pos: int, at: int) -> tuple[bytes, int]:
        """The text from `pos` to its newline, and the offset behind that; `at` is the opcode it belongs to."""
        end = self.data.find(b"\n", pos)
        if end < 0:
            raise BrokenPickle(at, "a line has no end")
        return self.data[pos:end], end + 1

    def slot_line(self, pos: int) -> tuple[int, int]:
        line, after = self.line(pos + 1, pos)
        if len(line) > 20 or not line.isdigit():
            raise BrokenPickle(pos, "a memo slot is no number")
        self.text_memo = True
        return int(line), after

    def counted(self, pos: int, width: int, after: int) -> tuple[bytes, int]:
        """The bytes argument behind a length of `width` bytes, which end at `after`, and the offset behind it."""
        length = int.from_bytes(self.data[pos + 1 : pos + 1 + width], "little")
        if after > len(self.data) or length > len(self.data) - after:
            raise BrokenPickle(pos, "a string is longer than what is left")
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


def _expand(data: bytes, record: TensorRecord) -> Call:
    """The nodes of a record, made from its bytes by the same machine."""
    if record.expanded is not None:
        return record.expanded
    memo = dict(record.names)
    if record.key_from is not None:
        key = record.key_from
        memo[record.gets[-1]] = _key_node(_expand(data, key)) if isinstance(key, TensorRecord) else key
    fetched = {id(node) for node in memo.values()}
    machine = Machine(data[record.at : record.end] + b".", memo)
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


def _slots_inside(call: Call, record: TensorRecord, last: int) -> dict[int, Node]:
    """The memo slots before `last` that an expanded record stores."""
    slots: dict[int, Node] = {}
    todo: list[Node] = [call]
    seen: set[int] = set()
    for node in todo:
        # What it fetched was made elsewhere, and may hold anything by now: a large graph, or itself.
        if id(node) in seen or not record.at <= node.at < record.end:
            continue
        seen.add(id(node))
        slots.update((slot, node) for slot in node.puts if record.first_slot <= slot < last)
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
