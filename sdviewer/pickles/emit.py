"""Node graph back to bytes: the same bytes when nothing was edited (FRAME opcodes apart).

A pickle is written as a pickler would write it: a node is created where it is first used and stored in its memo slots,
then come the opcodes that changed it; wherever it is used again, it is fetched. So nothing has to be said about where a
slot is stored: when the use that stored it is edited away, the next one does. Slots keep their numbers, new nodes get
numbers above them; the form of every constant, tuple, batch and memo opcode is the source's. What was not there is not
introduced, because `torch.load(weights_only=True)` knows few opcodes: no POP, no LONG4, no MEMOIZE.

Work waits on an explicit stack, so nesting is bounded by memory alone. A tensor record that nobody asked to expand is
copied as it stands, if all slots that it fetches have been stored by then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

from sdviewer.core.collector import collector_off
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import (
    FRESH,
    Call,
    Const,
    ConstValue,
    Global,
    Group,
    Node,
    Other,
    Persistent,
    Place,
    TensorRecord,
    children,
)


@dataclass(frozen=True)
class Edits:
    """What to write differently; the graph itself is never changed.

    `keys`: this pair gets a fresh, unmemoised key, a str or an int. `dropped`: this pair, item,
    state or call made for its side effect is left out. `values`: this
    pair, item, state or argument gets another value node. `splices`: in place of this pair come the pairs of this
    mapping node, as edited themselves. `root`: what the pickle returns instead of its root.

    Nodes of a caller's own (`at` is FRESH) may contain nodes of the pickle and may stand in several places; they need
    no memo slots, their constants no `raw`, and an empty list's or dict's opcode may come with items.
    """

    keys: Mapping[Place, str | int] = field(default_factory=dict)
    dropped: Set[Place] = frozenset()
    values: Mapping[Place, Node] = field(default_factory=dict)
    splices: Mapping[Place, Node] = field(default_factory=dict)
    root: Node | None = None


@dataclass(frozen=True, slots=True)
class Emitted:
    """The bytes, and the persistent ids in the order in which the new pickle first uses each."""

    data: bytes
    persistent: list[Persistent | TensorRecord]


def emit(pickle: Pickle, edits: Edits | None = None) -> Emitted:
    """Write a parsed pickle back.

    Raises:
        ValueError: the pickle broke off and has no root, or a fresh constant is of a kind that its protocol lacks.
    """
    emitter = _Emitter(pickle, edits or Edits())
    root = emitter.edits.root or pickle.root
    if root is None:
        raise ValueError("a pickle that broke off has nothing to write")
    with collector_off():
        emitter.run(root)
    return Emitted(b"".join((pickle.header, *emitter.out, b".")), emitter.persistent)


def is_faithful(pickle: Pickle) -> bool:
    """Whether the unedited nodes give the source's bytes again (FRAME opcodes apart); if not, `unfaithful` says so."""
    if not pickle.unfaithful and emit(pickle).data != without_frames(pickle):
        pickle.unfaithful = "written back it is not the same"
    return not pickle.unfaithful


def without_frames(pickle: Pickle) -> bytes:
    """The source's bytes without its FRAME opcodes, which only help a reader to read ahead."""
    pieces = []
    pos = pickle.start
    for frame in pickle.frames:
        pieces.append(pickle.data[pos:frame])
        pos = frame + 9
    return b"".join((*pieces, pickle.data[pos : pickle.end]))


def constant(value: ConstValue, protocol: int = 2) -> bytes:
    """The opcode that makes a value, as CPython's pickler writes it in that protocol, without a memo slot.

    Raises:
        ValueError: bytes below protocol 3, which need a call there.
    """
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return (b"\x89", b"\x88")[value] if protocol >= 2 else (b"I00\n", b"I01\n")[value]
    if isinstance(value, int):
        return _integer(value, protocol)
    if isinstance(value, float):
        return struct.pack(">Bd", op.BINFLOAT, value) if protocol else f"F{value!r}\n".encode()
    if isinstance(value, str):
        return text_constant(value, protocol)
    if protocol < 3:
        raise ValueError("bytes are no constant below protocol 3")
    if isinstance(value, bytearray):
        return struct.pack("<BQ", op.BYTEARRAY8, len(value)) + value
    if len(value) < 0x100:
        return struct.pack("<BB", op.SHORT_BINBYTES, len(value)) + value
    return struct.pack("<BQ", op.BINBYTES8, len(value)) + value


