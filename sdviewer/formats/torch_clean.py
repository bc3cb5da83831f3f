"""A clean copy: what torch's own list of names lacks is left out of a torch pickle, everything else stays.

An entry of a dict or an attribute that is such an object, or is made of one, goes. In a list or a tuple None stands in
its place, so that what follows keeps its number. Calls made for their side effect go too.

The rules are those of `torch.load(weights_only=True)` (`pickles.weights_only`) as far as they are about names and
calls; opcodes stay, so what torch refuses for its pickle protocol it goes on refusing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import KeyPath, Step, TypedStep, dotted
from sdviewer.core.text import plural, visible
from sdviewer.errors import RepairError
from sdviewer.formats.scanning import unclean_records
from sdviewer.formats.torch_extract import extracted
from sdviewer.formats.torch_source import TorchLegacySource, TorchSource, TorchZipSource
from sdviewer.formats.torch_tensors import NotATensorError, is_tensor, read_tensor
from sdviewer.formats.torch_values import key_step, type_name
from sdviewer.pickles.nodes import (
    FRESH,
    Call,
    Const,
    Global,
    Group,
    Node,
    Other,
    Persistent,
    Place,
    TensorRecord,
    children,
    is_pair,
    items_at,
    pairs,
)
from sdviewer.pickles.scan import scan_stream
from sdviewer.pickles.weights_only import can_be_built, can_be_called, is_allowed, is_storage_id, name_of
from sdviewer.repair.plan import Plan, PlanWarning, Target, sources

_MAPPINGS = ("collections.OrderedDict", "collections.Counter")

NONE = Const(FRESH, b"N", None)
"""What stands in a list or tuple for an object that is left out."""


class LeftOut(NamedTuple):
    """One thing that goes: where it stands, what it is, and how many tensors go with it. `to_none`: None stays."""

    path: KeyPath
    what: str
    tensors: int
    to_none: bool


@dataclass(slots=True)
class Cleaning:
    """What a clean copy leaves out.

    `dropped` are pairs, set items, states and calls made for their side effect; `values` the items that become None.
    `left_out` tells them, each once, though the object around it may stand in several places. `refusal` says why
    nothing can be made of the file. `start` is the node from which the rest is reached. `records` are pickles of the
    archive that go; `behind`: something around the object pickle must go.
    """

    start: Node
    dropped: set[Place] = field(default_factory=set)
    values: dict[Place, Node] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    refusal: str = ""
    kept: set[Node] = field(default_factory=set)
    records: frozenset[str] = frozenset()
    behind: bool = False
    _index: dict[Node, dict[Step, list[_Way]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.dropped or self.values or self.refusal or self.records or self.behind)

    def takes_record(self, name: str) -> bool:
        """Whether a record of the archive goes: it is such a pickle, or an archive with one in it."""
        return any(record == name or record.startswith(f"{name}/") for record in self.records)

    @property
    def tensors(self) -> int:
        """How many tensors go."""
        return sum(one.tensors for one in self.left_out)

    def fate(self, path: KeyPath, occurrence: int = 0) -> KeyPath | None:
        """The path at or above `path` whose object goes, None where none does; `path` begins at `start`."""
        node = self.start
        for depth, step in enumerate(path, 1):
            ways = self._ways(node).get(step)
            if not ways:
                return None
            way = ways[min(occurrence, len(ways)) - 1] if occurrence and depth == len(path) else ways[0]
            if way.goes:
                return path[:depth]
            node = way.node
        return None

    def is_retold(self, path: KeyPath) -> bool:
        """Whether what stands at `path` is listed otherwise: it became None, or lost an entry and may be empty now."""
        node = self.start
        for depth, step in enumerate(path, 1):
            ways = self._ways(node).get(step)
            if not ways:
                return False
            if ways[0].goes:
                return ways[0].to_none and depth == len(path)
            node = ways[0].node
        return any(way.goes for ways in self._ways(node).values() for way in ways)

    def _ways(self, node: Node) -> dict[Step, list[_Way]]:
        known = self._index.get(node)
        if known is None:
            known = self._index[node] = {}
            for step, place, child in ways_into(node, self.dropped):
                goes = place in self.dropped or place in self.values
                known.setdefault(step, []).append(_Way(child, goes, place in self.values))
        return known


class _Way(NamedTuple):
    node: Node
    goes: bool
    to_none: bool


def cleaning_of(source: TorchSource, start: Node | None = None) -> Cleaning:
    """What goes of the object pickle; `start` is what will be its root, where that is another one."""
    root = start if start is not None else source.pickle.root
    assert root is not None
    bad = _bad_nodes(root)
    cleaning = Cleaning(root)
    if root in bad:
        cleaning.refusal = f"the whole file is one object, {visible(_said(root), 200)}, and nothing would be left"
        return cleaning
    _Cut(cleaning, bad).run(root)
    return cleaning


def settle(checkpoint: Checkpoint, plan: Plan) -> tuple[Plan, Cleaning | None]:
    """The plan with what its clean copy leaves out, now that the file is at hand.

    Raises:
        RepairError: nothing would be left, or the state dict that the recipe edits would go.
    """
    if not plan.drop_objects:
        return plan, None
    source = checkpoint.source
    if not isinstance(source, TorchSource):
        return replace(plan, drop_objects=False), None
    mapping = None if plan.state_dict is None else source.mappings[plan.state_dict]
    inside = mapping is not None and plan.unwrap and not plan.keep_rest
    start = extracted(checkpoint, source, plan) if plan.extract else mapping.node if mapping and inside else None
    cleaning = cleaning_of(source, start)
    cleaning.behind = _asks_more_around(source)
    if isinstance(source, TorchZipSource):
        cleaning.records = unclean_records(checkpoint.path) - {source.object_entry.name}
    if cleaning.refusal:
        raise RepairError(
            cleaning.refusal,
            path=checkpoint.path,
            remedy="Put a step `extract` before it, which takes the state dict out of the module."
            if any(found.is_module for found in checkpoint.state_dicts)
            else "Load it where its classes are and save its state_dict().",
            code="recipe_failed",
        )
    if mapping is not None and mapping.node not in cleaning.kept and not plan.extract:
        if not _edits_keys(checkpoint, plan):
            return settle(checkpoint, replace(plan, state_dict=None, targets=(), dropped=(), modules={}))
        raise RepairError(
            "the state dict that is edited stands inside an object that is left out",
            path=checkpoint.path,
            remedy="Unwrap it first.",
        )
    above = _above(checkpoint, plan, inside and not plan.extract)
    left_out = [dotted((*above, *one.path)) for one in cleaning.left_out]
    gone: set[int] = set()
    if start is not None and plan.extract:
        entries = zip(plan.targets, pairs(start), strict=True)
        gone = {
            entry for target, (place, *_) in entries if place in cleaning.dropped for entry in sources(target.value)
        }
    elif mapping is not None:
        gone = {entry for entry, place in enumerate(mapping.places) if place in cleaning.dropped}
    keys = checkpoint.state_dicts[plan.state_dict].keys if plan.state_dict is not None else ()
    warnings = plan.warnings
    if cleaning.tensors:
        told = tuple([path for path, one in zip(left_out, cleaning.left_out, strict=True) if one.tensors][:10])
        message = f"{plural(cleaning.tensors, 'tensor')} inside objects that are left out go with them"
        warnings = (*warnings, PlanWarning("tensors_left_out", told, message))
    settled = replace(
        plan,
        targets=_without(plan.targets, gone),
        dropped=tuple(sorted({*plan.dropped, *gone})),
        left_out=tuple(dict.fromkeys([*plan.left_out, *_other(left_out, keys, gone)])),
        drop_objects=bool(cleaning),
        warnings=warnings,
    )
    return settled, cleaning if cleaning else None


def _edits_keys(checkpoint: Checkpoint, plan: Plan) -> bool:
    assert plan.state_dict is not None
    keys = checkpoint.state_dicts[plan.state_dict].keys
    changed = any(target.entry is None or target.key != keys[target.entry] for target in plan.targets)
    return changed or plan.unwrap or bool(plan.dropped or plan.modules)


def _asks_more_around(source: TorchSource) -> bool:
    """Whether bytes follow the object pickle of an archive, or a pickle before that of a stream asks for more."""
    if isinstance(source, TorchZipSource):
        return source.pickle.end != len(source.pickle.data)
    if not isinstance(source, TorchLegacySource):
        return False
    first = source.spans[0][0]
    before = [source.pickle.data[start - first : end - first] for start, end in source.spans[:3]]
    return any(use.cls != "torch" for data in before for use in scan_stream(data, "", most=1).globals)


def _above(checkpoint: Checkpoint, plan: Plan, inside: bool) -> KeyPath:
    return checkpoint.state_dicts[plan.state_dict].path if inside and plan.state_dict is not None else ()


def _without(targets: tuple[Target, ...], gone: Set[int]) -> tuple[Target, ...]:
    if not gone:
        return targets
    return tuple([target for target in targets if gone.isdisjoint(sources(target.value))])


def _other(left_out: Iterable[str], keys: tuple[str, ...], gone: Set[int]) -> list[str]:
    """What is left out and is no entry of the state dict, which `dropped` tells already."""
    told = {keys[entry] for entry in gone}
    return [path for path in left_out if path not in told]


def _bad_nodes(root: Node) -> set[Node]:
    """Every node that torch would not make, and whatever is made of one: a call with it among its arguments.

    What a list or a dict holds does not make it bad, and what a tuple holds only where a call is given the tuple.
    """
    bad: set[Node] = set()
    made_of: dict[Node, list[Node]] = {}
    rigid: set[Node] = set()
    todo = [root]
    seen = {root}
    for node in todo:
        if _is_bad(node):
            bad.add(node)
        parts = _parts(node, node in rigid)
        for part in parts:
            made_of.setdefault(part, []).append(node)
            if isinstance(part, Group) and part.type in ("tuple", "frozenset") and part not in rigid:
                rigid.add(part)
                if part in seen:
                    todo.append(part)  # seen as data before: look at it again
        for child in children(node):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    spread = list(bad)
    for node in spread:
        for whole in made_of.get(node, ()):
            if whole not in bad:
                bad.add(whole)
                spread.append(whole)
    return bad


def _is_bad(node: Node) -> bool:
    """Whether torch would not make a node, whatever its parts are."""
    if isinstance(node, Global):
        return not is_allowed(node) or (node.parts is not None and not node.module)
    if isinstance(node, TensorRecord):
        return not all(map(is_allowed, (node.function, node.storage_class, node.hooks_class)))
    if isinstance(node, Persistent):
        return not is_storage_id(node.id)
    if isinstance(node, Call):
        name = name_of(node.function)
        return can_be_called(name, node.args[0] if node.args else node) is False or not _takes_effects(node, name)
    return isinstance(node, Other)


def _takes_effects(call: Call, name: str) -> bool:
    """Whether the opcodes that fill an object fit what the call makes."""
    kinds = {effect.kind for effect in call.effects}
    if kinds & {"setitem", "setitems"} and name not in _MAPPINGS:
        return False
    return not kinds & {"append", "appends", "additems"}


def _parts(node: Node, rigid: bool) -> list[Node]:
    """What a node is made of and cannot be without."""
    if isinstance(node, Call):
        return [node.function, *node.args]
    if isinstance(node, Group):
        return node.items if rigid else []
    if isinstance(node, Persistent):
        return [node.id] if node.id is not None else []
    return list(node.parts or ()) if isinstance(node, Global) else []


class _Cut:
    """One walk over what stays, from the root: where it holds something bad, that is cut off."""

    def __init__(self, cleaning: Cleaning, bad: set[Node]) -> None:
        self.out = cleaning
        self.bad = bad

    def run(self, root: Node) -> None:
        kept = self.out.kept
        kept.add(root)
        todo: list[tuple[Node, KeyPath]] = [(root, ())]
        cut: list[tuple[KeyPath, Node, bool]] = []
        for node, path in todo:
            self.effects(node, path, cut)
            found: list[tuple[Node, KeyPath]] = []
            for step, place, child in ways_into(node, self.out.dropped):
                if place in self.out.dropped:
                    continue
                below = (*path, step)
                if place is not None and (child in self.bad or self.bad_key(place)):
                    to_none = not _can_go(place)
                    if to_none:
                        self.out.values[place] = NONE
                    else:
                        self.out.dropped.add(place)
                    cut.append((below, child, to_none))
                elif child not in kept and not isinstance(child, Const):
                    kept.add(child)
                    found.append((child, below))
            todo.extend(found)
        for path, node, to_none in cut:
            what = _said(node) if node in self.bad else "an entry whose key is such an object"
            self.out.left_out.append(LeftOut(path, visible(what, 200), _tensors_in(node, kept), to_none))

    def effects(self, node: Node, path: KeyPath, cut: list[tuple[KeyPath, Node, bool]]) -> None:
        """States that torch would not set, and calls made for their side effect."""
        for at, effect in enumerate(node.effects):
            if effect.kind == "pop":
                self.out.dropped.add(Place(node, at, 0))
                cut.append(((*path, TypedStep("field", "call")), effect.items[0], False))
            elif effect.kind == "build" and (
                effect.items[0] in self.bad or (can_be_built(node, effect) is False and not is_tensor(node))
            ):
                self.out.dropped.add(Place(node, at, 0))
                cut.append(((*path, TypedStep("field", "state")), effect.items[0], False))

    def bad_key(self, place: Place) -> bool:
        """Whether a pair's key is bad, or a tuple with something bad in it."""
        if not is_pair(place):
            return False
        todo = [items_at(place)[place.at]]
        seen = set(todo)
        for node in todo:
            if node in self.bad:
                return True
            for child in children(node):
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
        return False


