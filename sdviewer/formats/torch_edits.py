"""A plan as edits of the node graph of a torch pickle."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.text import visible
from sdviewer.errors import KeyCollision, RepairError, SaveError
from sdviewer.formats.grafts import const, group
from sdviewer.formats.torch_around import around
from sdviewer.formats.torch_clean import Cleaning
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_extract import extracted
from sdviewer.formats.torch_source import MappingSource, TorchSource, TorchZipSource
from sdviewer.pickles.emit import Edits, Emitted, emit, is_faithful
from sdviewer.pickles.nodes import (
    FRESH,
    Call,
    Const,
    Effect,
    Global,
    Group,
    Node,
    Persistent,
    Place,
    TensorRecord,
    items_at,
    pairs,
    value_at,
)
from sdviewer.repair.plan import Computed, Plan, Target, sources

EMPTY_DICT = 0x7D
"""The opcode byte of `}`."""


def edits_of(
    checkpoint: Checkpoint,
    source: TorchSource,
    plan: Plan,
    computed: ComputedTensors,
    cleaning: Cleaning | None = None,
) -> Edits:
    """What the plan changes in the object pickle; `cleaning` is what a clean copy leaves out of it.

    `computed` makes the nodes of computed tensors, and gets their storages.

    Raises:
        RepairError: the state dict cannot be edited this way; nothing was written.
        KeyCollision: an entry beside the state dict has one of its keys (`keep_rest`).
        SaveError: the pickle cannot be written back.
    """
    outside = around(checkpoint, source, plan)
    values = outside.values | (cleaning.values if cleaning is not None else {})
    also_dropped = outside.dropped | (cleaning.dropped if cleaning is not None else set())
    if plan.state_dict is None:
        root = _wrapped(plan, source.pickle.root)
        return Edits(keys=outside.keys, dropped=frozenset(also_dropped), values=values, root=root)
    if plan.extract:
        root = cleaning.start if cleaning is not None else extracted(checkpoint, source, plan)
        made = _computed_in(root, plan, computed, also_dropped)
        return Edits(
            dropped=frozenset(also_dropped), values={**values, **dict(made)}, root=_wrapped(plan, root) or root
        )
    state_dict = checkpoint.state_dicts[plan.state_dict]
    mapping = source.mappings[plan.state_dict]
    if edits_keys(checkpoint, source, plan, also_dropped):
        _check_editable(checkpoint, source, plan)
    making = _Making(state_dict, mapping, computed, {**values})
    if keeps_its_order(plan):
        making.entries(plan)
    else:
        making.new_entries(plan)
    making.dropped.update(also_dropped)
    making.module_versions(plan)
    if plan.unwrap and mapping.parent is not None:
        if plan.keep_rest:
            making.keep_rest(source)
        else:
            making.root = mapping.node
    return Edits(
        keys=outside.keys | making.keys,
        dropped=frozenset(making.dropped),
        values=making.values,
        splices=making.splices,
        root=_wrapped(plan, making.root or source.pickle.root) or making.root,
    )


def _wrapped(plan: Plan, root: Node | None) -> Node | None:
    """The root in a dict of its own, where the plan wraps it."""
    return group("dict", [const(plan.wrap), root]) if plan.wrap and root is not None else None


def _computed_in(
    root: Node, plan: Plan, computed: ComputedTensors, dropped: Set[Place]
) -> Iterator[tuple[Place, Node]]:
    """The computed tensors of an extracted state dict, each in the place of what it is made of."""
    stay = [(place, value) for place, _, value in pairs(root) if place not in dropped]
    for target, (place, value) in zip(plan.targets, stay, strict=True):
        if isinstance(target.value, Computed):
            yield place, computed.node(target.value, value)


def anchor(target: Target) -> int | None:
    """The source entry in whose place a target stands: the first that it is made of, None where it is made of none."""
    return next(sources(target.value), None)


def keeps_its_order(plan: Plan) -> bool:
    """Whether every target can stand in the place of the entry it is made of, so that pairs only change or go."""
    anchors = [anchor(target) for target in plan.targets]
    return None not in anchors and all(a < b for a, b in pairwise(anchors))  # type: ignore[operator]


def edits_keys(checkpoint: Checkpoint, source: TorchSource, plan: Plan, also_dropped: Set[Place]) -> bool:
    """Whether a plan changes its state dict, and does not only leave `also_dropped` out."""
    if plan.state_dict is None:
        return False
    places, keys = source.mappings[plan.state_dict].places, checkpoint.state_dicts[plan.state_dict].keys
    dropped = any(places[entry] not in also_dropped for entry in plan.dropped)
    changed = any(target.entry is None or target.key != keys[target.entry] for target in plan.targets)
    return plan.unwrap or dropped or changed or bool(plan.modules) or plan.computes


def write_back(source: TorchSource, edits: Edits, path: str, computed: ComputedTensors | None = None) -> Emitted:
    """The object pickle with the edits in it; the storages of what is computed get their keys.

    Raises:
        SaveError: it holds something that cannot be written back exactly.
    """
    pickle = source.pickle
    if not is_faithful(pickle):
        raise SaveError(
            f"its keys cannot be changed without changing more: {pickle.unfaithful}",
            path=path,
            remedy="Load it with torch and save its state dict anew.",
            code="unfaithful",
        )
    emitted = emit(pickle, edits)
    if computed is None or not computed.storages:
        return emitted
    known = {*storage_keys(emit(pickle)), *source.storage_keys}
    # What other pickles of an archive name is found when it is laid out: until then all of it counts as used.
    others = isinstance(source, TorchZipSource) and source.other_pickles
    computed.settle_keys(known if others else set(storage_keys(emitted)) & known, known)
    return emit(pickle, edits)


class StorageUse(NamedTuple):
    """One persistent id of a storage: its key, its class's name and its length in elements (None: not said)."""

    key: str
    cls: str
    numel: int | None


