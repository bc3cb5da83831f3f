"""Whether a written pickle is the source's with the edits in it and nothing else.

Both graphs are walked side by side, so this holds for every object in the file, shown or not: classes nobody knows,
hooks, cycles, calls made for their side effect, what is one object and what are two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.pickles.emit import Edits
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, Place, TensorRecord, pairs

_PAIRS_BETWEEN_LOOKS = 4096


class _Part(NamedTuple):
    """One thing that happened to a container: a pair, an item, a state, a call made for its side effect.

    `key` is the fresh key of an edited pair, which then has no key node.
    """

    kind: str
    nodes: tuple[Node, ...]
    key: str | int | None = None


SameId = Callable[[Persistent, Persistent], str]
"""What differs between two persistent ids, "" where nothing that counts does."""


def first_difference(
    source: Pickle, edits: Edits, written: Pickle, progress: Progress, *, same_id: SameId | None = None
) -> str:
    """The first place where `written` is not `source` with `edits`, in words; "" when there is none.

    `same_id` compares persistent ids where they are written in another form.

    Raises:
        Cancelled: from `progress`, called now and then with 0, 0.
    """
    return _Walk(source, edits, written, same_id).run(progress)


class _Walk:
    def __init__(self, source: Pickle, edits: Edits, written: Pickle, same_id: SameId | None) -> None:
        self.source = source
        self.edits = edits
        self.written = written
        self.same_id = same_id
        # Of containers and calls, which one here is which one there; and the other way round.
        self.there: dict[int, Node] = {}
        self.here: dict[int, Node] = {}
        self.todo: list[tuple[Node, Node]] = []

    def run(self, progress: Progress) -> str:
        root = self.edits.root if self.edits.root is not None else self.source.root
        if root is None or self.written.root is None:
            return "a pickle has no root"
        if self.source.protocol != self.written.protocol:
            return f"protocol {self.source.protocol} became {self.written.protocol}"
        self.todo.append((root, self.written.root))
        count = 0
        while self.todo:
            here, there = self.todo.pop()
            count += 1
            if count % _PAIRS_BETWEEN_LOOKS == 0:
                progress(0, 0)
            known = self.there.get(id(here))
            if known is not None or id(there) in self.here:
                if known is not there or self.here.get(id(there)) is not here:
                    return f"what is one object became two, or two became one, at byte {there.at:,}"
                continue
            if not isinstance(here, Const | Global):
                self.there[id(here)] = there
                self.here[id(there)] = here
            difference = self._compare(here, there)
            if difference:
                return f"{difference}, at byte {there.at:,}"
        return ""

    def _compare(self, here: Node, there: Node) -> str:
        """What differs between two nodes themselves; what they hold is put on the list."""
        if isinstance(here, TensorRecord) and isinstance(there, TensorRecord) and self.same_id is None:
            return _compare_records(here, there) or self._compare_parts(here, there)
        if isinstance(here, TensorRecord) or isinstance(there, TensorRecord):
            # The first call of its kind is written out, later ones are recognised as records: look inside.
            a = self.source.expand(here) if isinstance(here, TensorRecord) else here
            b = self.written.expand(there) if isinstance(there, TensorRecord) else there
            if not (isinstance(a, Call) and isinstance(b, Call)):
                return "a tensor became something else"
            return self._compare_kind(a, b) or self._compare_parts(here, there)
        if type(here) is not type(there):
            return f"a {type(here).__name__} became a {type(there).__name__}"
        difference = self._compare_kind(here, there)
        return difference or self._compare_parts(here, there)

    def _compare_kind(self, here: Node, there: Node) -> str:
        if isinstance(here, Const) and isinstance(there, Const):
            return "" if _same_constant(here, there) else f"{_shown(here)} became {_shown(there)}"
        if isinstance(here, Global) and isinstance(there, Global):
            if here.parts and there.parts:
                self.todo += zip(here.parts, there.parts, strict=True)
            same = here.qualified == there.qualified and bool(here.parts) == bool(there.parts)
            return "" if same else f"{visible(here.qualified, 80)} became {visible(there.qualified, 80)}"
        if isinstance(here, Group) and isinstance(there, Group):
            return "" if here.type == there.type else f"a {here.type} became a {there.type}"
        if isinstance(here, Call) and isinstance(there, Call):
            if here.kind != there.kind or len(here.args) != len(there.args):
                return f"a call by {here.kind} became one by {there.kind}"
            self.todo += [(here.function, there.function), *zip(here.args, there.args, strict=True)]
        if isinstance(here, Persistent) and isinstance(there, Persistent) and self.same_id is not None:
            return self.same_id(here, there)
        if isinstance(here, Persistent) and isinstance(there, Persistent):
            if (here.id is None) != (there.id is None) or here.raw != there.raw:
                return "a persistent id changed"
            if here.id is not None and there.id is not None:
                self.todo.append((here.id, there.id))
        if isinstance(here, Other) and isinstance(there, Other):
            if here.raw != there.raw or (here.child is None) != (there.child is None):
                return "an opcode changed"
            if here.child is not None and there.child is not None:
                self.todo.append((here.child, there.child))
        return ""

    def _compare_parts(self, here: Node, there: Node) -> str:
        expected = list(self._edited(here))
        found = list(_parts(there))
        if len(expected) != len(found):
            return f"{len(expected):,} entries became {len(found):,}"
        for (_, part), (_, other) in zip(expected, found, strict=True):
            if part.kind != other.kind:
                return f"a {part.kind} became a {other.kind}"
            mine, theirs = part.nodes, other.nodes
            if part.key is not None:
                key = theirs[0]
                if not isinstance(key, Const) or key.value != part.key or key.undecodable:
                    return f"the key {visible(str(part.key), 80)} is not there"
                theirs = theirs[1:]
            if len(mine) != len(theirs):
                return f"a {part.kind} changed its size"
            self.todo += zip(mine, theirs, strict=True)
        return ""

    def _edited(self, node: Node) -> Iterator[tuple[Place, _Part]]:
        edits = self.edits
        for place, part in _parts(node):
            if place in edits.dropped:
                continue
            if place in edits.splices:
                for inner, key, value in pairs(edits.splices[place]):
                    if inner not in edits.dropped:
                        yield inner, self._renamed(inner, _Part("pair", (key, value)))
                continue
            yield place, self._renamed(place, part)

    def _renamed(self, place: Place, part: _Part) -> _Part:
        if place in self.edits.values:
            part = part._replace(nodes=(*part.nodes[:-1], self.edits.values[place]))
        if place in self.edits.keys:
            part = part._replace(nodes=part.nodes[1:], key=self.edits.keys[place])
        return part


_KINDS = {
    "append": "item",
    "appends": "item",
    "additems": "item",
    "setitem": "pair",
    "setitems": "pair",
    "build": "state",
    "pop": "call",
}


def _parts(node: Node) -> Iterator[tuple[Place, _Part]]:
    """Everything that a node holds, in order, whatever opcodes brought it there."""
    if isinstance(node, Group):
        yield from _cut(node, -1, "pair" if node.type == "dict" else "item", node.items)
    for at, effect in enumerate(node.effects):
        yield from _cut(node, at, _KINDS[effect.kind], effect.items)


def _cut(node: Node, effect: int, kind: str, items: list[Node]) -> Iterator[tuple[Place, _Part]]:
    width = 2 if kind == "pair" else 1
    for at in range(0, len(items), width):
        yield Place(node, effect, at), _Part(kind, tuple(items[at : at + width]))


def _same_constant(here: Const, there: Const) -> bool:
    if here.raw and there.raw:
        return here.raw == there.raw
    return type(here.value) is type(there.value) and here.value == there.value


def _shown(node: Const) -> str:
    return visible(repr(node.value) if not isinstance(node.value, int) else node.raw.hex(), 60)


def _compare_records(here: TensorRecord, there: TensorRecord) -> str:
    mine = (here.key, here.location, here.numel, here.offset, here.size, here.stride, here.requires_grad)
    theirs = (there.key, there.location, there.numel, there.offset, there.size, there.stride, there.requires_grad)
    if mine != theirs:
        return f"tensor {mine} became {theirs}"
    for a, b in (
        (here.function, there.function),
        (here.storage_class, there.storage_class),
        (here.hooks_class, there.hooks_class),
    ):
        if a.qualified != b.qualified:
            return f"{visible(a.qualified, 80)} became {visible(b.qualified, 80)}"
    return ""
