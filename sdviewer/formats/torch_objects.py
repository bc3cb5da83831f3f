"""The node graph of a torch pickle, told as tensors, values, objects and state dicts.

Law: nothing is called and no node is hashed or compared by value; a node is known by its identity. The walk keeps its
own stack, so nesting costs no recursion. A container that appears again is told again while a budget lasts (a graph of
60 lists can name 2**60 leaves), one that contains itself is cut there.

Facts: what torch 2.13 and older versions put into a pickle (docs/formats.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

from sdviewer.core.checkpoint import (
    ObjectInfo,
    Problem,
    Role,
    Severity,
    StateDict,
    StorageInfo,
    TensorInfo,
    TensorKind,
    ValueInfo,
)
from sdviewer.core.paths import KeyPath, Step, TypedStep, dotted, to_json
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.core.torch_names import TORCH_NAMES
from sdviewer.formats.torch_source import MappingSource
from sdviewer.formats.torch_tensors import (
    Layout,
    NotATensorError,
    Tensor,
    is_tensor,
    layout_of,
    read_tensor,
    storage_dtype,
)
from sdviewer.formats.torch_values import (
    Leaf,
    arguments_of,
    const_leaf,
    key_step,
    leaf,
    literal,
    module_items,
    qualified_name,
    raw_name,
    type_name,
)
from sdviewer.pickles.nodes import Call, Const, Group, Node, Place, TensorRecord, elements, pairs, states

Link: TypeAlias = "tuple[Link, Step, int] | None"
"""A path under construction: (what stands before, the step, number of steps)."""

Frame: TypeAlias = "Generator[Frame, None, None]"
"""A container that is being told; it yields the containers in it."""

DEEPEST = 1000
"""Steps that a path may have; what lies deeper is said to be there and not shown."""

_REPEATS = 200_000
"""Pairs and items that are told again because their container is named more than once."""

_SHALLOW = 32
_PATH_STEPS = 20_000_000
"""Steps of all paths of more than 32 steps together."""

_MOST_METADATA = 1_000_000
"""Values of one `_metadata`."""

_SAME_PROBLEM = 100
"""Problems of one code that are told one by one."""

# Names under which people keep a model's state dict, counted in the scripts that load checkpoints.
_MODEL_NAMES = frozenset(
    (
        "model", "state_dict", "module", "model_state_dict", "model_state", "module_state_dict", "params",
        "params_dict", "net", "network", "weights", "best_state", "best_model", "classy_state_dict",
        "base_model", "trunk", "encoder",
        "target_encoder", "generator", "discriminator", "backbone", "Downstream", "Featurizer", "net_state_dict",
        "network_state_dict", "model_dict", "model_weights", "models", "student", "teacher",
    )
)  # fmt: skip
_EMA = re.compile(r"(?:^|[^a-z])(?:ema|shadow|averaged)(?:[^a-z]|$)")

_MODULE_DICTS = ("_parameters", "_buffers", "_modules")

# What nn.Module keeps for itself besides: told only where it says something (a hook that is there).
_MODULE_INTERNALS = frozenset(
    (
        "training", "_non_persistent_buffers_set", "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook",
        "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
    )
)  # fmt: skip

_MAPPINGS = frozenset({"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"})
_SEQUENCES = frozenset({"collections.deque", "builtins.list"})


@dataclass(slots=True)
class Objects:
    """What one object pickle holds; `mappings` is parallel to `state_dicts`."""

    tensors: list[TensorInfo] = field(default_factory=list)
    values: list[ValueInfo] = field(default_factory=list)
    objects: list[ObjectInfo] = field(default_factory=list)
    state_dicts: tuple[StateDict, ...] = ()
    mappings: tuple[MappingSource, ...] = ()
    storages: dict[str, StorageInfo] = field(default_factory=dict)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    coherent: int = 0
    """Tensors whose shape, strides and storage make sense, whether their bytes are there or not."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """What the file holds for the storages: bytes there for each key, checksums, and why some cannot be read."""

    sizes: Mapping[str, int]
    crcs: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def read_objects(root: Node, stored: StoredBytes, progress: Progress) -> Objects:
    """Walk the graph from what the pickle returns.

    Raises:
        Cancelled: from `progress`.
    """
    return _Walk(stored, progress).run(root)


@dataclass(slots=True)
class _Owner:
    """A state dict that is being read."""

    index: int
    path: KeyPath
    role: Role
    node: Node
    parent: Place | None
    is_module: bool = False
    read_only: str = ""
    keys: list[str] = field(default_factory=list)
    tensor_of: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    metadata: Node | None = None
    parameters: int = 0

    def add(self, key: str, row: int, place: Place) -> None:
        self.keys.append(key)
        self.tensor_of.append(row)
        self.places.append(place)


class _Entry(NamedTuple):
    """That a tensor stands in a state dict: in which, under which key, in which pair."""

    owner: _Owner
    key: str
    place: Place


_new = tuple.__new__
"""Makes a named tuple in a third of the time of its own constructor, which looks at every argument's name."""

