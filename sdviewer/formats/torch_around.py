"""A plan's changes around the state dict of a torch pickle: plain values, entries that go, optimizers that follow."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import KeyPath, dotted
from sdviewer.core.text import visible
from sdviewer.errors import RepairError
from sdviewer.formats.grafts import const
from sdviewer.formats.torch_clean import ways_into
from sdviewer.formats.torch_source import TorchSource
from sdviewer.pickles.nodes import Const, Global, Node, Place, children, elements, pairs
from sdviewer.repair.plan import OptimizerChange, Plan


@dataclass(slots=True)
class Around:
    """Edits of a pickle that touch no key of the state dict; `keys` are numbers of an optimizer's parameters."""

    keys: dict[Place, str | int] = field(default_factory=dict)
    dropped: set[Place] = field(default_factory=set)
    values: dict[Place, Node] = field(default_factory=dict)


def around(checkpoint: Checkpoint, source: TorchSource, plan: Plan) -> Around:
    """What the plan changes around the state dict.

    Raises:
        RepairError: something is not where it can be changed.
    """
    edits = Around()
    shared = _shared(source.pickle.root) if plan.removed or plan.values else set()
    for path in plan.removed:
        edits.dropped.add(_place(checkpoint, source, path, shared))
    for path, value in plan.values.items():
        edits.values[_place(checkpoint, source, path, shared)] = const(value)
    for change in plan.optimizers:
        _follow(edits, source.mappings[change.optimizer].node, change)
    return edits


def _shared(root: Node | None) -> set[Node]:
    """The objects that stand in several places: a change of one would be seen in all of them."""
    seen: set[Node] = set()
    shared: set[Node] = set()
    todo = [root] if root is not None else []
    while todo:
        for child in children(todo.pop()):
            if isinstance(child, Const | Global):
                continue
            if child in seen:
                shared.add(child)
            else:
                seen.add(child)
                todo.append(child)
    return shared


def _place(checkpoint: Checkpoint, source: TorchSource, path: KeyPath, shared: Set[Node]) -> Place:
    """Where the last step of a path stands in the pickle."""
    node = source.pickle.root
    place: Place | None = None
    for step in path:
        if node in shared:
            raise RepairError(
                f"{visible(dotted(path), 80)} cannot be changed alone: what it is in stands in the file in two places",
                path=checkpoint.path,
                remedy="Load it with torch and save what you need of it.",
            )
        found = [(at, child) for found_step, at, child in ways_into(node) if found_step == step] if node else []
        if len(found) != 1:
            break
        place, node = found[0]
    else:
        if place is not None:
            return place
    raise RepairError(
        f"{visible(dotted(path), 80)} cannot be changed: it stands in an object, not in a dict or a list of its own",
        path=checkpoint.path,
        remedy="Load it with torch and save what you need of it.",
    )


def _follow(edits: Around, optimizer: Node, change: OptimizerChange) -> None:
    """The optimizer's own dicts: numbers in `params`, names in `param_names`, keys in `state`."""
    entries = {key.value: value for _, key, value in pairs(optimizer) if isinstance(key, Const)}
    for _, group in elements(entries["param_groups"]):
        lists = {key.value: value for _, key, value in pairs(group) if isinstance(key, Const)}
        numbers = list(elements(lists["params"]))
        names = list(elements(lists["param_names"])) if "param_names" in lists else []
        for at, (place, node) in enumerate(numbers):
            number = node.value if isinstance(node, Const) else None
            new = change.numbers.get(number, number) if isinstance(number, int) else None
            if new is None:
                edits.dropped.update([place, *([names[at][0]] if at < len(names) else [])])
            elif new != number:
                edits.values[place] = const(new)
        for place, node in names:
            if isinstance(node, Const) and isinstance(node.value, str) and node.value in change.names:
                edits.values[place] = const(change.names[node.value])
    for place, key, _ in pairs(entries["state"]):
        if isinstance(key, Const) and isinstance(key.value, int) and key.value in change.numbers:
            number = change.numbers[key.value]
            if number is None:
                edits.dropped.add(place)
            elif number != key.value:
                edits.keys[place] = number