def text_constant(text: str, protocol: int = 2) -> bytes:
    """The opcode of a str: BINUNICODE, which `weights_only` accepts, or the line of protocol 0."""
    if protocol:
        encoded = text.encode("utf-8", "surrogatepass")
        return struct.pack("<BI", op.BINUNICODE, len(encoded)) + encoded
    for special in "\\\0\n\r\x1a":
        text = text.replace(special, f"\\u{ord(special):04x}")
    return b"V" + text.encode("raw-unicode-escape") + b"\n"


def _integer(value: int, protocol: int) -> bytes:
    if protocol == 0 and value.bit_length() < 10_000:
        return f"I{value}\n".encode() if -(2**31) <= value < 2**31 else f"L{value}L\n".encode()
    if 0 <= value < 0x100:
        return struct.pack("<BB", op.BININT1, value)
    if 0 <= value < 0x10000:
        return struct.pack("<BH", op.BININT2, value)
    if -(2**31) <= value < 2**31:
        return struct.pack("<Bi", op.BININT, value)
    length = value.bit_length() // 8 + 1
    head = struct.pack("<BB", op.LONG1, length) if length < 0x100 else struct.pack("<Bi", op.LONG4, length)
    return head + value.to_bytes(length, "little", signed=True)


_TUPLES = (op.EMPTY_TUPLE, op.TUPLE1, op.TUPLE2, op.TUPLE3)
_EMPTY_GROUPS = (op.EMPTY_TUPLE, op.EMPTY_LIST, op.EMPTY_DICT, op.EMPTY_SET)
_CALLS = {"reduce": b"R", "newobj": b"\x81", "newobj_ex": b"\x92", "obj": b"o"}
_FILLING = {"tuple": "appends", "list": "appends", "dict": "setitems", "set": "additems", "frozenset": "additems"}
# Effect -> (opcode for one, opcode behind a mark)
_BATCHES = {"append": (b"a", b"e"), "appends": (b"", b"e"), "additems": (b"", b"\x90")}


class _Step(NamedTuple):
    """Something to do with a node when its turn comes."""

    action: Callable[[Node, int], None]
    node: Node
    at: int = 0


_Work: TypeAlias = Node | bytes | _Step


