"""The inert nodes that a pickle becomes.

One opcode that makes an object makes one node; an opcode that changes an object appends an effect to its node. The
order of effects, the exact opcode bytes of constants, the form of tuples and the memo slots are kept, so that the graph
can be written back as the same bytes (`sdviewer.pickles.emit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, cast

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


FRESH = -1
"""`at` of a node that no file holds: made by an edit."""

# A checkpoint makes a million nodes, most without any effect or with one memo slot at most; they share this empty list.
# It is a tuple, so that nobody can fill it by mistake: the first effect or slot brings a list of its own.
_EMPTY: list[Any] = cast("list[Any]", ())


class Base:
    """What all nodes share.

    `at` is the byte offset of the creating opcode in the pickle's data. `effects` are in order. `puts` are the memo
    slots it was stored in; `effects_before_put` says how many effects came before the first. Both are read only from
    outside: empty ones are shared (`add_effect`, `add_put`).
    """

    __slots__ = ("at", "effects", "effects_before_put", "puts")

    at: int
    effects: list[Effect]
    effects_before_put: int
    puts: list[int]

    def add_effect(self, effect: Effect) -> None:
        """Note one more opcode that changed this node."""
        if self.effects:
            self.effects.append(effect)
        else:
            self.effects = [effect]

    def add_put(self, slot: int) -> None:
        """Note one more memo slot that this node was stored in."""
        if self.puts:
            self.puts.append(slot)
        else:
            self.puts = [slot]
            self.effects_before_put = len(self.effects)


class Const(Base):
    """None, bool, int, float, str, bytes or bytearray.

    `raw` is the whole opcode with its argument (b"" for a fresh one: the emitter writes it in the pickle's own style);
    `value` is decoded (a str with `surrogatepass`; text that is no UTF-8, and a text number too long to be converted,
    stays bytes and sets `undecodable`).
    """

    __slots__ = ("raw", "undecodable", "value")

    def __init__(self, at: int, raw: bytes, value: ConstValue, undecodable: bool = False) -> None:
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
        self.raw = raw
        self.value = value
        self.undecodable = undecodable


class Global(Base):
    """A name the pickle asks for: `module` and `name` as written (GLOBAL), or from two nodes (STACK_GLOBAL).

    `parts` holds the two nodes of a STACK_GLOBAL, else None; where they are no strings `module` and `name` are "".
    """

    __slots__ = ("module", "name", "parts", "raw")

    def __init__(self, at: int, raw: bytes, module: str, name: str, parts: tuple[Node, Node] | None = None) -> None:
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
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
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
        self.type = type
        self.opcode = opcode
        self.items = items


class Call(Base):
    """What REDUCE, NEWOBJ, NEWOBJ_EX, OBJ or INST would call, and does not.

    `args` is one node for reduce and newobj (normally a tuple), two for newobj_ex (args, kwargs), the loose arguments
    for obj and inst. The function of an INST is a Global whose `raw` is the INST opcode itself.
    """

    __slots__ = ("args", "function", "kind")

    def __init__(self, at: int, kind: CallKind, function: Node, args: list[Node]) -> None:
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
        self.kind = kind
        self.function = function
        self.args = args


class Persistent(Base):
    """A persistent id: `id` is a node (BINPERSID) or the line of a text PERSID (then `raw` holds the opcode)."""

    __slots__ = ("id", "raw")

    def __init__(self, at: int, id: Node | None, raw: bytes = b"") -> None:  # noqa: A002
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
        self.id = id
        self.raw = raw


class Other(Base):
    """An opcode whose object cannot be known from the pickle alone: EXT1/2/4, NEXT_BUFFER, READONLY_BUFFER."""

    __slots__ = ("child", "raw")

    def __init__(self, at: int, raw: bytes, child: Node | None = None) -> None:
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = _EMPTY
        self.raw = raw
        self.child = child


class TensorRecord(Base):
    """A whole `_rebuild_tensor_v2` call recognised by one regular expression: stands for the nodes of 35 opcodes.

    `at` to `end` are its bytes, its last memo slot with them. `function`, `storage_class` and `hooks_class` are the
    Global nodes its GETs name. `key`, `location` are text; `numel` is in elements of the storage class, `offset`,
    `size`, `stride` in elements. `expanded` is the Call it stands for once somebody asked for it (`Pickle.expand`);
    then the emitter follows that.

    `gets` are the memo slots it reads and `names` the nodes in them, the storage key's apart: that slot, where it has
    one, stands last in `gets`, and `key_from` is the string or the record whose key it is. The slots it stores are
    consecutive, from `first_slot` (its storage key, where that is its own) to `puts[0]`, the tensor itself.
    """

    __slots__ = (
        "end",
        "expanded",
        "first_slot",
        "function",
        "gets",
        "hooks_class",
        "key",
        "key_from",
        "location",
        "names",
        "numel",
        "offset",
        "requires_grad",
        "size",
        "storage_class",
        "stride",
    )

    def __init__(
        self,
        at: int,
        end: int,
        function: Global,
        storage_class: Global,
        hooks_class: Global,
        key: str,
        location: str,
        numel: int,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool,
        gets: tuple[int, ...],
        names: Mapping[int, Node],
        key_from: Const | TensorRecord | None,
        first_slot: int,
        last_slot: int,
    ) -> None:
        self.at = at
        self.effects = _EMPTY
        self.effects_before_put = 0
        self.puts = [last_slot]
        self.end = end
        self.expanded: Call | None = None
        self.function = function
        self.storage_class = storage_class
        self.hooks_class = hooks_class
        self.key = key
        self.location = location
        self.numel = numel
        self.offset = offset
        self.size = size
        self.stride = stride
        self.requires_grad = requires_grad
        self.gets = gets
        self.names = names
        self.key_from = key_from
        self.first_slot = first_slot


Node: TypeAlias = Const | Global | Group | Call | Persistent | Other | TensorRecord
ConstValue: TypeAlias = bool | int | float | str | bytes | bytearray | None
GroupType = Literal["tuple", "list", "dict", "set", "frozenset"]


def children(node: Node) -> list[Node]:
    """The nodes that stand directly in a node: what it was made of, then the items of its effects, in stream order.

    A tensor record has none but those of its effects: it is not expanded for this.
    """
    nodes: list[Node] = []
    if isinstance(node, Group):
        nodes.extend(node.items)
    elif isinstance(node, Call):
        nodes.append(node.function)
        nodes.extend(node.args)
    elif isinstance(node, Persistent):
        if node.id is not None:
            nodes.append(node.id)
    elif isinstance(node, Global):
        nodes.extend(node.parts or ())
    elif isinstance(node, Other) and node.child is not None:
        nodes.append(node.child)
    for effect in node.effects:
        nodes.extend(effect.items)
    return nodes


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


def items_at(place: Place) -> list[Node]:
    """What stands beside a place, itself included: the items of its effect, or those its node came with."""
    if place.effect >= 0:
        return place.node.effects[place.effect].items
    assert isinstance(place.node, Group)
    return place.node.items


def is_pair(place: Place) -> bool:
    """Whether a place is that of a key, with its value behind it, and not that of an item."""
    if place.effect < 0:
        return isinstance(place.node, Group) and place.node.type == "dict"
    return place.node.effects[place.effect].kind in ("setitem", "setitems")


def value_at(place: Place) -> Node:
    """The value of a pair, also of one that Python 2 wrote as a list of key and value."""
    if is_pair(place):
        return items_at(place)[place.at + 1]
    return [item for _, item in elements(place.node)][1]