def storage_uses(emitted: Emitted) -> list[StorageUse]:
    """The storages that a pickle names, in the order of its opcodes; one may come again."""
    uses = []
    for node in emitted.persistent:
        if isinstance(node, TensorRecord):
            uses.append(StorageUse(node.key, node.storage_class.name, node.numel))
        elif (use := _use(node)) is not None:
            uses.append(use)
    return uses


def storage_keys(emitted: Emitted) -> list[str]:
    """Their keys, each once, in the order of first use."""
    return list(dict.fromkeys(use.key for use in storage_uses(emitted)))


def _use(node: Persistent) -> StorageUse | None:
    """What `("storage", class, key, location, numel[, (view key, offset, size)])` says; None for other ids.

    A view's own key (torch < 0.5) has no bytes in the file: torch makes it from the storage it looks into.
    """
    if not isinstance(node.id, Group) or len(node.id.items) < 5:
        return None
    tag, cls, key_node, _, numel = node.id.items[:5]
    key = storage_key_text(key_node)
    if storage_key_text(tag) != "storage" or key is None:
        return None
    length = numel.value if isinstance(numel, Const) and isinstance(numel.value, int) else None
    return StorageUse(key, cls.name if isinstance(cls, Global) else "", length)


def storage_key_text(node: Node) -> str | None:
    """A key or tag as torch reads it: Python 2 wrote bytes, some writers wrote ints."""
    if not isinstance(node, Const):
        return None
    if isinstance(node.value, bytes):
        return node.value.decode("utf-8", "replace")
    return str(node.value) if isinstance(node.value, str | int) else None


def _check_editable(checkpoint: Checkpoint, source: TorchSource, plan: Plan) -> None:
    assert plan.state_dict is not None
    state_dict = checkpoint.state_dicts[plan.state_dict]
    mapping = source.mappings[plan.state_dict]
    if state_dict.read_only:
        raise RepairError(f"its keys cannot be edited: {state_dict.read_only}", path=checkpoint.path)
    others = [other for other in source.mappings if other is not mapping and other.node is mapping.node]
    if others and not plan.unwrap:
        raise RepairError(
            "this state dict stands in the file under two names as one object, and an edit would change both",
            path=checkpoint.path,
            remedy="Unwrap it.",
        )
    if state_dict.is_module and plan.unwrap:
        raise RepairError(
            "a pickled module cannot be unwrapped: its state dict is not an object of its own in the file",
            path=checkpoint.path,
            remedy="Extract it with a step `extract`.",
        )


