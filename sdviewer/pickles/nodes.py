"""The inert nodes that a pickle becomes.

One opcode that makes an object makes one node; an opcode that changes an object appends an effect to its node. The
order of effects, the exact opcode bytes of constants, the form of tuples and the memo slots are kept, so that the graph
can be written back as the same bytes (`sdviewer.pickles.emit`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

EffectKind = Literal["append", "appends", "setitem", "setitems", "additems", "build", "pop"]
CallKind = Literal["reduce", "newobj", "newobj_ex", "obj", "inst"]


class Effect:
    """One opcode that changed a node: `items` are what it took from the stack, in stack order.

    `setitem` and `setitems` take key, value, key, value ...; `build` takes the state; `pop` keeps a node whose call was
    made for its side effect and whose result was thrown away.
    """

    __slots__ = ("items", "kind")

    def __init__(self, kind: EffectKind, items: list[Node]) -> None:
        self.kind = kind
        self.items = items


class Place(NamedTuple):
    """Where a pair or an item stands: in which node, in which of its effects, at which place of `Effect.items`.

    For items that came with the node itself (a MARK ... DICT, LIST or TUPLE) `effect` is -1 and `at` counts in
    `node.items`. For a pair `at` is the key's; the value follows.
    """

    node: Node
    effect: int
    at: int


class Base:
    """What all nodes share.

    `at` is the byte offset of the creating opcode in the pickle's data. `effects` are in order. `puts` are the memo
    slots it was stored in; `effects_before_put` says how many effects came before the first.
    """

    __slots__ = ("at", "effects", "effects_before_put", "puts")

    def __init__(self, at: int) -> None:
        self.at = at
        self.effects: list[Effect] = []
        self.puts: list[int] = []
        self.effects_before_put = 0


class Const(Base):
    """None, bool, int, float, str, bytes or bytearray.

    `raw` is the whole opcode with its argument; `value` is decoded (a str with `surrogatepass`; text that is no UTF-8
    stays bytes and sets `undecodable`).
    """

    __slots__ = ("raw", "undecodable", "value")

    def __init__(self, at: int, raw: bytes, value: ConstValue, undecodable: bool = False) -> None:
        super().__init__(at)
        self.raw = raw
        self.value = value
        self.undecodable = undecodable


class Global(Base):
    """A name the pickle asks for: `module` and `name` as written (GLOBAL), or from two nodes (STACK_GLOBAL).

    `parts` holds the two nodes of a STACK_GLOBAL, else None; where they are no strings `module` and `name` are "".
    """

    __slots__ = ("module", "name", "parts", "raw")

    def __init__(self, at: int, raw: bytes, module: str, name: str, parts: tuple[Node, Node] | None = None) -> None:
        super().__init__(at)
        self.raw = raw
        self.module = module
        self.name = name
        self.parts = parts

    @property
    def qualified(self) -> str:
        """`module.name`, raw."""
        return f"{self.module}.{self.name}"


class Group(Base):
    """A tuple, list, dict, set or frozenset.

    `items` came with the creating opcode (MARK ... TUPLE, LIST, DICT, FROZENSET; TUPLE1-3), the rest through effects.
    `opcode` is the creating opcode's byte (`)`, `]`, `}`, 0x8f, `t`, 0x85 ..., `l`, `d`, 0x91).
    """

    __slots__ = ("items", "opcode", "type")

    def __init__(self, at: int, type: GroupType, opcode: int, items: list[Node]) -> None:  # noqa: A002
        super().__init__(at)
        self.type = type
        self.opcode = opcode
        self.items = items


class Call(Base):
    """What REDUCE, NEWOBJ, NEWOBJ_EX, OBJ or INST would call, and does not.

    `args` is one node for reduce and newobj (normally a tuple), two for newobj_ex (args, kwargs), the loose arguments
    for obj and inst.
    """

    __slots__ = ("args", "function", "kind")

    def __init__(self, at: int, kind: CallKind, function: Node, args: list[Node]) -> None:
        super().__init__(at)
        self.kind = kind
        self.function = function
        self.args = args


class Persistent(Base):
    """A persistent id: `id` is a node (BINPERSID) or the line of a text PERSID (then `raw` holds the opcode)."""

    __slots__ = ("id", "raw")

    def __init__(self, at: int, id: Node | None, raw: bytes = b"") -> None:  # noqa: A002
        super().__init__(at)
        self.id = id
        self.raw = raw


class Other(Base):
    """An opcode whose object cannot be known from the pickle alone: EXT1/2/4, NEXT_BUFFER, READONLY_BUFFER."""

    __slots__ = ("child", "raw")

    def __init__(self, at: int, raw: bytes, child: Node | None = None) -> None:
        super().__init__(at)
        self.raw = raw
        self.child = child


class TensorRecord(Base):
    """A whole `_rebuild_tensor_v2` call recognised by one regular expression: stands for the nodes of 35 opcodes.

    `at` to `end` are its bytes. `function`, `storage_class` and `hooks_class` are the Global nodes its GETs name.
    `key`, `location` are text; `numel` is in elements of the storage class, `offset`, `size`, `stride` in elements.
    `expanded` is the Call it stands for once somebody asked for it (`Pickle.expand`); then the emitter follows that.
    """

    __slots__ = (
        "end",
        "expanded",
        "function",
        "gets",
        "hooks_class",
        "key",
        "location",
        "numel",
        "offset",
        "requires_grad",
        "size",
        "storage_class",
        "stride",
    )

    end: int
    expanded: Call | None
    function: Global
    gets: tuple[int, ...]
    hooks_class: Global
    key: str
    location: str
    numel: int
    offset: int
    requires_grad: bool
    size: tuple[int, ...]
    storage_class: Global
    stride: tuple[int, ...]


Node: TypeAlias = Const | Global | Group | Call | Persistent | Other | TensorRecord
ConstValue: TypeAlias = bool | int | float | str | bytes | bytearray | None
GroupType = Literal["tuple", "list", "dict", "set", "frozenset"]


def pairs(node: Node) -> Iterator[tuple[Place, Node, Node]]:
    """The (place, key, value) of a dict or of an object filled by SETITEM(S), in stream order, duplicates too."""
    if isinstance(node, Group) and node.type == "dict":
        for i in range(0, len(node.items) - 1, 2):
            yield Place(node, -1, i), node.items[i], node.items[i + 1]
    for e, effect in enumerate(node.effects):
        if effect.kind in ("setitem", "setitems"):
            items = effect.items
            for i in range(0, len(items) - 1, 2):
                yield Place(node, e, i), items[i], items[i + 1]


def elements(node: Node) -> Iterator[tuple[Place, Node]]:
    """The (place, item) of a tuple, list, set, frozenset, or of an object that got items by APPEND(S) or ADDITEMS."""
    if isinstance(node, Group) and node.type != "dict":
        for i, item in enumerate(node.items):
            yield Place(node, -1, i), item
    for e, effect in enumerate(node.effects):
        if effect.kind in ("append", "appends", "additems"):
            for i, item in enumerate(effect.items):
                yield Place(node, e, i), item


def states(node: Node) -> Iterator[tuple[Place, Node]]:
    """The (place, state) of every BUILD on a node, in order."""
    for e, effect in enumerate(node.effects):
        if effect.kind == "build":
            yield Place(node, e, 0), effect.items[0]
