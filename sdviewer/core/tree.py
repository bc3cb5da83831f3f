"""The module tree of a checkpoint: every row in pre-order, as flat lists, with totals, folds and notes.

A state dict's keys are cut at their dots into module paths; everything else follows its own steps. Children stand in
file order, but numbered siblings in numeric order (safetensors files sort `10` before `2`). A module that holds a
single thing is shown with it as one row (`conv1.weight`). Runs of three and more numbered siblings whose keys, shapes
and dtypes are alike get a fold row above them (`0 – 6`, `7 blocks alike`); one that differs stays out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar, get_args

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.optimizer_names import parameter_names
from sdviewer.core.paths import KeyPath, Step, TypedStep, dotted

RowKind = Literal["module", "dict", "list", "object", "optimizer", "fold", "tensor", "vector", "scalar", "value"]
KINDS: tuple[RowKind, ...] = get_args(RowKind)
LEAVES = frozenset({"tensor", "vector", "scalar", "value"})
SHORTEST_FOLD = 3

T = TypeVar("T")

Edits = Mapping[int, Sequence[str | None]]
"""For a state dict (index into `Checkpoint.state_dicts`): each entry's new key, None where it is dropped."""
ARROW = "\N{RIGHTWARDS ARROW} "
"""What stands before a shape or a dtype that is another than in the file."""


class TensorChange(NamedTuple):
    """What is said beside a tensor that is no tensor of the file, and whether its shape and dtype are other ones.

    `origin` stays the same while the recipe changes: what it is made of, and which of several that are made of it.
    """

    note: str
    shape: bool
    dtype: bool
    origin: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Changes:
    """What edits change besides keys.

    `tensors` are those of them that are computed, by their indexes. `joins` are entries, as (state dict, entry), that
    go into a tensor of several, with the words for it. `values` are the texts of changed values as they were, by their
    indexes. `removed` are paths outside the edited state dict that go, with all below them.
    """

    tensors: Mapping[int, TensorChange] = field(default_factory=dict)
    joins: Mapping[tuple[int, int], str] = field(default_factory=dict)
    values: Mapping[int, str] = field(default_factory=dict)
    removed: Sequence[KeyPath] = ()


@dataclass(slots=True)
class ModuleTree:
    """Parallel lists over rows in pre-order; row i's subtree is `i + 1 .. end[i] - 1`.

    `parent` is -1 at the top. `tensor`, `value`, `object` and `state_dict` are indexes into the checkpoint or -1;
    `entry` is the index into the state dict's keys of a leaf that is one. `params` counts elements, `nbytes` is logical
    bytes, `tensors` how many tensors are below. `old_key` is the key before an edit where it changed. `changed` is
    whether anything else of it did; what is `dropped` too goes into another tensor. `origin` knows a row again in the
    tree of another recipe: a kind and a number. `path_text` is what a filter looks
    through: the key inside its state dict, else the dotted path.
    """

    name: list[str] = field(default_factory=list)
    kind: list[RowKind] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    note: list[str] = field(default_factory=list)
    shape: list[str] = field(default_factory=list)
    dtype: list[str] = field(default_factory=list)
    params: list[int] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=list)
    tensor: list[int] = field(default_factory=list)
    value: list[int] = field(default_factory=list)
    object: list[int] = field(default_factory=list)
    state_dict: list[int] = field(default_factory=list)
    entry: list[int] = field(default_factory=list)
    old_key: list[str] = field(default_factory=list)
    dropped: list[bool] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    problem: list[bool] = field(default_factory=list)
    origin: list[tuple[str, int]] = field(default_factory=list)
    path_text: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.name)

    def ancestors(self, row: int) -> list[int]:
        """The rows above `row`, from the top down, fold rows included."""
        above = []
        while (row := self.parent[row]) >= 0:
            above.append(row)
        return above[::-1]


