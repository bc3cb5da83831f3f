"""Where in a pickle's objects its names stand, as dotted paths for people: `args.config`."""

from __future__ import annotations

from collections.abc import Iterator

from sdviewer.core import text
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, TensorRecord
from sdviewer.pickles.python_line import python_line

MOST_PATHS = 5
"""Paths told of one name; of a name that stands in more places only the entries of the root are told."""

_DEEPEST = 40
"""Steps of a path that are told."""

_Above = tuple[Node | None, str, str]
"""What a node was first found in, under which label, and below which entry of the root."""


def places_of_names(pickle: Pickle) -> dict[Global, tuple[str, ...]]:
    """For each name the paths of what needs it, at most `MOST_PATHS`; none for a name that nothing reaches.

    A path is that on which the walk first came to an object; the root's own is "".
    """
    walk = _Walk()
    for start in (pickle.root, *pickle.left_over):
        if start is not None:
            walk.come_to(start, None, "", "")
    for node in walk.todo:
        top = walk.above[node][2]
        for label, child in inside(node):
            walk.come_to(child, node, label, top or label)
    return {name: walk.told(name) for name in walk.holders}


class _Walk:
    """Every object once, the nearest to the root first."""

    def __init__(self) -> None:
        self.above: dict[Node, _Above] = {}
        self.todo: list[Node] = []
        self.holders: dict[Global, list[tuple[Node | None, str]]] = {}
        self.tops: dict[Global, dict[str, None]] = {}
        self.full: set[Node] = set()

    def come_to(self, node: Node, holder: Node | None, label: str, top: str) -> None:
        if isinstance(node, Global):
            if node not in self.full:
                self.note(node, holder, label, top)
        elif isinstance(node, TensorRecord) and not node.effects:
            for name in (node.function, node.storage_class, node.hooks_class):
                if name not in self.full:
                    self.note(name, holder, label, top)
        elif (not isinstance(node, Const) or node.effects) and node not in self.above:
            # Without a label it has its holder's path: a chain of thousands of them is not walked for each.
            self.above[node] = (holder, label, top) if label or holder is None else self.above[holder]
            self.todo.append(node)

    def note(self, name: Global, holder: Node | None, label: str, top: str) -> None:
        holders = self.holders.setdefault(name, [])
        tops = self.tops.setdefault(name, {})
        if len(holders) <= MOST_PATHS:
            holders.append((holder, label))
        if len(tops) <= MOST_PATHS:
            tops[top] = None
        elif len(holders) > MOST_PATHS:
            self.full.add(name)

    def told(self, name: Global) -> tuple[str, ...]:
        holders, tops = self.holders[name], self.tops[name]
        if len(holders) <= MOST_PATHS:
            return tuple(dict.fromkeys(self.path(holder, label) for holder, label in holders))
        return tuple(map(text.visible, tops)) if len(tops) <= MOST_PATHS else ()

    def path(self, node: Node | None, last: str) -> str:
        steps = [last] if last else []
        while node is not None and len(steps) < _DEEPEST:
            node, label, _ = self.above[node]
            if label:
                steps.append(label)
        return text.visible(".".join(reversed(steps)))


def inside(node: Node) -> Iterator[tuple[str, Node]]:
    """What stands directly in a node with its label: a key, a number, "" for what has no name of its own."""
    if isinstance(node, TensorRecord):
        yield "", node.function
        yield "", node.storage_class
        yield "", node.hooks_class
    elif isinstance(node, Call):
        yield "", node.function
        for argument in node.args:
            yield from _unnumbered(argument)
    elif isinstance(node, Persistent):
        if node.id is not None:
            yield from _unnumbered(node.id)
    elif isinstance(node, Global):
        for part in node.parts or ():
            yield "", part
    elif isinstance(node, Other) and node.child is not None:
        yield "", node.child
    if isinstance(node, Group):
        yield from _pairs(node.items) if node.type == "dict" else _items(node.items, 0)
    count = len(node.items) if isinstance(node, Group) and node.type != "dict" else 0
    for effect in node.effects:
        if effect.kind in ("setitem", "setitems"):
            yield from _pairs(effect.items)
        elif effect.kind in ("append", "appends", "additems"):
            yield from _items(effect.items, count)
            count += len(effect.items)
        elif effect.kind == "build":
            yield from _unnumbered(effect.items[0])
        else:
            yield "", effect.items[0]


def _unnumbered(node: Node) -> Iterator[tuple[str, Node]]:
    """What a call is given, or a state made of: its number in the tuple says nothing to a person."""
    if isinstance(node, Group) and node.type == "tuple" and not node.effects:
        for item in node.items:
            yield "", item
    else:
        yield "", node


def _pairs(items: list[Node]) -> Iterator[tuple[str, Node]]:
    for key, value in zip(items[::2], items[1::2], strict=False):
        if type(key) is Const and type(key.value) is str:
            yield key.value, value
        else:
            yield "", key
            yield key_text(key), value


def _items(items: list[Node], first: int) -> Iterator[tuple[str, Node]]:
    for i, item in enumerate(items, first):
        yield str(i), item


def key_text(key: Node) -> str:
    """A key of a mapping as a step of a path."""
    return key.value if isinstance(key, Const) and isinstance(key.value, str) else python_line(key)