@dataclass(slots=True)
class _Making:
    """Edits of one state dict in the making."""

    state_dict: StateDict
    mapping: MappingSource
    computed: ComputedTensors
    values: dict[Place, Node]
    splices: dict[Place, Node] = field(default_factory=dict)
    keys: dict[Place, str] = field(default_factory=dict)
    dropped: set[Place] = field(default_factory=set)
    root: Node | None = None

    def entries(self, plan: Plan) -> None:
        """Each target in the place of the entry that it is made of."""
        places = self.mapping.places
        kept: dict[Place, str] = {}
        anchors = [anchor(target) for target in plan.targets]
        for target, entry in zip(plan.targets, anchors, strict=True):
            assert entry is not None
            old, place = self.state_dict.keys[entry], places[entry]
            name = _last_component(old, target.key) if self.state_dict.is_module else target.key
            if kept.setdefault(place, name) != name:
                raise _one_entry(old)
            if target.key != old:
                self.keys[place] = name
            if isinstance(target.value, Computed):
                self.values[place] = self.computed.node(target.value, value_at(place))
        stay = set(anchors)
        self.dropped.update([place for entry, place in enumerate(places) if entry not in stay])
        if not self.dropped.isdisjoint(kept):
            raise _one_entry("")

    def new_entries(self, plan: Plan) -> None:
        """All targets, in their order, where the first entry stood; what else the mapping holds follows."""
        places = self.mapping.places
        if self.state_dict.is_module or not places or any(place.node is not self.mapping.node for place in places):
            raise RepairError(
                "entries can be added to a state dict, not to an object that is made of several",
                remedy="Write its state dict first, and edit that.",
            )
        items: list[Node] = []
        for target in plan.targets:
            entry = anchor(target)
            place = places[entry] if entry is not None else None
            if isinstance(target.value, Computed):
                value = self.computed.node(target.value, value_at(place) if place is not None else None)
            else:
                assert place is not None
                value = self.values.get(place, value_at(place))
            same = entry is not None and self.state_dict.keys[entry] == target.key
            items += (items_at(place)[place.at] if same and place is not None else const(target.key), value)
        first, *others = places
        self.splices[first] = group("dict", items)
        self.dropped.update(others)

    def module_versions(self, plan: Plan) -> None:
        """Rename and drop the entries of `_metadata`, an attribute that no key shows."""
        if self.mapping.metadata is None or not plan.modules:
            return
        for place, key, _ in pairs(self.mapping.metadata):
            if isinstance(key, Const) and isinstance(key.value, str) and key.value in plan.modules:
                name = plan.modules[key.value]
                if name is None:
                    self.dropped.add(place)
                elif name != key.value:
                    self.keys[place] = name

    def keep_rest(self, source: TorchSource) -> None:
        """Let the state dict's entries stand at the root, where its own entry stood, beside the other entries."""
        parent = self.mapping.parent
        root = source.pickle.root
        assert parent is not None
        if not isinstance(root, Group | Call) or next(pairs(root), None) is None:
            raise RepairError("the rest cannot be kept: the file's root is no dict", remedy="Leave keep_rest out.")
        top = _top_place(root, parent)
        items: list[Node] = []
        new_keys: dict[int, str] = {}
        for place, key, value in pairs(root):
            if place != parent and place not in self.dropped:
                items += (key, self.values.get(place, value))
            if place == top:
                self._splice(items, new_keys)
        _refuse_collisions(items, new_keys)
        self.root = _mapping_like(root, items)
        self.keys.update({Place(self.root, 0, at): key for at, key in new_keys.items()})
        if parent.node is not root:
            self.dropped.add(parent)

    def _splice(self, items: list[Node], new_keys: dict[int, str]) -> None:
        for place, key, value in pairs(self.mapping.node):
            if place in self.dropped:
                continue
            if place in self.splices:
                items += [node for _, *pair in pairs(self.splices[place]) for node in pair]
                continue
            if place in self.keys:
                new_keys[len(items)] = self.keys[place]
            items += (key, self.values.get(place, value))


def _one_entry(key: str) -> RepairError:
    return RepairError(
        f"{visible(key) or 'a key'} is also called otherwise: the file holds its module once, under two names",
        key=key,
        remedy="Give both the same new name, or keep or drop both.",
    )


def _refuse_collisions(items: list[Node], new_keys: dict[int, str]) -> None:
    seen: set[str] = set()
    for at in range(0, len(items), 2):
        node = items[at]
        key = new_keys.get(at, node.value if isinstance(node, Const) else None)
        if not isinstance(key, str):
            continue
        if key in seen:
            raise KeyCollision(
                f"two entries of the new root would be called {visible(key)}",
                key=key,
                remedy="Rename one of them, or leave keep_rest out.",
            )
        seen.add(key)


def _mapping_like(root: Group | Call, items: list[Node]) -> Node:
    """A new mapping of the root's type with these keys and values, and with the root's attributes."""
    fresh: Group | Call
    if isinstance(root, Group):
        fresh = Group(FRESH, "dict", EMPTY_DICT, [])
    else:
        fresh = Call(FRESH, root.kind, root.function, root.args)
    fresh.add_effect(Effect("setitems", items))
    for effect in root.effects:
        if effect.kind == "build":
            fresh.add_effect(effect)
    return fresh


def _last_component(old: str, new: str) -> str:
    """The name that a pickled module's entry gets: its module cannot move, since the module is an object."""
    if old.rpartition(".")[0] != new.rpartition(".")[0]:
        raise RepairError(
            f"{visible(old)} cannot become {visible(new)}: in a pickled module only the last component can change",
            key=old,
            remedy="Extract its state dict with a step `extract`.",
        )
    return new.rpartition(".")[2]


def _top_place(root: Node, parent: Place) -> Place | None:
    """The pair of the root below which the state dict stands."""
    if parent.node is root:
        return parent
    return next((place for place, _, value in pairs(root) if _reaches(value, parent.node)), None)


def _reaches(node: Node, wanted: Node) -> bool:
    """Whether `wanted` is `node` or stands below it in dicts."""
    todo, seen = [node], {id(node)}
    for current in todo:
        if current is wanted:
            return True
        for _, _, value in pairs(current):
            if id(value) not in seen:
                seen.add(id(value))
                todo.append(value)
    return False