class _Node:
    """A row while the tree is being put together."""

    __slots__ = (
        "changed",
        "children",
        "dropped",
        "entry",
        "kind",
        "label",
        "name",
        "named",
        "nbytes",
        "object",
        "old_key",
        "params",
        "problem",
        "signature",
        "state_dict",
        "tensor",
        "tensors",
        "value",
    )

    def __init__(self, name: str, kind: RowKind) -> None:
        self.name = name
        self.kind: RowKind = kind
        self.children: list[_Node] = []
        self.named: dict[Step, _Node] | None = None
        self.tensor = -1
        self.value = -1
        self.object = -1
        self.state_dict = -1
        self.entry = -1
        self.label = ""
        self.old_key = ""
        self.changed = ""
        self.dropped = False
        self.problem = False
        self.params = 0
        self.nbytes = 0
        self.tensors = 0
        self.signature = -1


def build_tree(checkpoint: Checkpoint, edits: Edits | None = None, changes: Changes | None = None) -> ModuleTree:
    """The tree of a checkpoint as it would be after `edits`; dropped entries stay in their place, marked.

    The checkpoint has the tensors and values of `changes` already.
    """
    return _Builder(checkpoint, edits or {}, changes or Changes()).build()


class _Builder:
    def __init__(self, checkpoint: Checkpoint, edits: Edits, changes: Changes) -> None:
        self.checkpoint = checkpoint
        self.edits = edits
        self.changes = changes
        self.root = _Node("", "dict")
        # For a state dict: the node of each module path (None: the state dict itself) ...
        self.modules: dict[int, dict[str | None, _Node]] = {}
        # ... its entries that are no tensors, by their old key, and the rows made for those.
        self.other_entries: dict[int, dict[str, int]] = {}
        self.entry_rows: dict[tuple[int, int], _Node] = {}
        self.state_dict_at: dict[KeyPath, int] = {}
        # The tensors that something stands below, as the parts of a sparse one or the attributes of a parameter.
        self.compound: dict[KeyPath, _Node | None] = dict.fromkeys(_owners(checkpoint))
        self.compound_lengths = sorted({len(path) for path in self.compound if path})
        self.state_dict_lengths: list[int] = []
        root = loose_root(checkpoint)
        self.loose_root = -1 if root in edits else root
        self.signatures: dict[object, int] = {}
        self.shape_texts: dict[tuple[int, ...], str] = {}

    def build(self) -> ModuleTree:
        for index in range(len(self.checkpoint.state_dicts)):
            if index != self.loose_root:
                self._add_state_dict(index)
        self.state_dict_lengths = sorted({len(path) for path in self.state_dict_at}, reverse=True)
        self._add_other_tensors()
        self._add_objects()
        self._add_values()
        self._name_moments()
        self._mark_removed()
        self._finish()
        return self._flatten()

    # Putting rows where they belong

    def _container(self, path: KeyPath) -> _Node:
        """The node of a container, made with those above it where they are missing."""
        return self._below(self.root, path, leaf=False)

    def _add_state_dict(self, index: int) -> None:
        state_dict = self.checkpoint.state_dicts[index]
        if state_dict.path:
            home = self._container(state_dict.path)
        else:
            home = _Node(state_dict.role if state_dict.role != "other" else "state dict", "module")
            self.root.children.append(home)
        home.kind = "optimizer" if state_dict.role == "optimizer" else "module"
        home.state_dict = index
        if state_dict.role == "optimizer":
            return  # its tensors are found by their own steps: state, 0, exp_avg
        self.state_dict_at[state_dict.path] = index
        others = self.other_entries[index] = {}
        modules = self.modules[index] = {None: home}
        new_keys = self.edits.get(index)
        tensors = self.checkpoint.tensors
        for entry, (old, tensor) in enumerate(zip(state_dict.keys, state_dict.tensor_of, strict=True)):
            key = old if new_keys is None else new_keys[entry]
            if tensor < 0:
                others[old] = entry
                if key == old:
                    continue  # a value or an object: placed by its path below
            shown = old if key is None else key
            module, last = _home(modules, shown)
            leaf = _Node(last, "value") if tensor < 0 else self._leaf(last, tensors[tensor], tensor)
            leaf.state_dict = index
            leaf.entry = entry
            leaf.dropped = key is None
            if key is None:
                leaf.changed = self.changes.joins.get((index, entry), "")
            if shown != old:
                leaf.old_key = old
            if tensor < 0:
                self.entry_rows[index, entry] = leaf
            module.children.append(leaf)

    def _leaf(self, name: str, info: TensorInfo, index: int) -> _Node:
        kind: RowKind = "tensor" if len(info.shape) > 1 else "vector" if info.shape else "scalar"
        node = _Node(name, kind)
        node.tensor = index
        # Without a dtype nothing is known of it but its key, not even a shape.
        node.params = info.elements if info.dtype else 0
        node.nbytes = info.nbytes
        node.tensors = 1
        node.problem = bool(info.unreadable)
        if self.changes.tensors and (change := self.changes.tensors.get(index)) is not None:
            node.changed = change.note
        node.signature = self._sign((info.shape, info.dtype))
        if self.compound and info.path in self.compound:
            self.compound[info.path] = node
        return node

    def _add_other_tensors(self) -> None:
        own_steps = {i for i, s in enumerate(self.checkpoint.state_dicts) if s.role == "optimizer"}
        own_steps.add(self.loose_root)
        for index, info in enumerate(self.checkpoint.tensors):
            if info.state_dict is not None and info.state_dict not in own_steps:
                continue
            if not info.path:
                self.root.children.append(self._leaf("tensor", info, index))
                continue
            home = self.compound.get(info.path[:-1]) or self._container(info.path[:-1])
            leaf = self._leaf(_step_text(info.path[-1]), info, index)
            if info.state_dict is not None and info.state_dict != self.loose_root:
                leaf.state_dict = info.state_dict
            home.children.append(leaf)

    def _add_objects(self) -> None:
        for index, info in enumerate(self.checkpoint.objects):
            node = self._place(info.path)
            node.object = index
            if node.state_dict < 0 or node.entry >= 0:
                node.kind = "object"

    def _add_values(self) -> None:
        for index, info in enumerate(self.checkpoint.values):
            if not info.path:
                node = _Node("value", "value")
                self.root.children.append(node)
            else:
                node = self._place(info.path, leaf=True)
            node.kind = "value"
            node.value = index
            if index in self.changes.values:
                node.changed = f"was {self.changes.values[index]}"

    def _mark_removed(self) -> None:
        for path in self.changes.removed:
            home: _Node | None = self.root
            for step in path[:-1]:
                home = None if home is None or home.named is None else home.named.get(step)
            gone = [] if home is None else [child for child in home.children if self._stands_at(child, home, path)]
            for node in gone:
                node.dropped = True
                gone.extend(node.children)

    def _stands_at(self, node: _Node, home: _Node, path: KeyPath) -> bool:
        """Whether a node of a container is what has this path."""
        if node.tensor >= 0:
            return self.checkpoint.tensors[node.tensor].path == path
        if node.value >= 0:
            return self.checkpoint.values[node.value].path == path
        return home.named is not None and home.named.get(path[-1]) is node

    def _name_moments(self) -> None:
        """Say beside the numbers of an optimizer's state which parameters they are."""
        for index, state_dict in enumerate(self.checkpoint.state_dicts):
            if state_dict.role != "optimizer":
                continue
            state: _Node | None = self.root
            for step in (*state_dict.path, "state"):
                state = None if state is None or state.named is None else state.named.get(step)
            if state is not None:
                names = parameter_names(self.checkpoint, index)
                for child in state.children:
                    child.label = text.visible(names.get(child.name, ""), 200)

    def _place(self, path: KeyPath, leaf: bool = False) -> _Node:
        """The node for a value's or an object's path: below its tensor or its state dict's modules, if it has one."""
        for length in self.compound_lengths:
            owner = self.compound.get(path[:length]) if length < len(path) else None
            if owner is not None:
                return self._below(owner, path[length:], leaf)
        for length in self.state_dict_lengths:
            if length >= len(path):
                continue
            index = self.state_dict_at.get(path[:length])
            step = path[length]
            if index is None or not isinstance(step, str):
                continue
            entry = self.other_entries[index].get(step)
            if entry is None:
                break
            rest = path[length + 1 :]
            node = self.entry_rows.get((index, entry))
            if node is None:
                module, last = _home(self.modules[index], step)
                node = self.entry_rows[index, entry] = _Node(last, "value" if leaf and not rest else "dict")
                node.state_dict, node.entry = index, entry
                module.children.append(node)
            elif rest:
                node.kind = "dict"
            return self._below(node, rest, leaf)
        return self._below(self.root, path, leaf)

    def _below(self, node: _Node, path: KeyPath, leaf: bool) -> _Node:
        if leaf and path:
            home = self._below(node, path[:-1], leaf=False)
            child = _Node(_step_text(path[-1]), "value")
            home.children.append(child)
            return child
        for step in path:
            node = _named_child(node, step)
        return node

    # Totals, order, likeness

    def _sign(self, thing: object) -> int:
        return self.signatures.setdefault(thing, len(self.signatures))

    def _finish(self) -> None:
        """Sum up, sort and sign every container, from the bottom up."""
        order = [self.root]
        for node in order:
            order.extend(child for child in node.children if child.children)
        for node in reversed(order):
            if len(node.children) > 1:
                node.children = in_number_order(node.children, [child.name for child in node.children])
            likeness = [(child.name, child.signature) for child in node.children]
            if node.tensor >= 0:
                # What it is made of counts as itself.
                likeness.append(("", node.signature))
            else:
                for child in node.children:
                    node.params += child.params
                    node.nbytes += child.nbytes
                    node.tensors += child.tensors
            node.signature = self._sign(tuple(likeness))

    # Rows

    def _flatten(self) -> ModuleTree:
        """The rows in pre-order, column by column: a list comprehension a column is what 100,000 rows can afford."""
        order, name, parent, depth, end = self._in_order()
        tensors, edits = self.checkpoint.tensors, self.edits
        infos = [tensors[node.tensor] if node.tensor >= 0 else None for node in order]
        rows = list(zip(order, name, infos, strict=True))
        return ModuleTree(
            name=name,
            kind=[node.kind for node in order],
            parent=parent,
            end=end,
            depth=depth,
            note=[
                (node.changed or (f"was {node.old_key}" if node.old_key else ""))
                if info is not None
                else self._note(node)
                for node, info in zip(order, infos, strict=True)
            ],
            shape=self._arrows(
                order,
                ["" if info is None or not info.dtype else self._shape(info.shape) for info in infos],
                [index for index, change in self.changes.tensors.items() if change.shape],
            ),
            dtype=self._arrows(
                order,
                [
                    self._type(node)
                    if info is None
                    else DTYPES[info.dtype].short
                    if info.dtype in DTYPES
                    else info.dtype
                    for node, info in zip(order, infos, strict=True)
                ],
                [index for index, change in self.changes.tensors.items() if change.dtype],
            ),
            params=[node.params for node in order],
            nbytes=[node.nbytes for node in order],
            tensors=[node.tensors for node in order],
            tensor=[node.tensor for node in order],
            value=[node.value for node in order],
            object=[node.object for node in order],
            state_dict=[node.state_dict for node in order],
            entry=[node.entry for node in order],
            old_key=[node.old_key for node in order],
            dropped=[node.dropped for node in order],
            changed=[bool(node.changed) for node in order],
            problem=[node.problem for node in order],
            origin=[self._origin(node) for node in order],
            path_text=[
                self._path_text(node, name)
                if info is None
                else dotted(info.path)
                if node.entry < 0 or info.key is None
                else (edits[node.state_dict][node.entry] or info.key)
                if node.old_key
                else info.key
                for node, name, info in rows
            ],
        )

    def _in_order(self) -> tuple[list[_Node], list[str], list[int], list[int], list[int]]:
        """Nodes, names, parent rows, depths and subtree ends in pre-order, folds put in, lone children joined."""
        order: list[_Node] = []
        names: list[str] = []
        parents: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        # A work stack of (node, parent row, depth); a row number instead of a node closes that row.
        tops = sorted(self.root.children, key=_top_order)
        stack: list[tuple[_Node | int, int, int]] = [(node, -1, 0) for node in reversed(tops)]
        while stack:
            node, parent, depth = stack.pop()
            if isinstance(node, int):
                ends[node] = len(order)
                continue
            name = node.name
            children = node.children
            while len(children) == 1 and node.kind == "module" and node.state_dict < 0:
                node = children[0]
                name = f"{name}.{node.name}"
                children = node.children
            row = len(order)
            order.append(node)
            names.append(name)
            parents.append(parent)
            depths.append(depth)
            ends.append(row + 1)
            if children:
                stack.append((row, 0, 0))
                if node.kind != "fold":
                    children = _folded(children)
                depth += 1
                stack.extend([(child, row, depth) for child in reversed(children)])
        return order, names, parents, depths, ends

    def _origin(self, node: _Node) -> tuple[str, int]:
        if node.tensor >= 0:
            change = self.changes.tensors.get(node.tensor) if self.changes.tensors else None
            return ("tensor", node.tensor) if change is None else change.origin
        return ("value", node.value) if node.value >= 0 else ("object", node.object)

    def _arrows(self, order: Sequence[_Node], shown: list[str], changed: Sequence[int]) -> list[str]:
        """These texts, with an arrow before those of tensors that are among the changed ones."""
        if not changed:
            return shown
        among = set(changed)
        return [ARROW + words if node.tensor in among else words for node, words in zip(order, shown, strict=True)]

    def _shape(self, sizes: tuple[int, ...]) -> str:
        shown = self.shape_texts.get(sizes)
        if shown is None:
            shown = self.shape_texts[sizes] = text.shape(sizes)
        return shown

    def _path_text(self, node: _Node, name: str) -> str:
        if node.value >= 0:
            return dotted(self.checkpoint.values[node.value].path)
        if node.object >= 0 and not node.children:
            return dotted(self.checkpoint.objects[node.object].path)
        return name

    def _type(self, node: _Node) -> str:
        if node.value >= 0:
            return self.checkpoint.values[node.value].type.removeprefix("builtins.")
        if node.state_dict >= 0 and node.entry < 0:
            tensors = self.checkpoint.tensors
            found = {
                tensors[index].dtype for index in self.checkpoint.state_dicts[node.state_dict].tensor_of if index >= 0
            }
            (only,) = found if len(found) == 1 else ("",)
            return DTYPES[only].short if only in DTYPES else only
        return ""

    def _note(self, node: _Node) -> str:
        checkpoint = self.checkpoint
        if node.value >= 0:
            note = value_text(checkpoint.values[node.value].value)
        elif node.kind == "fold":
            note = f"{text.count(len(node.children))} blocks alike"
        elif node.object >= 0 and not node.children:
            note = f"{checkpoint.objects[node.object].cls}, not built"
        elif node.kind == "object":
            note = f"{checkpoint.objects[node.object].cls} · {text.plural(_leaf_count(node), 'value')}"
        elif node.kind == "optimizer":
            note = f"{text.plural(node.tensors, 'tensor')} · {text.size(node.nbytes)}"
        elif node.state_dict >= 0 and node.entry < 0:
            note = text.plural(node.tensors, "tensor")
        elif node.tensors:
            note = text.plural(node.tensors, "tensor") if node.tensors >= 100 else str(node.tensors)
        else:
            n = _leaf_count(node)
            note = text.plural(n, "value") if n else "empty"
        if node.label:
            note = f"{node.label} · {note}"
        if node.changed:
            note = f"{note} · {node.changed}"
        return f"{note} · was {node.old_key}" if node.old_key else note