_NONE = (0, 0)
_Extent = tuple[int, int]
"""(start, end) in bytes of a storage; (0, 0) for a tensor that reads nothing of it."""


class _Use(NamedTuple):
    """What looks into one storage; `more` are the extents of all but the first tensor."""

    location: str
    numel_bytes: int
    extent: _Extent
    more: list[_Extent] | None


class _Walk:
    """One pass over the graph."""

    def __init__(self, stored: StoredBytes, progress: Progress) -> None:
        self.stored = stored
        self.progress = progress
        self.sizes = stored.sizes
        self.out = Objects()
        self.tensors = self.out.tensors
        self.owners: list[_Owner] = []
        self.open: set[int] = set()
        self.first: dict[int, Link] = {}
        self.repeats = _REPEATS
        self.path_steps = _PATH_STEPS
        self.problem_counts: dict[str, int] = {}
        self.layouts: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Layout] = {}
        self.leaves: dict[int, Leaf] = {}
        self.kinds: dict[int, str] = {}
        self.rebuilt: dict[int, tuple[Tensor, Layout]] = {}
        self.uses: dict[str, _Use] = {}
        self.incoherent = 0
        self.sources: set[str] = set()
        self.paths: list[tuple[Link, KeyPath]] = [(None, ())]

    def run(self, root: Node) -> Objects:
        first = self._tensor(root, None, None) if is_tensor(root) else self._node(root, None, None, None)
        stack = [first] if first is not None else []
        while stack:
            inner = next(stack[-1], None)
            if inner is None:
                stack.pop()
            else:
                stack.append(inner)
        return self._finish()

    # Which kind of thing a node is

    def _node(self, node: Node, link: Link, place: Place | None, optimizer: _Owner | None) -> Frame | None:
        """Tell a leaf at once; give back the frame of a thing that must be walked into."""
        name = id(node)
        if type(node) is Const:
            found = self.leaves.get(name)
            self._value(link, found if found is not None else self._const(node))
            return None
        if self._told_too_often(node, link):
            return None
        kind = self.kinds.get(name)
        if kind is None:
            kind = self.kinds[name] = self._kind(node)
        if kind == "leaf":
            self.first.setdefault(name, link)
            self._value(link, self.leaves[name])
            return None
        if kind == "module":
            return self._entered(node, link, self._root_module(cast("Call", node), link, place))
        if kind == "mapping":
            affordable = self._affords(link, _length(node))
            return self._entered(node, link, self._mapping(node, link, place, optimizer)) if affordable else None
        if kind == "sequence":
            return self._entered(node, link, self._sequence(node, link, optimizer))
        return self._entered(node, link, self._object(cast("Call", node), link, optimizer))

    def _const(self, node: Const) -> Leaf:
        """A constant's value; what is long as text is made once, however often it is named."""
        found = const_leaf(node)
        if isinstance(node.value, (bytes, bytearray)):
            self.leaves[id(node)] = found
        return found

    def _kind(self, node: Node) -> str:
        """What a node is to the walk; worked out once, because a node can be named a million times."""
        found = leaf(node)
        if found is not None:
            self.leaves[id(node)] = found
            return "leaf"
        if type(node) is Group:
            return "mapping" if node.type == "dict" else "sequence"
        if type(node) is not Call:
            self.leaves[id(node)] = (type_name(node), literal(node))
            return "leaf"
        if _is_mapping(node):
            return "mapping"
        if qualified_name(node.function) in _SEQUENCES:
            return "sequence"
        return "module" if _module_state(node) is not None else "object"

    def _told_too_often(self, node: Node, link: Link) -> bool:
        """Whether a container was told so often, with all others, that it is now only named."""
        name = id(node)
        if name not in self.first or name in self.open or (type(node) is not Group and type(node) is not Call):
            return False
        if self.repeats >= 0:
            # A row costs the length of its path, here and in the tree: deep ones are told again less often.
            self.repeats -= (1 + _length(node)) * (1 + (link[2] if link is not None else 0) // 8)
        if self.repeats >= 0:
            return False
        self._value(link, (type_name(node), f"same object as {_shown(self.first[name])}"))
        self._problem("info", "repeated", "an object stands in so many places that it is told once", link)
        return True

    def _entered(self, node: Node, link: Link, frame: Frame) -> Frame | None:
        """Guard against cycles and depth; a frame runs with its node marked as open."""
        name = id(node)
        if name in self.open:
            self._value(link, (type_name(node), "<cycle>"))
            return None
        if link is not None and link[2] > DEEPEST:
            self._value(link, (type_name(node), "it lies too deep to be shown"))
            self._problem("warning", "too_deep", "what lies deeper is not shown", link)
            return None
        self.first.setdefault(name, link)
        return self._opened(name, frame)

    def _affords(self, link: Link, rows: int = 1) -> bool:
        """Whether rows with a path this long may still be told; only a graph made to be deep everywhere says no."""
        if link is None or link[2] <= _SHALLOW:
            return True
        self.path_steps -= link[2] * rows
        if self.path_steps >= 0:
            return True
        self._problem("warning", "too_deep", "what lies deeper is not shown", link)
        return False

    def _opened(self, name: int, frame: Frame) -> Frame:
        self.open.add(name)
        yield from frame
        self.open.discard(name)

    # Mappings and state dicts

    def _mapping(self, node: Node, link: Link, place: Place | None, optimizer: _Owner | None) -> Frame:
        entries = list(_entries(node))
        if type(node) is Call:
            self._mapping_class(node, link, empty=not entries)
        keys = [key.value if type(key) is Const and type(key.value) is str else None for _, key, _ in entries]
        path = self._path(link)
        owner = None
        if optimizer is None:
            owner = self._new_owner(node, path, place, entries, keys)
            if owner is not None and owner.role == "optimizer":
                optimizer, owner = owner, None
        repeated = _repeated(keys)
        seen: dict[str, int] = {}
        depth = len(path) + 1
        for n, ((entry_place, key_node, value), key) in enumerate(zip(entries, keys, strict=True)):
            if n % 4096 == 4095:
                self.progress(0, 0)
            occurrence = 0
            if key is not None and key in repeated:
                occurrence = seen[key] = seen.get(key, 0) + 1
                if occurrence == 2:
                    self._problem("warning", "duplicate_key", "the key stands there twice", (link, key, depth))
            step = key if key is not None else key_step(key_node)
            entry = None
            if owner is not None and key is not None:
                entry = _new(_Entry, (owner, key, entry_place))
            elif optimizer is not None:
                entry = _Entry(optimizer, dotted((*path[len(optimizer.path) :], step)), entry_place)
            if type(value) is TensorRecord:
                self._record(value, (*path, step), entry, occurrence)
                continue
            below = (link, step, depth)
            if is_tensor(value):
                inner = self._tensor(value, below, entry, occurrence=occurrence)
            else:
                if owner is not None and key is not None:
                    owner.add(key, -1, entry_place)
                before = len(self.out.values)
                inner = self._node(value, below, entry_place, optimizer)
                if occurrence and len(self.out.values) > before:
                    self.out.values[-1] = self.out.values[-1]._replace(occurrence=occurrence)
            if inner is not None:
                yield inner
        yield from self._attributes(node, link, optimizer, owner or optimizer)

    def _mapping_class(self, node: Call, link: Link, empty: bool) -> None:
        """The row of a dict subclass, and a value for a mapping with nothing in it."""
        if qualified_name(node.function) not in _MAPPINGS:
            self._class(node, link)
        if empty and not any(True for _ in states(node)):
            self._value(link, (type_name(node), {}))

    def _new_owner(
        self,
        node: Node,
        path: KeyPath,
        place: Place | None,
        entries: list[tuple[Place, Node, Node]],
        keys: list[str | None],
    ) -> _Owner | None:
        """A state dict, if the mapping is one: tensors under str keys, or the shape of an optimizer's."""
        if "state" in keys and "param_groups" in keys:
            owner = self._begin(node, path, place, "optimizer")
            owner.read_only = "an optimizer's keys are the positions of its parameters"
            return owner
        if not any(key is not None and is_tensor(value) for key, (_, _, value) in zip(keys, entries, strict=True)):
            return None
        owner = self._begin(node, path, place, role_of(path, keys))
        if type(node) is Call and any(
            type(where.node) is Group and where.node.type != "dict" for where, _, _ in entries
        ):
            owner.read_only = "Python 2 wrote it as a list of pairs"
        return owner

    def _begin(self, node: Node, path: KeyPath, place: Place | None, role: Role) -> _Owner:
        owner = _Owner(len(self.owners), path, role, node, place)
        self.owners.append(owner)
        return owner

    def _attributes(self, node: Node, link: Link, optimizer: _Owner | None, owner: _Owner | None = None) -> Frame:
        """What BUILD set on an object: its attributes, and a state dict's `_metadata`."""
        depth = 1 if link is None else link[2] + 1
        for place, state in states(node):
            for entry_place, key, value in _state_entries(place, state):
                if owner is not None and type(key) is Const and key.value == "_metadata":
                    self._metadata(owner, value, link)
                    continue
                below = (link, _attribute_step(key), depth)
                yield from self._child(value, below, entry_place, optimizer)

    def _child(self, value: Node, link: Link, place: Place | None, optimizer: _Owner | None) -> Frame:
        """One thing that is no entry of a state dict, unless an optimizer holds it."""
        if is_tensor(value):
            entry = None
            if optimizer is not None and place is not None:
                entry = _Entry(optimizer, dotted(self._path(link)[len(optimizer.path) :]), place)
            inner = self._tensor(value, link, entry)
        else:
            inner = self._node(value, link, place, optimizer)
        if inner is not None:
            yield inner

    def _metadata(self, owner: _Owner, node: Node, link: Link) -> None:
        """`_metadata` of a state dict: module path -> {"version": ...}."""
        depth = 1 if link is None else link[2] + 1
        where = (link, TypedStep("attribute", "_metadata"), depth)
        if not (type(node) is Group and node.type == "dict") and not (type(node) is Call and _is_mapping(node)):
            self._problem("warning", "metadata", "its _metadata is no mapping", where)
            self._value(where, leaf(node) or (type_name(node), literal(node)))
            return
        owner.metadata = node
        keys: dict[str, Any] = {}
        budget = [_MOST_METADATA]
        for _, key, value in _entries(node):
            module = key.value if type(key) is Const and type(key.value) is str else literal(key)
            keys[module] = _plain(value, budget)
        self.out.metadata.append({"path": to_json(owner.path), "keys": keys})

    # Sequences, objects, modules

    def _sequence(self, node: Node, link: Link, optimizer: _Owner | None) -> Frame:
        depth = 1 if link is None else link[2] + 1
        for i, (place, item) in enumerate(_items(node)):
            yield from self._child(item, (link, TypedStep("index", str(i)), depth), place, optimizer)
        if type(node) is Call:
            if not any(True for _ in _items(node)):
                self._value(link, (type_name(node), []))
            yield from self._attributes(node, link, optimizer)

    def _object(self, node: Call, link: Link, optimizer: _Owner | None) -> Frame:
        """An instance of a class that nobody built: its arguments, items, entries and attributes."""
        self._class(node, link)
        depth = 1 if link is None else link[2] + 1
        rows = len(self.out.values) + len(self.out.tensors) + len(self.out.objects)
        arguments = arguments_of(node)
        # A method that is bound to something which stands elsewhere is no second copy of it.
        bound = qualified_name(node.function) == "builtins.getattr"
        if any(type(argument) is not Const for argument in arguments) or node.effects:
            for i, argument in enumerate(arguments):
                below = (link, TypedStep("field", str(i)), depth)
                if bound and id(argument) in self.first:
                    self._value(below, (type_name(argument), f"same object as {_shown(self.first[id(argument)])}"))
                else:
                    yield from self._child(argument, below, None, optimizer)
        for i, (place, item) in enumerate(elements(node)):
            yield from self._child(item, (link, TypedStep("index", str(i)), depth), place, optimizer)
        for place, key, value in pairs(node):
            yield from self._child(value, (link, key_step(key), depth), place, optimizer)
        yield from self._attributes(node, link, optimizer)
        if len(self.out.values) + len(self.out.tensors) + len(self.out.objects) == rows:
            self._value(link, (type_name(node), literal(node, 1)))

    def _class(self, node: Call, link: Link) -> None:
        """The row of an object, and the source text of its class where a legacy stream holds it."""
        name = raw_name(node.function)
        if not self._affords(link):
            return
        self.out.objects.append(ObjectInfo(self._path(link), name, qualified_name(node.function) in TORCH_NAMES))
        items = module_items(node.function)
        if len(items) > 3 and name not in self.sources:
            self.sources.add(name)
            found = leaf(items[3])
            if found is not None and isinstance(found[1], str):
                self.out.values.append(ValueInfo((TypedStep("class", name),), "builtins.str", found[1]))

    def _root_module(self, node: Call, link: Link, place: Place | None) -> Frame:
        path = self._path(link)
        owner = self._begin(node, path, place, "ema" if _is_ema(path) else "model")
        owner.is_module = True
        yield from self._module(node, link, owner, "")

    def _module(self, node: Call, link: Link, owner: _Owner, prefix: str) -> Frame:
        """A pickled nn.Module, known by the dicts that it keeps; named as torch's state_dict() names its tensors."""
        self._class(node, link)
        depth = 1 if link is None else link[2] + 1
        where = (link, TypedStep("class", "class"), depth)
        self._value(where, ("builtins.str", raw_name(node.function)))
        for place, state in states(node):
            entries = list(_state_entries(place, state))
            unsaved = _names_in([value for _, key, value in entries if _is_text(key, "_non_persistent_buffers_set")])
            for kind, name in (("parameter", "_parameters"), ("buffer", "_buffers"), ("module", "_modules")):
                for _, key, value in entries:
                    if _is_text(key, name):
                        yield from self._module_dict(value, link, owner, prefix, kind, unsaved)
            for entry_place, key, value in entries:
                if not _is_internal(key, value):
                    yield from self._child(value, (link, _attribute_step(key), depth), entry_place, None)

    def _module_dict(
        self, node: Node, link: Link, owner: _Owner, prefix: str, kind: str, unsaved: frozenset[str]
    ) -> Frame:
        depth = 1 if link is None else link[2] + 1
        for place, key, value in _entries(node):
            name = key.value if type(key) is Const and type(key.value) is str else literal(key)
            below = (link, TypedStep(kind, name), depth)
            if kind == "module" and self._is_module(value):
                if self._told_too_often(value, below):
                    continue
                inner = self._entered(value, below, self._module(cast("Call", value), below, owner, f"{prefix}{name}."))
                if inner is not None:
                    yield inner
            elif is_tensor(value):
                entry = _Entry(owner, prefix + name, place) if name not in unsaved or kind != "buffer" else None
                inner = self._tensor(value, below, entry, kind="buffer" if kind == "buffer" else "parameter")
                if inner is not None:
                    yield inner
            else:
                yield from self._child(value, below, place, None)

    def _is_module(self, node: Node) -> bool:
        kind = self.kinds.get(id(node))
        if kind is None:
            kind = self.kinds[id(node)] = self._kind(node)
        return kind == "module"

    # Tensors

    def _record(self, record: TensorRecord, path: KeyPath, entry: _Entry | None, occurrence: int) -> None:
        """A tensor of the common kind; everything that many of them share is worked out once."""
        size, stride, storage_class = record.size, record.stride, record.storage_class
        found = self.layouts.get((id(storage_class), size, stride))
        if found is None:
            found = self._record_layout(record)
        dtype, numel, nbytes, reach, problem = found
        if problem or dtype is None or record.function.name != "_rebuild_tensor_v2":
            self._general(record, _link_of(path), entry, occurrence, None)
            return
        key, offset = record.key, record.offset
        start = offset * dtype.itemsize
        end = start + reach
        there = self.sizes.get(key, -1)
        unreadable = ""
        if (end > there and reach) or offset < 0 or there < 0 or key in self.stored.unreadable:
            unreadable = self._why_unreadable(key, offset, end, path)
        self._use(
            key, record.location, record.numel * dtype.itemsize, (start, end) if reach and not unreadable else _NONE
        )
        index = name = None
        if entry is not None:
            owner, name, place = entry
            index = owner.index
            owner.parameters += numel
            owner.keys.append(name)
            owner.tensor_of.append(len(self.tensors))
            owner.places.append(place)
        row = (
            path, index, name, size, dtype.name, stride, offset, key, nbytes, record.requires_grad, "tensor",
            "torch.Tensor", record.location, None, None, (), unreadable, occurrence,
        )  # fmt: skip
        self.tensors.append(_new(TensorInfo, row))

    def _use(self, key: str, location: str, numel_bytes: int, extent: _Extent) -> None:
        use = self.uses.get(key)
        if use is None:
            self.uses[key] = _new(_Use, (location, numel_bytes, extent, None))
        elif use.more is None:
            self.uses[key] = use._replace(more=[extent])
        else:
            use.more.append(extent)

    def _record_layout(self, record: TensorRecord) -> Layout:
        dtype = storage_dtype(record.storage_class.name)
        layout = layout_of(dtype.name if dtype is not None else "", record.size, record.stride)
        self.layouts[id(record.storage_class), record.size, record.stride] = layout
        return layout

    def _tensor(
        self,
        node: Node,
        link: Link,
        entry: _Entry | None,
        *,
        occurrence: int = 0,
        kind: TensorKind | None = None,
    ) -> Frame | None:
        """One tensor; gives back a frame where it has attributes or parts of its own."""
        if type(node) is TensorRecord and kind is None:
            self._record(node, self._path(link), entry, occurrence)
            return None
        return self._general(node, link, entry, occurrence, kind)

    def _general(
        self, node: Node, link: Link, entry: _Entry | None, occurrence: int, kind: TensorKind | None
    ) -> Frame | None:
        if not self._affords(link):
            return None
        try:
            tensor, layout = self._rebuilt(node)
        except NotATensorError as error:
            self._problem("error", "tensor_unreadable", str(error), link)
            cls = raw_name(node.function) if not isinstance(node, (Const, Group)) and hasattr(node, "function") else ""
            self.out.objects.append(ObjectInfo(self._path(link), cls, cls in TORCH_NAMES, occurrence))
            if entry is not None:
                entry.owner.add(entry.key, -1, entry.place)
            return None
        if kind is None or tensor.kind not in ("tensor", "parameter"):
            kind = tensor.kind
        self._row(tensor, layout, kind, self._path(link), entry, occurrence)
        if tensor.state is None and not tensor.parts:
            return None
        return self._entered(node, link, self._inside_tensor(tensor, link))

    def _rebuilt(self, node: Node) -> tuple[Tensor, Layout]:
        """The tensor of a rebuild call and its layout, worked out once."""
        found = self.rebuilt.get(id(node))
        if found is None:
            tensor = read_tensor(node)
            layout = layout_of(tensor.dtype, tensor.size, tensor.stride, tensor.kind == "quantized")
            found = self.rebuilt[id(node)] = (tensor, layout)
        return found

    def _inside_tensor(self, tensor: Tensor, link: Link) -> Frame:
        depth = 1 if link is None else link[2] + 1
        for name, part in tensor.parts:
            if is_tensor(part):
                inner = self._tensor(part, (link, TypedStep("part", name), depth), None)
                if inner is not None:
                    yield inner
        if tensor.state is not None:
            for place, key, value in _state_entries(None, tensor.state):
                yield from self._child(value, (link, _attribute_step(key), depth), place, None)

    def _row(
        self,
        tensor: Tensor,
        layout: Layout,
        kind: TensorKind,
        path: KeyPath,
        entry: _Entry | None,
        occurrence: int,
    ) -> None:
        if layout.problem:
            self.incoherent += 1
        unreadable = layout.problem
        storage, key = tensor.storage, None
        if storage is not None and tensor.offset is not None and layout.dtype is not None:
            key = storage.key
            start = tensor.offset * layout.dtype.itemsize // (layout.dtype.per_byte if tensor.quant else 1)
            there = self.stored.sizes.get(key, -1)
            if not unreadable and (start + layout.reach > there or start < 0 or key in self.stored.unreadable):
                unreadable = self._why_unreadable(key, tensor.offset, start + layout.reach if layout.reach else 0, path)
            elif unreadable:
                self._problem("error", "tensor_unreadable", unreadable, _link_of(path))
            extent = (start, start + layout.reach) if layout.reach and not unreadable else _NONE
            self._use(key, storage.location, storage.numel * storage.dtype.itemsize, extent)
        elif unreadable:
            self._problem("error", "tensor_unreadable", unreadable, _link_of(path))
        for other in tensor.also:
            unreadable = self._used(other, path) or unreadable
        if entry is not None:
            entry.owner.parameters += layout.numel
            entry.owner.add(entry.key, len(self.out.tensors), entry.place)
        self.out.tensors.append(
            TensorInfo(
                path=path,
                state_dict=entry.owner.index if entry is not None else None,
                key=entry.key if entry is not None else None,
                shape=tensor.size,
                dtype=tensor.dtype,
                stride=tensor.stride,
                storage_offset=tensor.offset,
                storage=key,
                nbytes=layout.nbytes,
                requires_grad=tensor.requires_grad,
                kind=kind,
                cls=tensor.cls,
                location=tensor.location,
                quant=tensor.quant,
                flags=tensor.flags,
                unreadable=unreadable,
                occurrence=occurrence,
            )
        )

    def _used(self, tensor: Tensor, path: KeyPath) -> str:
        """Count what a tensor needs besides itself; why that cannot be read, else ""."""
        layout = layout_of(tensor.dtype, tensor.size, tensor.stride)
        if layout.dtype is None or layout.problem or tensor.storage is None or tensor.offset is None:
            return layout.problem or "it needs a tensor that has no bytes"
        storage, start = tensor.storage, tensor.offset * layout.dtype.itemsize
        end = start + layout.reach
        there = self.stored.sizes.get(storage.key, -1)
        lost = end > there or start < 0 or storage.key in self.stored.unreadable
        self._use(
            storage.key,
            storage.location,
            storage.numel * storage.dtype.itemsize,
            _NONE if lost or not layout.reach else (start, end),
        )
        return self._why_unreadable(storage.key, tensor.offset, end, path) if lost else ""

    def _why_unreadable(self, key: str, offset: int, end: int, path: KeyPath) -> str:
        """The reason, told as a problem too; "" for a tensor without elements, which needs no bytes."""
        there = self.stored.sizes.get(key)
        shown = visible(key, 80)
        if key in self.stored.unreadable:
            why = self.stored.unreadable[key]
        elif offset < 0:
            why = "its offset is negative"
        elif there is None:
            why = f"its storage {shown} is not in the file"
        elif end > there:
            why = f"it reaches byte {end:,} of storage {shown}, which has {there:,}"
        else:
            return ""
        self._problem("error", "tensor_unreadable", why, _link_of(path))
        return why

    # What is left to do at the end

    def _finish(self) -> Objects:
        out = self.out
        out.coherent = len(out.tensors) - self.incoherent
        sizes = self.stored.sizes
        crcs = self.stored.crcs
        for key, (location, numel_bytes, extent, more) in self.uses.items():
            there = sizes.get(key)
            if there is not None and there != numel_bytes:
                message = f"the file holds {there:,} bytes for it, and {numel_bytes:,} are stated; torch refuses that"
                self._problem("warning", "storage_size", message, (None, visible(key, 80), 1))
            used = extent[1] - extent[0] if more is None else _union([extent, *more])
            tensors = 1 if more is None else 1 + len(more)
            out.storages[key] = _new(StorageInfo, (key, there or 0, used, tensors, location, crcs.get(key)))
        out.state_dicts = tuple([self._state_dict(owner) for owner in self.owners])
        out.mappings = tuple(
            [MappingSource(owner.node, tuple(owner.places), owner.parent, owner.metadata) for owner in self.owners]
        )
        for code, n in self.problem_counts.items():
            if n > _SAME_PROBLEM:
                out.problems.append(Problem("info", code, f"{n - _SAME_PROBLEM:,} more of this kind", ""))
        return out

    def _state_dict(self, owner: _Owner) -> StateDict:
        tensors, storages = self.tensors, self.out.storages
        looked_into = {tensors[row].storage for row in owner.tensor_of if row >= 0}
        return StateDict(
            path=owner.path,
            role=owner.role,
            keys=tuple(owner.keys),
            tensor_of=tuple(owner.tensor_of),
            parameters=owner.parameters,
            nbytes=sum([storages[storage].nbytes for storage in looked_into if storage is not None]),
            is_module=owner.is_module,
            read_only=owner.read_only,
        )

    def _path(self, link: Link) -> KeyPath:
        """The steps of a path; those above it are kept, since what is told next mostly stands beside it."""
        kept, missing = self.paths, []
        while link is not None and not (link[2] < len(kept) and kept[link[2]][0] is link):
            missing.append(link)
            link = link[0]
        depth = link[2] if link is not None else 0
        path = kept[depth][1]
        if missing:
            del kept[depth + 1 :]
        for below in reversed(missing):
            path = (*path, below[1])
            kept.append((below, path))
        return path

    def _value(self, link: Link, found: Leaf) -> None:
        if self._affords(link):
            self.out.values.append(ValueInfo(self._path(link), found[0], found[1]))

    def _problem(self, severity: Severity, code: str, message: str, where: Link) -> None:
        n = self.problem_counts[code] = self.problem_counts.get(code, 0) + 1
        if n <= _SAME_PROBLEM:
            self.out.problems.append(Problem(severity, code, message, _shown(where)))


def _path(link: Link) -> KeyPath:
    steps = []
    while link is not None:
        steps.append(link[1])
        link = link[0]
    return tuple(reversed(steps))


def _link_of(path: KeyPath) -> Link:
    link: Link = None
    for depth, step in enumerate(path, 1):
        link = (link, step, depth)
    return link


def _shown(link: Link) -> str:
    return visible(dotted(_path(link)))


def _length(node: Node) -> int:
    items = len(node.items) if type(node) is Group else 0
    return items + sum([len(effect.items) for effect in node.effects])


def _is_text(node: Node | str, text: str) -> bool:
    return type(node) is Const and node.value == text


def _repeated(keys: list[str | None]) -> frozenset[str]:
    """The str keys that stand there more than once."""
    names = [key for key in keys if key is not None]
    if len(set(names)) == len(names):
        return frozenset()
    return frozenset([name for name, n in Counter(names).items() if n > 1])


def _is_mapping(call: Call) -> bool:
    """OrderedDict and its like, and any object whose items were set as a dict subclass's are."""
    if qualified_name(call.function) in _MAPPINGS:
        return True
    return any(effect.kind in ("setitem", "setitems") for effect in call.effects) and call.kind != "reduce"


def _entries(node: Node) -> Iterator[tuple[Place, Node, Node]]:
    """The (place, key, value) of a mapping: those it was made with, then those set on it."""
    if type(node) is Call:
        for argument in arguments_of(node):
            if type(argument) is Group and argument.type == "dict":
                yield from pairs(argument)
            elif type(argument) is Group and qualified_name(node.function) == "collections.OrderedDict":
                # Python 2 wrote OrderedDict([[key, value], ...]).
                for _, item in elements(argument):
                    if type(item) is Group:
                        both = list(elements(item))
                        if len(both) == 2:
                            yield both[0][0], both[0][1], both[1][1]
    yield from pairs(node)


def _items(node: Node) -> Iterator[tuple[Place, Node]]:
    """The (place, item) of a sequence: those it was made with, then those appended."""
    if type(node) is Call:
        for argument in arguments_of(node):
            if type(argument) is Group and argument.type in ("list", "tuple"):
                yield from elements(argument)
    yield from elements(node)


def _state_entries(place: Place | None, state: Node) -> Iterator[tuple[Place | None, Node | str, Node]]:
    """The attributes in a BUILD's state: a dict, or (dict or None, dict of slots); anything else as one "state"."""
    if type(state) is Group and state.type == "dict":
        yield from pairs(state)
        return
    if type(state) is Call and _is_mapping(state):
        yield from _entries(state)
        return
    parts = [item for _, item in elements(state)] if type(state) is Group and state.type == "tuple" else []
    if len(parts) == 2 and all(_is_attributes(part) for part in parts):
        for part in parts:
            yield from pairs(part)
        return
    yield place, "state", state


def _is_attributes(node: Node) -> bool:
    return (type(node) is Group and node.type == "dict") or (type(node) is Const and node.value is None)


def _attribute_step(key: Node | str) -> Step:
    if isinstance(key, str):
        return TypedStep("field", key)
    name = key.value if type(key) is Const and type(key.value) is str else literal(key)
    return TypedStep("attribute", name)


def _module_state(call: Call) -> Node | None:
    """The state of a pickled nn.Module: it has `_parameters`, `_buffers` and `_modules`, whatever its class."""
    for place, state in states(call):
        names = {
            key.value for _, key, _ in _state_entries(place, state) if type(key) is Const and type(key.value) is str
        }
        if names.issuperset(_MODULE_DICTS):
            return state
    return None


def _is_internal(key: Node | str, value: Node) -> bool:
    """Whether an attribute of a module is nn.Module's own and says nothing: flags, and dicts without hooks."""
    name = key.value if type(key) is Const and type(key.value) is str else ""
    if name in _MODULE_DICTS:
        return True
    if name not in _MODULE_INTERNALS:
        return False
    if name in ("training", "_non_persistent_buffers_set", "_is_full_backward_hook"):
        return True
    return not any(True for _ in _entries(value))


def _names_in(nodes: Iterable[Node]) -> frozenset[str]:
    """The strs in a set, however the protocol wrote it."""
    names = []
    for node in nodes:
        groups = arguments_of(node) if type(node) is Call else [node]
        for group in [*groups, node]:
            for _, item in elements(group):
                if type(item) is Const and type(item.value) is str:
                    names.append(item.value)
    return frozenset(names)


def _is_ema(path: KeyPath) -> bool:
    return any(_EMA.search((step if isinstance(step, str) else step.value).lower()) for step in path)


def role_of(path: KeyPath, keys: Sequence[str | None]) -> Role:
    """What a mapping of tensors is, by where it stands and what it is called."""
    if _is_ema(path) or "n_averaged" in keys:
        return "ema"
    names = [step for step in path if isinstance(step, str)]
    if not path or (names and names[-1] in _MODEL_NAMES):
        return "model"
    return "other"


def _plain(node: Node, budget: list[int], depth: int = 0) -> Any:
    """A value of `_metadata` for JSON: dicts and lists a few levels deep, else a leaf or its text."""
    budget[0] -= 1
    if budget[0] < 0 or depth > 6:
        return "…"
    found = leaf(node)
    if found is not None:
        return found[1]
    if (type(node) is Group and node.type == "dict") or (type(node) is Call and _is_mapping(node)):
        return {
            key.value if type(key) is Const and type(key.value) is str else literal(key): _plain(
                value, budget, depth + 1
            )
            for _, key, value in _entries(node)
            if budget[0] > 0
        }
    if type(node) is Group:
        return [_plain(item, budget, depth + 1) for _, item in elements(node) if budget[0] > 0]
    return literal(node)


def _union(extents: list[tuple[int, int]]) -> int:
    """Bytes covered by at least one of the extents."""
    total, reached = 0, 0
    for start, end in sorted(extents):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total
