"""The opcodes that are rare in checkpoints: each handler takes the machine and the opcode's offset.

It does what the opcode says with `machine.stack`, `marks` and `memo`, and returns the offset behind it.
"""

from __future__ import annotations

import re
import struct
from codecs import escape_decode
from collections.abc import Callable
from typing import TYPE_CHECKING

from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import Call, Const, Effect, Global, Group, GroupType, Node, Other, Persistent
from sdviewer.pickles.opcodes import BrokenPickle

if TYPE_CHECKING:
    from sdviewer.pickles.machine import Machine

_LONGEST_NUMBER = 4300
"""Digits of a text number that are still converted: the limit of Python itself (the time grows with their square)."""

_i4 = struct.Struct("<i").unpack_from
_u8 = struct.Struct("<Q").unpack_from


def _proto(machine: Machine, pos: int) -> int:
    protocol = machine.data[pos + 1]
    if protocol > op.HIGHEST_PROTOCOL:
        raise BrokenPickle(pos, f"pickle protocol {protocol} does not exist")
    if machine.protocol >= 0 or machine.stack or machine.marks or machine.memo:
        machine.unfaithful = "it names its protocol in the middle"
    else:
        machine.header = machine.data[pos : pos + 2]
    machine.protocol = max(machine.protocol, protocol)
    return pos + 2


def _frame(machine: Machine, pos: int) -> int:
    # A reader that buffers frames and one that does not see different opcodes behind an argument that runs over a
    # frame's end (cpython #154848), so that is damage here. So is a frame inside a frame, as in pickle.py.
    length = _u8(machine.data, pos + 1)[0]
    if length > len(machine.data) - pos - 9:
        raise BrokenPickle(pos, "a frame is longer than what is left")
    if machine.limit != len(machine.data):
        raise BrokenPickle(pos, "a frame begins inside a frame")
    machine.limit = pos + 9 + length
    machine.frames.append(pos)
    return pos + 9


def _put(machine: Machine, pos: int) -> int:
    slot, after = machine.slot_line(pos)
    machine.store(slot)
    return after


def _get(machine: Machine, pos: int) -> int:
    slot, after = machine.slot_line(pos)
    node = machine.memo.get(slot)
    machine.stack.append(node if node is not None else machine.fetch(slot, pos))
    return after


def _int(machine: Machine, pos: int) -> int:
    line, after = machine.line(pos + 1, pos)
    raw = machine.data[pos:after]
    if line in (b"00", b"01"):
        machine.stack.append(Const(pos, raw, line == b"01"))
    else:
        machine.stack.append(_number(machine, pos, raw, line))
    return after


def _long(machine: Machine, pos: int) -> int:
    line, after = machine.line(pos + 1, pos)
    machine.stack.append(_number(machine, pos, machine.data[pos:after], line.removesuffix(b"L")))
    return after


def _number(machine: Machine, pos: int, raw: bytes, digits: bytes) -> Const:
    if len(digits) > _LONGEST_NUMBER:
        machine.refused.append((pos, f"a number of {len(digits):,} digits"))
        return Const(pos, raw, digits, True)
    try:
        return Const(pos, raw, int(digits, 0))
    except ValueError:
        raise BrokenPickle(pos, "a number is none") from None


def _long1(machine: Machine, pos: int) -> int:
    value, after = machine.counted(pos, 1, pos + 2)
    machine.stack.append(Const(pos, machine.data[pos:after], int.from_bytes(value, "little", signed=True)))
    return after


def _long4(machine: Machine, pos: int) -> int:
    if _i4(machine.data, pos + 1)[0] < 0:
        raise BrokenPickle(pos, "a number has a negative length")
    value, after = machine.counted(pos, 4, pos + 5)
    machine.stack.append(Const(pos, machine.data[pos:after], int.from_bytes(value, "little", signed=True)))
    return after


def _float(machine: Machine, pos: int) -> int:
    line, after = machine.line(pos + 1, pos)
    try:
        value = float(line)
    except ValueError:
        raise BrokenPickle(pos, "a number is none") from None
    machine.stack.append(Const(pos, machine.data[pos:after], value))
    return after


def _old_text(pos: int, raw: bytes, value: bytes) -> Const:
    """A Python 2 str, which may be text or bytes: text where it is UTF-8."""
    try:
        return Const(pos, raw, value.decode("utf-8"))
    except UnicodeDecodeError:
        return Const(pos, raw, value, True)