def loose_root(checkpoint: Checkpoint) -> int:
    """The state dict that is only the top of a training checkpoint with a tensor or two beside its model; -1 for none.

    A row for it would hold everything that stands beside the model, and the rest of the file would stand there twice.
    """
    root = next((i for i, state_dict in enumerate(checkpoint.state_dicts) if not state_dict.path), -1)
    if root < 0:
        return -1
    most = max((other.tensors for other in checkpoint.state_dicts if other.path), default=0)
    return root if most > checkpoint.state_dicts[root].tensors else -1


def _owners(checkpoint: Checkpoint) -> Iterator[KeyPath]:
    """The tensors at which parts and attributes hang, by their paths."""
    if not checkpoint.tensors:
        return
    loose = (info for info in checkpoint.tensors if info.state_dict is None)
    hung = [
        (info.path, length)
        for rows in (checkpoint.values, checkpoint.objects, loose)
        for info in rows
        for length, step in enumerate(info.path)
        if type(step) is TypedStep and step.type in ("part", "attribute")
    ]
    tensors = {info.path for info in checkpoint.tensors} if hung else set()
    lengths = {len(path) for path in tensors}
    for path, length in hung:
        # A path is cut, which costs its length, only where a tensor can be what it hangs at.
        if length in lengths and path[:length] in tensors:
            yield path[:length]


