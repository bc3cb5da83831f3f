"""Where in a pickle's objects its names stand, as dotted paths for people: `args.config`."""

from __future__ import annotations

from collections.abc import Iterator

from sdviewer.core import text
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, TensorRecord, elements, pairs
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
    above: dict[Node, _Above] = {}
    holders: dict[Global, list[tuple[Node, str]]] = {}
    tops: dict[Global, dict[str, None]] = {}
    todo: list[Node] = []
    for start in (pickle.root, *pickle.left_over):
        if start is not None and start not in above:
            above[start] = (None, "", "")
            todo.append(start)
            if isinstance(start, Global):
                holders[start], tops[start] = [(start, "")], {}
    for node in todo:
        top = above[node][2]
        for label, child in inside(node):
            if isinstance(child, Global):
                known = holders.setdefault(child, [])
                if len(known) <= MOST_PATHS:
                    known.append((node, label))
                names = tops.setdefault(child, {})
                if len(names) <= MOST_PATHS and (top or label):
                    names[top or label] = None
            elif child not in above and not (isinstance(child, Const) and not child.effects):
                above[child] = (node, label, top or label)
                todo.append(child)
    return {name: _told(found, tops[name], above) for name, found in holders.items()}


def inside(node: Node) -> Iterator[tuple[str, Node]]:
    """What stands directly in a node with its label: a key, a number, "" for what has no name of its own."""
    if isinstance(node, TensorRecord):
        yield "", node.function
        yield "", node.storage_class
        yield "", node.hooks_class
    elif isinstance(node, Call):
        yield "", node.function
        for argument in node.args:
            yield "", argument
    elif isinstance(node, Persistent):
        if node.id is not None:
            yield "", node.id
    elif isinstance(node, Global):
        for part in node.parts or ():
            yield "", part
    elif isinstance(node, Other) and node.child is not None:
        yield "", node.child
    for _, key, value in pairs(node):
        if not isinstance(key, Const):
            yield "", key
        yield key_text(key), value
    if not isinstance(node, Const) and (isinstance(node, Group) or node.effects):
        for i, (_, item) in enumerate(elements(node)):
            yield str(i), item
    for effect in node.effects:
        if effect.kind in ("build", "pop"):
            yield "", effect.items[0]


def key_text(key: Node) -> str:
    """A key of a mapping as a step of a path."""
    if isinstance(key, Const) and isinstance(key.value, str):
        return text.visible(key.value, 200) or "''"
    return python_line(key)


def _told(found: list[tuple[Node, str]], tops: dict[str, None], above: dict[Node, _Above]) -> tuple[str, ...]:
    if len(found) <= MOST_PATHS:
        return tuple(dict.fromkeys(_path(node, label, above) for node, label in found))
    if len(tops) <= MOST_PATHS:
        return tuple(tops) or ("",)
    return ()


def _path(node: Node, last: str, above: dict[Node, _Above]) -> str:
    steps = [last] if last else []
    at: Node | None = node
    while at is not None and len(steps) < _DEEPEST:
        at, label, _ = above.get(at, (None, "", ""))
        if label:
            steps.append(label)
    return ".".join(reversed(steps))