def _can_go(place: Place) -> bool:
    """Whether an item can go without changing the number of those behind it."""
    return is_pair(place) or (isinstance(place.node, Group) and place.node.type in ("set", "frozenset"))


def ways_into(node: Node, dropped: Set[Place] = frozenset()) -> Iterator[tuple[Step, Place | None, Node]]:
    """What stands in a node that stays: the step of its path, the place where it can be taken out, the node.

    The steps are those of the rows that a checkpoint lists. Arguments of calls have no place: they stay with the call.
    What a state in `dropped` sets has that state's place.
    """
    if isinstance(node, Call) and (state := _tensor_state(node)) is not None:
        yield from _attributes(state)
    elif isinstance(node, Call):
        for argument in node.args:
            yield from _arguments(argument)
    elif isinstance(node, Group):
        yield from _held(node, -1, node.items, 0, "pair" if node.type == "dict" else "item")
    count = len(node.items) if isinstance(node, Group) else 0
    for at, effect in enumerate(node.effects):
        if effect.kind in ("setitem", "setitems"):
            yield from _held(node, at, effect.items, 0, "pair")
        elif effect.kind in ("append", "appends", "additems"):
            yield from _held(node, at, effect.items, count, "item")
            count += len(effect.items)
        elif effect.kind == "build":
            place = Place(node, at, 0)
            for step, own, child in _attributes(effect.items[0]):
                yield step, place if place in dropped else own, child