def _string(machine: Machine, pos: int) -> int:
    line, after = machine.line(pos + 1, pos)
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise BrokenPickle(pos, "a string has no quotes")
    try:
        value = escape_decode(line[1:-1])[0]
    except ValueError:
        raise BrokenPickle(pos, "a string has a broken escape") from None
    machine.stack.append(_old_text(pos, machine.data[pos:after], bytes(value)))
    return after


def _binstring(machine: Machine, pos: int) -> int:
    if _i4(machine.data, pos + 1)[0] < 0:
        raise BrokenPickle(pos, "a string has a negative length")
    value, after = machine.counted(pos, 4, pos + 5)
    machine.stack.append(_old_text(pos, machine.data[pos:after], value))
    return after


def _short_binstring(machine: Machine, pos: int) -> int:
    value, after = machine.counted(pos, 1, pos + 2)
    machine.stack.append(_old_text(pos, machine.data[pos:after], value))
    return after


def _unicode(machine: Machine, pos: int) -> int:
    line, after = machine.line(pos + 1, pos)
    raw = machine.data[pos:after]
    try:
        machine.stack.append(Const(pos, raw, line.decode("raw-unicode-escape")))
    except UnicodeDecodeError:
        machine.stack.append(Const(pos, raw, line, True))
    return after


def _binunicode8(machine: Machine, pos: int) -> int:
    value, after = machine.counted(pos, 8, pos + 9)
    machine.stack.append(odd_text(machine, pos, machine.data[pos:after], value))
    return after