def value_text(value: object, limit: int = 200) -> str:
    """One line of untrusted text for a value that is no tensor."""
    if isinstance(value, str):
        return text.visible(value, limit)
    if isinstance(value, (bool, int, float)) or value is None:
        return "None" if value is None else text.value(value)
    return text.visible(str(value), limit)


def _step_text(step: Step) -> str:
    return step if isinstance(step, str) else step.value


def _container_kind(step: Step) -> RowKind:
    return "module" if isinstance(step, TypedStep) and step.type == "module" else "dict"


def _named_child(node: _Node, step: Step) -> _Node:
    """The container below `node` at `step`, made where it is missing."""
    if node.named is None:
        node.named = {}
    child = node.named.get(step)
    if child is None:
        child = node.named[step] = _Node(_step_text(step), _container_kind(step))
        node.children.append(child)
        if isinstance(step, TypedStep) and step.type == "index" and node.kind == "dict":
            node.kind = "list"
    return child


def _home(modules: dict[str | None, _Node], key: str) -> tuple[_Node, str]:
    """The module that a key stands in, made where it is missing, and the key's last component."""
    above, dot, last = key.rpartition(".")
    if not dot:
        return modules[None], last
    node = modules.get(above)
    if node is None:
        parent, name = _home(modules, above) if above.count(".") < 200 else (modules[None], above)
        node = modules[above] = _Node(name, "module")
        parent.children.append(node)
    return node, last