def _tensor_state(node: Call) -> Node | None:
    """The attributes that a rebuild call hands to its tensor."""
    if not is_tensor(node):
        return None
    try:
        return read_tensor(node).state
    except NotATensorError:
        return None


def _held(node: Node, effect: int, items: list[Node], first: int, kind: str) -> Iterator[tuple[Step, Place, Node]]:
    if kind == "pair":
        for at in range(0, len(items) - 1, 2):
            yield key_step(items[at]), Place(node, effect, at), items[at + 1]
    else:
        for at, item in enumerate(items):
            yield TypedStep("index", str(first + at)), Place(node, effect, at), item


def _arguments(argument: Node) -> Iterator[tuple[Step, Place | None, Node]]:
    """The containers among a call's arguments, a few tuples down; what is in them can be taken out."""
    todo = [argument]
    seen = {argument}
    for node in todo:
        inner = node.items if isinstance(node, Group) and node.type in ("tuple", "frozenset") else []
        for at, item in enumerate(inner):
            if item in seen or isinstance(item, (Const, Global, Persistent)):
                continue
            seen.add(item)
            if isinstance(item, Group) and item.type in ("tuple", "frozenset"):
                todo.append(item)
            else:
                yield TypedStep("field", str(at)), None, item


def _attributes(state: Node) -> Iterator[tuple[Step, Place | None, Node]]:
    """The attributes of a state, whose steps are of another type than a dict's keys."""
    both = state.items if isinstance(state, Group) and state.type == "tuple" and len(state.items) == 2 else [state]
    for part in both:
        if isinstance(part, Group) and part.type == "dict":
            for step, place, child in ways_into(part):
                yield TypedStep("attribute", step if isinstance(step, str) else step.value), place, child
        elif not isinstance(part, Const):
            yield TypedStep("field", "state"), None, part


def _tensors_in(node: Node, kept: Set[Node]) -> int:
    """Tensors at or below a node that nothing else keeps."""
    count = 0
    todo, seen = [node], {node}
    for one in todo:
        if one in kept:
            continue
        if is_tensor(one):
            count += 1
            continue
        for child in children(one):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    return count


def _said(node: Node) -> str:
    if isinstance(node, Global):
        return f"the name {node.qualified}"
    if isinstance(node, Call):
        return type_name(node)
    return "something that is not in the pickle itself" if isinstance(node, (Other, Persistent)) else type_name(node)