class _Emitter:
    """One run: what is written, which slots are stored, and the work that waits, the next on top."""

    def __init__(self, pickle: Pickle, edits: Edits) -> None:
        self.pickle = pickle
        self.edits = edits
        self.out: list[bytes] = []
        self.persistent: list[Persistent | TensorRecord] = []
        self.todo: list[_Work] = []
        self.stored: set[int] = set()
        self.hidden = 0  # slots stored inside copied records and not listed in `stored`
        self.next_slot = pickle.next_slot
        self.new_slots: dict[Node, int] = {}
        self.needs_slot: set[Node] = {*pickle.duplicated, *_moved(edits)}
        self.edited = {place[0] for place in (*edits.keys, *edits.dropped, *edits.values, *edits.splices)}

    def run(self, root: Node) -> None:
        write = self.out.append
        todo = self.todo
        todo.append(root)
        while todo:
            work = todo.pop()
            kind = type(work)
            if kind is bytes:
                write(work)  # type: ignore[arg-type]
            elif kind is _Step:
                work.action(work.node, work.at)  # type: ignore[union-attr]
            else:
                self.use(work)  # type: ignore[arg-type]

    def use(self, node: Node) -> None:
        """Put a node on the stack: fetch it if it is stored, else create it."""
        slot = self.slot_of(node)
        if slot in self.stored:
            self.out.append(self.get(slot))
        elif isinstance(node, Const):
            self.out.append(node.raw or constant(node.value, self.pickle.protocol))
            self.finish(node)
        elif isinstance(node, TensorRecord):
            self.use_record(node)
        else:
            self.push(self.creation(node))

    def use_record(self, record: TensorRecord) -> None:
        first, last = record.first_slot, record.puts[0]
        as_is = record.expanded is None and not self.pickle.reused_slots and self.stored.issuperset(record.gets)
        if as_is and self.pickle.memoize and first != len(self.stored) + self.hidden:
            as_is = False  # its MEMOIZEs would store in other slots
        if not as_is:
            call = self.pickle.expand(record)
            exists = self.slot_of(call) in self.stored
            self.push((call,) if exists else (call, _Step(self.after_record, record)))
            return
        self.out.append(self.pickle.data[record.at : record.end])
        self.persistent.append(record)
        listed = len(self.stored)
        self.stored.add(last)
        if record.key_from is None:
            self.stored.add(first)  # the storage key, which later records fetch
        self.hidden += last - first + 1 - (len(self.stored) - listed)
        self.after_record(record)

    def after_record(self, record: Node, at: int = 0) -> None:
        """What happened to a tensor after its record; the record has stored it in its first slot."""
        slots = [] if self.pickle.reused_slots else record.puts[1:]
        if slots or record.effects:
            self.push(self.rest(record, slots))

    def creation(self, node: Node) -> list[_Work]:
        """The work that makes a node, up to the opcode that creates it."""
        if isinstance(node, Group):
            return self.group_creation(node)
        close = _Step(self.close, node)
        if isinstance(node, Call):
            args = [self.edited_value(node, -1, i, arg) for i, arg in enumerate(node.args)]
            if node.kind == "inst":
                return [b"(", *args, close]
            return [b"(", node.function, *args, close] if node.kind == "obj" else [node.function, *args, close]
        if isinstance(node, Persistent):
            return [close] if node.id is None else [node.id, close]
        if isinstance(node, Global):
            return [close] if node.parts is None else [*node.parts, close]
        assert isinstance(node, Other)
        return [close] if node.child is None else [node.child, close]

    def group_creation(self, group: Group) -> list[_Work]:
        if group.opcode in _EMPTY_GROUPS and group.type != "tuple":
            return [_Step(partial(self.close_group, group.opcode), group)]
        items = self.items(group, -1, group.items, in_pairs=group.type == "dict")
        opcode = group.opcode
        if group.type == "tuple" and (group.at == FRESH or len(items) != len(group.items)):
            short = len(items) < len(_TUPLES) and (self.pickle.protocol >= 2 or not items)
            opcode = _TUPLES[len(items)] if short else op.TUPLE
        mark = [b"("] if opcode not in _TUPLES else []
        return [*mark, *items, _Step(partial(self.close_group, opcode), group, len(items))]

    def close_group(self, opcode: int, group: Node, n: int) -> None:
        """Write the opcode that makes a group of the `n` items on the stack.

        Where saving the items has meanwhile saved the group itself, they are popped and it is fetched, as CPython's
        picklers do for a tuple that contains itself.
        """
        slot = self.slot_of(group)
        if slot in self.stored:
            marked = opcode not in _TUPLES
            pops = b"0" * (n + marked) if not marked or self.pickle.text_memo else b"1"
            self.out += [pops, self.get(slot)]
            return
        self.out.append(bytes((opcode,)))
        self.finish(group)

    def close(self, node: Node, at: int) -> None:
        """Write the opcode that creates any other node, its parts being on the stack."""
        if isinstance(node, Call):
            self.out.append(_CALLS[node.kind] if node.kind != "inst" else _inst(node))
            slot = self.slot_of(node)
            if slot in self.stored:  # its arguments contain it: what this made is a second one
                self.out += [b"0", self.get(slot)]
                return
        elif isinstance(node, Persistent):
            self.out.append(b"Q" if node.id is not None else node.raw)
            self.persistent.append(node)
        elif isinstance(node, Global):
            self.out.append(node.raw or f"c{node.module}\n{node.name}\n".encode())
        elif isinstance(node, Other):
            self.out.append(node.raw)
        self.finish(node)

    def finish(self, node: Node) -> None:
        """Store a created node in its slots and have its effects follow."""
        slot = self.slot_of(node)
        if slot is None and not node.effects and not (isinstance(node, Group) and node.items):
            return
        slots = [] if slot is None else [slot] if self.pickle.reused_slots or not node.puts else node.puts
        self.push(self.rest(node, slots))

    def rest(self, node: Node, slots: list[int]) -> list[_Work]:
        """The PUTs and effects of a created node, in order."""
        effects: list[_Work] = [_Step(self.effect, node, i) for i in range(len(node.effects))]
        if isinstance(node, Group) and node.items and node.opcode in _EMPTY_GROUPS and node.type != "tuple":
            effects.insert(0, _Step(self.effect, node, -1))
        before = node.effects_before_put if node not in self.needs_slot else 0
        for slot in slots[1:] if before else slots:
            if before:
                effects.insert(before, _Step(self.store, node, slot))
            else:
                self.store(node, slot)
        if before and slots:
            effects.insert(before, _Step(self.store, node, slots[0]))
        return effects

    def store(self, node: Node, slot: int) -> None:
        """Write the PUT of a node that is on top of the stack."""
        if self.pickle.memoize and slot == len(self.stored) + self.hidden:
            self.out.append(b"\x94")
        elif self.pickle.text_memo:
            self.out.append(b"p%d\n" % slot)
        elif slot < 0x100:
            self.out.append(struct.pack("<BB", op.BINPUT, slot))
        else:
            self.out.append(struct.pack("<BI", op.LONG_BINPUT, slot))
        self.stored.add(slot)

    def get(self, slot: int | None) -> bytes:
        assert slot is not None
        if self.pickle.text_memo:
            return b"g%d\n" % slot
        if slot < 0x100:
            return struct.pack("<BB", op.BINGET, slot)
        return struct.pack("<BI", op.LONG_BINGET, slot)

    def slot_of(self, node: Node) -> int | None:
        """The memo slot of a node: its first in the source, a new one where it needs one, or None."""
        if node.puts and not self.pickle.reused_slots:
            return node.puts[0]
        slot = self.new_slots.get(node)
        if slot is not None:
            return slot if slot >= 0 else None
        if node.puts or node in self.needs_slot or (node.at == FRESH and not _is_atom(node)):
            slot = self.new_slots[node] = self.next_slot
            self.next_slot += 1
        return slot

    def effect(self, node: Node, at: int) -> None:
        """Write one effect of a node, edited; `at` -1 are the items that came with a fresh list or dict."""
        if at < 0:
            assert isinstance(node, Group)
            kind, source = _FILLING[node.type], node.items
        else:
            kind, source = node.effects[at].kind, node.effects[at].items
        if kind == "build":
            if Place(node, at, 0) not in self.edits.dropped:
                self.push((self.edited_value(node, at, 0, source[0]), b"b"))
        elif kind == "pop":
            if Place(node, at, 0) not in self.edits.dropped:
                self.push((*source, b"0"))
        elif kind in ("setitem", "setitems"):
            items = self.items(node, at, source, in_pairs=True)
            if kind == "setitem" and len(items) == 2:
                self.push((*items, b"s"))
            elif items or not source:
                self.push((b"(", *items, b"u"))
        else:
            items = self.items(node, at, source, in_pairs=False)
            single, many = _BATCHES[kind]
            if single and items:
                self.push((*items, single))
            elif items or (not source and not single):
                self.push((b"(", *items, many))

    def items(self, node: Node, effect: int, source: list[Node], *, in_pairs: bool) -> list[Node]:
        """The items of an effect, or of the node itself (-1), with the edits made."""
        if node not in self.edited:
            return source
        dropped = self.edits.dropped
        if not in_pairs:
            return [
                self.edited_value(node, effect, i, item)
                for i, item in enumerate(source)
                if (node, effect, i) not in dropped
            ]
        keys, splices = self.edits.keys, self.edits.splices
        result: list[Node] = []
        for i in range(0, len(source), 2):
            place = Place(node, effect, i)
            if place in dropped:
                continue
            mapping = splices.get(place)
            if mapping is not None:
                result.extend(self.all_pairs(mapping))
                continue
            key = keys.get(place)
            result.append(source[i] if key is None else Const(FRESH, constant(key, self.pickle.protocol), key))
            result.append(self.edited_value(node, effect, i, source[i + 1]))
        return result

    def all_pairs(self, mapping: Node) -> list[Node]:
        """Keys and values of a whole mapping, edited, one after the other."""
        result: list[Node] = []
        if isinstance(mapping, Group):
            result.extend(self.items(mapping, -1, mapping.items, in_pairs=True))
        for e, effect in enumerate(mapping.effects):
            if effect.kind in ("setitem", "setitems"):
                result.extend(self.items(mapping, e, effect.items, in_pairs=True))
        return result

    def edited_value(self, node: Node, effect: int, at: int, value: Node) -> Node:
        return self.edits.values.get(Place(node, effect, at), value) if node in self.edited else value

    def push(self, work: Iterable[_Work]) -> None:
        """Have these done next, in order."""
        self.todo.extend(reversed(list(work)))


def _inst(call: Call) -> bytes:
    name = call.function
    assert isinstance(name, Global)
    return name.raw or f"i{name.module}\n{name.name}\n".encode()


def _is_atom(node: Node) -> bool:
    """Whether a node may be made anew wherever it is used."""
    return isinstance(node, Const) or (isinstance(node, Group) and node.opcode == op.EMPTY_TUPLE and not node.items)


def _moved(edits: Edits) -> set[Node]:
    """The nodes of the pickle that edits put into another place, and which may therefore now stand in two.

    One without a memo slot would be created twice there.
    """
    moved: set[Node] = set()
    seen: set[Node] = set()
    todo = [*edits.values.values(), *edits.splices.values(), *([edits.root] if edits.root is not None else [])]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.at == FRESH:
            todo.extend(children(node))
        elif not node.puts and not _is_atom(node):
            moved.add(node)
    return moved