def _leaf_count(node: _Node) -> int:
    total = 0
    todo = [node]
    for current in todo:
        if current.children:
            todo.extend(current.children)
        elif current is not node:
            total += 1
    return total


def in_number_order(things: list[T], names: Sequence[str]) -> list[T]:
    """Siblings in file order, with the numbered ones in numeric order among the places they hold."""
    places = [i for i, name in enumerate(names) if name.isascii() and name.isdigit()]
    if len(places) < 2:
        return things
    numbered = sorted(places, key=lambda i: (len(names[i].lstrip("0")), names[i]))
    ordered = list(things)
    for place, i in zip(places, numbered, strict=True):
        ordered[place] = things[i]
    return ordered


def _folded(children: list[_Node]) -> list[_Node]:
    """The children with every run of alike blocks put below a fold row."""
    if len(children) < SHORTEST_FOLD:
        return children
    result: list[_Node] = []
    run: list[_Node] = []
    for child in children:
        if run and not (child.children and child.signature == run[0].signature and follows(run[-1].name, child.name)):
            result.extend(_fold(run))
            run = []
        if child.children and child.name.isascii() and child.name.isdigit() and child.tensors:
            run.append(child)
        else:
            result.append(child)
    result.extend(_fold(run))
    return result


def follows(before: str, after: str) -> bool:
    """Whether the name of a numbered sibling is the next number."""
    return after.isascii() and after.isdigit() and len(after) < 19 and int(after) == int(before) + 1


def _fold(run: list[_Node]) -> list[_Node]:
    if len(run) < SHORTEST_FOLD:
        return run
    fold = _Node(f"{run[0].name} – {run[-1].name}", "fold")
    fold.children = run
    fold.params = sum(child.params for child in run)
    fold.nbytes = sum(child.nbytes for child in run)
    fold.tensors = sum(child.tensors for child in run)
    return [fold]


def _top_order(node: _Node) -> int:
    """Models first, then what holds tensors, then optimizers, then the rest."""
    if node.kind == "optimizer":
        return 2
    if node.tensors:
        return 0 if node.state_dict >= 0 else 1
    return 3