def odd_text(machine: Machine, pos: int, raw: bytes, value: bytes) -> Const:
    """Text that may hold lone surrogates, or be no text."""
    try:
        return Const(pos, raw, value.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        machine.refused.append((pos, "text that is not UTF-8"))
        return Const(pos, raw, value, True)


def _bytes_of(width: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, pos: int) -> int:
        value, after = machine.counted(pos, width, pos + 1 + width)
        machine.stack.append(Const(pos, machine.data[pos:after], value))
        return after

    return handler


def _bytearray8(machine: Machine, pos: int) -> int:
    value, after = machine.counted(pos, 8, pos + 9)
    machine.stack.append(Const(pos, machine.data[pos:after], bytearray(value)))
    return after


def _name(pos: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenPickle(pos, "a name is no UTF-8") from None


def _two_names(machine: Machine, pos: int) -> tuple[Global, int]:
    module, middle = machine.line(pos + 1, pos)
    name, after = machine.line(middle, pos)
    node = Global(pos, machine.data[pos:after], _name(pos, module), _name(pos, name))
    machine.note_global(node)
    return node, after


def _global(machine: Machine, pos: int) -> int:
    node, after = _two_names(machine, pos)
    machine.stack.append(node)
    return after


def _stack_global(machine: Machine, pos: int) -> int:
    name = machine.stack.pop()
    module = machine.stack.pop()
    names = [part.value for part in (module, name) if isinstance(part, Const) and isinstance(part.value, str)]
    if len(names) == 2:
        node = Global(pos, b"\x93", names[0], names[1], (module, name))
    elif any(isinstance(part, (Group, Const, Global)) and not _is_text(part) for part in (module, name)):
        raise BrokenPickle(pos, "a name is no string")
    else:
        node = Global(pos, b"\x93", "", "", (module, name))  # computed by a call: nobody knows without running it
    machine.note_global(node)
    machine.stack.append(node)
    return pos + 1


def _is_text(node: Node) -> bool:
    return isinstance(node, Const) and isinstance(node.value, str)


def _inst(machine: Machine, pos: int) -> int:
    node, after = _two_names(machine, pos)
    _call(machine, Call(pos, "inst", node, machine.take_mark()))
    return after


def _obj(machine: Machine, pos: int) -> int:
    items = machine.take_mark()
    _call(machine, Call(pos, "obj", items[0], items[1:]))
    return pos + 1


def _newobj(machine: Machine, pos: int) -> int:
    args = machine.stack.pop()
    _call(machine, Call(pos, "newobj", machine.stack.pop(), [args]))
    return pos + 1


def _newobj_ex(machine: Machine, pos: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    _call(machine, Call(pos, "newobj_ex", machine.stack.pop(), [args, kwargs]))
    return pos + 1


def _call(machine: Machine, call: Call) -> None:
    machine.stack.append(call)
    machine.calls.append(call)


def _marked(kind: GroupType) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, pos: int) -> int:
        items = machine.take_mark()
        if kind == "dict" and len(items) % 2:
            raise BrokenPickle(pos, "a key has no value")
        machine.stack.append(Group(pos, kind, machine.data[pos], items))
        return pos + 1

    return handler


def _empty_set(machine: Machine, pos: int) -> int:
    machine.stack.append(Group(pos, "set", op.EMPTY_SET, []))
    return pos + 1


def _additems(machine: Machine, pos: int) -> int:
    items = machine.take_mark()
    machine.stack[-1].add_effect(Effect("additems", items))
    return pos + 1


def _pop(machine: Machine, pos: int) -> int:
    """POP: take the top away again; on an empty stack it takes the mark below, as in CPython."""
    after = _recursive_tuple(machine, pos)
    if after:
        return after
    if not machine.stack:
        machine.stack = machine.marks.pop()
        return pos + 1
    _throw_away(machine, [machine.stack.pop()])
    return pos + 1


def _pop_mark(machine: Machine, pos: int) -> int:
    after = _recursive_tuple(machine, pos)
    if after:
        return after
    _throw_away(machine, machine.take_mark())
    return pos + 1


def _throw_away(machine: Machine, nodes: list[Node]) -> None:
    """Keep popped nodes as effects of the node below them: they may have been made for a side effect."""
    if machine.stack:
        for node in nodes:
            machine.stack[-1].add_effect(Effect("pop", [node]))
    elif nodes:
        machine.thrown_away += nodes
        machine.unfaithful = "it throws objects away where nothing is below them"


_POPS = re.compile(rb"0+")
_GET = re.compile(rb"h(.)|j(.{4})|g([0-9]{1,18})\n", re.DOTALL)


def _recursive_tuple(machine: Machine, pos: int) -> int:
    """Recognise how a tuple (or frozenset) that contains itself ends, and return the offset behind the POPs, or 0.

    Having saved the items, a pickler finds that saving them has already saved the tuple: it pops the items and fetches
    the tuple. The emitter comes to the same place by itself (`emit._Emitter.close`), so nothing has to be noted.
    """
    data = machine.data
    single = data[pos] == op.POP_MARK
    end = pos + 1
    if not single:
        # A run of POPs is measured once: each of them asks where it ends.
        if pos >= machine.pops_end:
            machine.pops_end = _POPS.match(data, pos).end()  # type: ignore[union-attr]
        end = machine.pops_end
    pops = end - pos
    found = _GET.match(data, end)
    if not found:
        return 0
    short, long, text = found.groups()
    slot = short[0] if short else int.from_bytes(long, "little") if long else int(text)
    node = machine.memo.get(slot)
    if not isinstance(node, Group) or node.type not in ("tuple", "frozenset") or not node.items:
        return 0
    marked = node.opcode in (op.TUPLE, op.FROZENSET)
    n = len(node.items)
    if pops != (1 if single else n + marked) or len(machine.stack) < n or (single and not marked):
        return 0
    if marked and (len(machine.stack) != n or not machine.marks):
        return 0
    if not all(map(_same, machine.stack[-n:], node.items)):
        return 0
    if marked:
        machine.take_mark()
    else:
        del machine.stack[-n:]
    return end


def _same(a: Node, b: Node) -> bool:
    """Whether two nodes are one, or the same constant without a memo slot written twice."""
    if isinstance(a, Const) and isinstance(b, Const):
        return a is b or (a.raw == b.raw and not (a.puts or b.puts or a.effects or b.effects))
    return a is b or (isinstance(a, Group) and isinstance(b, Group) and a.opcode == b.opcode == op.EMPTY_TUPLE)


def _dup(machine: Machine, pos: int) -> int:
    machine.stack.append(machine.stack[-1])
    machine.duplicated.append(machine.stack[-1])
    return pos + 1


def _extension(width: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, pos: int) -> int:
        after = pos + 1 + width
        if after > len(machine.data):
            raise BrokenPickle(pos, "it ends in an argument")
        machine.stack.append(Other(pos, machine.data[pos:after]))
        return after

    return handler


def _persid(machine: Machine, pos: int) -> int:
    _, after = machine.line(pos + 1, pos)
    machine.stack.append(Persistent(pos, None, machine.data[pos:after]))
    return after


def _next_buffer(machine: Machine, pos: int) -> int:
    machine.refused.append((pos, "an object whose bytes are not in the pickle"))
    machine.stack.append(Other(pos, b"\x97"))
    return pos + 1


def _readonly_buffer(machine: Machine, pos: int) -> int:
    machine.stack[-1] = Other(pos, b"\x98", machine.stack[-1])
    return pos + 1


RARE: dict[int, Callable[[Machine, int], int]] = {
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
