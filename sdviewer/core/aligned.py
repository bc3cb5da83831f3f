"""The aligned tree of two checkpoints: one row for what belongs together, with its name on either side or a gap.

Keys are cut at their dots. A pair stands where A has it; the module around it is taken to be the same as the one around
its partner in B, and so on upwards, so that what only B has finds its place behind what stands before it there. The
pairs of the state dicts that are compared first stand at the top, those of others and the values in a row for each.

What is there to be seen at once is not hidden behind a click: a block of a few tensors shows them all below it
(`attn.qkv.weight`), and so does a small module without a counterpart. Three and more blocks in a row that differ alike,
or do not differ, are folded.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from sdviewer.core.sheet import Rows, TextBlob, typed_columns
from sdviewer.core.tree import KINDS, SHORTEST_FOLD, ModuleTree, RowKind, follows, in_number_order

# Bits of `flags`.
EXPANDED, CHILDREN, GAP_A, GAP_B, FOLD, HAND, MATCHED, VALUE = 1, 2, 4, 8, 16, 32, 64, 128

MOST_FLAT: Final = 32
"""Tensors that a block shows below it without modules between ..."""

MOST_LONE: Final = 4
"""... and a module of which nothing can be compared, in its place."""


class Side(NamedTuple):
    """One side of a leaf: its key, and what stands beside it: a tensor's shape or a value's text.

    `order` is its place on that side; `tensor` the index of a tensor of its checkpoint, -1 for a value.
    """

    key: str
    kind: RowKind
    shape: str
    order: int
    tensor: int = -1


class Leaf(NamedTuple):
    """What is one row at the bottom; a side that is None is a gap. `group` is an index into the groups.

    `pair` is its number among the pairs, -1 for a value. `compared`: whether both sides can be compared number by
    number.
    """

    group: int
    a: Side | None
    b: Side | None
    pair: int
    compared: bool = False
    by_hand: bool = False


class Group(NamedTuple):
    """A state dict on either side, or the values: a row at the top unless it is the first. An empty name is a gap."""

    name_a: str
    name_b: str
    kind: RowKind = "module"


@dataclass(slots=True)
class AlignedTree:
    """Parallel lists over rows in pre-order; row i's subtree is `i + 1 .. end[i] - 1`, `parent` is -1 at the top.

    Names are what a key has beyond that of the row above it. `pair` is -1 for what is none; `leaf` is the index of the
    leaf, -1 for what holds others. `key_a` and `key_b` are whole keys, of modules too; "" where there is none.
    """

    name_a: list[str] = field(default_factory=list)
    name_b: list[str] = field(default_factory=list)
    key_a: list[str] = field(default_factory=list)
    key_b: list[str] = field(default_factory=list)
    kind_a: list[RowKind] = field(default_factory=list)
    kind_b: list[RowKind] = field(default_factory=list)
    shape_a: list[str] = field(default_factory=list)
    shape_b: list[str] = field(default_factory=list)
    tensor_a: list[int] = field(default_factory=list)
    tensor_b: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    pair: list[int] = field(default_factory=list)
    leaf: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.name_a)

    def ancestors(self, row: int) -> list[int]:
        """The rows above `row`, from the top down."""
        above = []
        while (row := self.parent[row]) >= 0:
            above.append(row)
        return above[::-1]

    def side(self, b: bool) -> ModuleTree:
        """The leaves of one side as a filter looks at them (`core.key_filter.matching_rows`); gaps match nothing."""
        gap = GAP_B if b else GAP_A
        kinds: list[RowKind] = [
            "module" if leaf < 0 or flags & gap else kind
            for leaf, flags, kind in zip(self.leaf, self.flags, self.kind_b if b else self.kind_a, strict=True)
        ]
        # What has no row below and is no leaf would be taken for one that holds nothing.
        end = [row + 2 if kind == "module" else row + 1 for row, kind in enumerate(kinds)]
        return ModuleTree(
            name=self.name_b if b else self.name_a,
            kind=kinds,
            end=end,
            path_text=self.key_b if b else self.key_a,
            tensor=self.tensor_b if b else self.tensor_a,
        )


class _Node:
    """A row while the tree is being put together. `a` and `b` are whole keys, None where there is none."""

    __slots__ = (
        "a",
        "b",
        "children",
        "compared",
        "followers",
        "gap_a",
        "gap_b",
        "holds_numbered",
        "kind",
        "last",
        "leaf",
        "leaves",
        "name",
        "parent",
        "sign",
    )

    def __init__(self, parent: _Node | None, a: str | None, b: str | None, kind: RowKind = "module") -> None:
        self.parent = parent
        self.a = a
        self.b = b
        self.kind: RowKind = kind
        self.name = ""
        """The last part of its key, in A if it is there."""
        self.children: list[_Node] = []
        # What only B has, by the child of this node that it stands behind; None: before all of them.
        self.followers: dict[_Node | None, list[_Node]] = {}
        self.last: _Node | None = None
        self.leaf = -1
        self.leaves = 0
        self.gap_a = self.gap_b = True
        self.compared = self.holds_numbered = False
        self.sign: object = None

    @property
    def is_numbered(self) -> bool:
        return self.name.isascii() and self.name.isdigit()


def align(groups: Sequence[Group], leaves: Sequence[Leaf], alike: Sequence[str] = ()) -> AlignedTree:
    """Put leaves into one tree: those of A in its order, then those that only B has.

    `alike` has a word for each leaf: blocks whose leaves have the same words are folded, "" is like nothing. Without it
    nothing is folded.
    """
    builder = _Builder(groups, leaves, alike)
    builder.place()
    tops = builder.finish()
    return _Rows(leaves, builder.tops).flatten(tops)


class _Builder:
    """Puts leaves into modules and modules into order."""

    def __init__(self, groups: Sequence[Group], leaves: Sequence[Leaf], alike: Sequence[str]) -> None:
        self.leaves = leaves
        self.alike = alike
        self.tops = [_Node(None, group.name_a or None, group.name_b or None, group.kind) for group in groups]
        self.in_a: list[dict[str, _Node]] = [{} for _ in groups]
        self.in_b: list[dict[str, _Node]] = [{} for _ in groups]
        self.signs: dict[object, int] = {}

    def place(self) -> None:
        """Give every leaf its place below the modules of its group."""
        nodes: list[_Node | None] = []
        for index, (group, a, b, *_) in enumerate(self.leaves):
            if a is None:
                nodes.append(None)
                continue
            home = self._home(self.in_a[group], self.tops[group], a.key, _of_a)
            node = _Node(home, a.key, None if b is None else b.key, a.kind)
            node.leaf = index
            home.children.append(node)
            nodes.append(node)
            if b is not None:
                self._meet(group, home, b.key)
        self._place_rest(nodes)

    def _home(self, known: dict[str, _Node], top: _Node, key: str, make: Callable[[_Node, str], _Node]) -> _Node:
        """The module of one side that a key stands in, made where it is missing."""
        above, dot, _ = key.rpartition(".")
        if not dot:
            return top
        node = known.get(above)
        if node is None:
            # A key of thousands of dots is one name, as in the tree of a document.
            node = known[above] = make(self._home(known, top, above, make) if above.count(".") < 200 else top, above)
        return node

    def _meet(self, group: int, node: _Node, key: str) -> None:
        """The modules around a pair are the same on both sides, from the inside out; who came first stays."""
        known, top = self.in_b[group], self.tops[group]
        above = key.rpartition(".")[0]
        while above and above not in known:
            if node is not top and node.b is None:
                node.b = above
            known[above] = node
            above = above.rpartition(".")[0]
            if node.parent is not None:
                node = node.parent

    def _place_rest(self, nodes: list[_Node | None]) -> None:
        """What only B has, behind what stands before it in B."""
        order = sorted((b.order, index) for index, (_, _, b, *_) in enumerate(self.leaves) if b is not None)
        for _, index in order:
            below = nodes[index]
            if below is None:
                group, _, b, *_ = self.leaves[index]
                assert b is not None
                home = self._home(self.in_b[group], self.tops[group], b.key, _of_b)
                below = _Node(home, None, b.key, b.kind)
                below.leaf = index
                _follow(home, below)
            above = below.parent
            while above is not None:
                above.last = below
                below, above = above, above.parent

    def finish(self) -> list[_Node]:
        """Order, sum up, flatten and fold, from the bottom up; the tops that hold anything."""
        for node in reversed(self._all()):
            if node.leaf >= 0:
                self._finish_leaf(node)
            else:
                self._finish_module(node)
        return [top for top in self.tops if top.children]

    def _all(self) -> list[_Node]:
        """Every node, those above before those below."""
        order = list(self.tops)
        for node in order:
            if node.followers:
                node.children = _merged(node)
            order.extend(node.children)
        return order

    def _finish_leaf(self, node: _Node) -> None:
        leaf = self.leaves[node.leaf]
        node.name = ((node.a if node.a is not None else node.b) or "").rpartition(".")[2]
        node.leaves = 1
        node.gap_a, node.gap_b, node.compared = leaf.a is None, leaf.b is None, leaf.compared
        if self.alike and (word := self.alike[node.leaf]):
            shapes = (leaf.a.shape if leaf.a else "", leaf.b.shape if leaf.b else "")
            node.sign = self._signed((word, *shapes))

    def _finish_module(self, node: _Node) -> None:
        children = node.children
        node.name = ((node.a if node.a is not None else node.b) or "").rpartition(".")[2]
        for child in children:
            node.leaves += child.leaves
            node.gap_a &= child.gap_a
            node.gap_b &= child.gap_b
            node.compared |= child.compared
            node.holds_numbered |= child.holds_numbered or child.is_numbered
        if len(children) > 1:
            children = in_number_order(children, [child.name for child in children])
        if all(child.sign is not None for child in children):
            below = tuple((_beyond(child.a, node.a), _beyond(child.b, node.b), child.sign) for child in children)
            node.sign = self._signed(below)
        if node.is_numbered and not node.holds_numbered and node.leaves <= MOST_FLAT:
            node.children = _leaves_below(children)
        else:
            node.children = _spliced(self._folded(children))

    def _signed(self, thing: object) -> int:
        return self.signs.setdefault(thing, len(self.signs))

    def _folded(self, children: list[_Node]) -> list[_Node]:
        """The children with every run of blocks that are alike put below a row of its own."""
        if len(children) < SHORTEST_FOLD or not self.alike:
            return children
        result: list[_Node] = []
        run: list[_Node] = []
        for child in children:
            if run and not (child.children and child.sign == run[0].sign and follows(run[-1].name, child.name)):
                result.extend(_fold(run))
                run = []
            if child.children and child.is_numbered and child.sign is not None:
                run.append(child)
            else:
                result.append(child)
        result.extend(_fold(run))
        return result


def _of_a(parent: _Node, key: str) -> _Node:
    node = _Node(parent, key, None)
    parent.children.append(node)
    return node


def _of_b(parent: _Node, key: str) -> _Node:
    node = _Node(parent, None, key)
    _follow(parent, node)
    return node


def _follow(home: _Node, node: _Node) -> None:
    home.followers.setdefault(home.last, []).append(node)


def _merged(node: _Node) -> list[_Node]:
    """The children of a node with what follows each of them."""
    merged: list[_Node] = []
    stack: list[_Node] = [*reversed(node.children), *reversed(node.followers.get(None, ()))]
    while stack:
        child = stack.pop()
        merged.append(child)
        stack.extend(reversed(node.followers.get(child, ())))
    return merged


def _beyond(key: str | None, above: str | None) -> str | None:
    """What a key has behind that of the module above it; all of it where it does not stand below."""
    if key is None or not above or not key.startswith(f"{above}."):
        return key
    return key[len(above) + 1 :]


def _leaves_below(children: list[_Node]) -> list[_Node]:
    found: list[_Node] = []
    for child in children:
        found += [child] if child.leaf >= 0 else _leaves_below(child.children)
    return found


def _spliced(children: list[_Node]) -> list[_Node]:
    """The children, with what stands below those that say nothing of their own in their places."""
    found: list[_Node] = []
    for child in children:
        # A fold is called by its numbers alone: the module around it says of what.
        lone = len(child.children) == 1 and child.kind == "module" and child.children[0].kind != "fold"
        small = not child.compared and child.leaves <= MOST_LONE and all(below.leaf >= 0 for below in child.children)
        if child.leaf < 0 and (lone or (small and not child.is_numbered and child.kind == "module")):
            found += child.children
        else:
            found.append(child)
    return found


def _fold(run: list[_Node]) -> list[_Node]:
    if len(run) < SHORTEST_FOLD:
        return run
    first, last = run[0], run[-1]
    fold = _Node(first.parent, first.a, first.b, "fold")
    fold.children = run
    fold.leaves = sum(child.leaves for child in run)
    fold.gap_a, fold.gap_b, fold.compared = first.gap_a, first.gap_b, first.compared
    fold.holds_numbered = True
    fold.name = f"{first.name} – {last.name}"
    return [fold]


class _Rows:
    """Makes the rows of finished nodes."""

    def __init__(self, leaves: Sequence[Leaf], tops: Sequence[_Node]) -> None:
        self.leaves = leaves
        self.first = tops[0] if tops else None
        self.tops = frozenset(map(id, tops))
        self.tree = AlignedTree()

    def flatten(self, tops: Sequence[_Node]) -> AlignedTree:
        """The rows in pre-order."""
        tree = self.tree
        # A work stack of (node, parent row, depth, keys above on either side); a row number closes that row.
        stack: list[tuple[_Node | int, int, int, str, str]] = []
        for top in reversed(tops):
            shown = top.children if top is self.first else [top]
            stack.extend((node, -1, 0, "", "") for node in reversed(shown))
        while stack:
            node, parent, depth, above_a, above_b = stack.pop()
            if isinstance(node, int):
                tree.end[node] = len(tree)
                continue
            row = len(tree)
            self._add(node, parent, depth, above_a, above_b)
            if node.children:
                stack.append((row, 0, 0, "", ""))
                if id(node) in self.tops:
                    above_a = above_b = ""
                elif node.kind != "fold":
                    above_a, above_b = node.a or above_a, node.b or above_b
                stack.extend((child, row, depth + 1, above_a, above_b) for child in reversed(node.children))
        return tree

    def _add(self, node: _Node, parent: int, depth: int, above_a: str, above_b: str) -> None:
        tree = self.tree
        leaf = self.leaves[node.leaf] if node.leaf >= 0 else None
        a, b = (None, None) if leaf is None else (leaf.a, leaf.b)
        is_fold = node.kind == "fold"
        tree.name_a.append(("" if node.gap_a else node.name) if is_fold else _beyond(node.a, above_a) or "")
        tree.name_b.append(("" if node.gap_b else node.name) if is_fold else _beyond(node.b, above_b) or "")
        tree.key_a.append("" if is_fold else node.a or "")
        tree.key_b.append("" if is_fold else node.b or "")
        tree.kind_a.append(a.kind if a is not None else node.kind)
        tree.kind_b.append(b.kind if b is not None else node.kind)
        tree.shape_a.append(a.shape if a is not None else "")
        tree.shape_b.append(b.shape if b is not None else "")
        tree.tensor_a.append(a.tensor if a is not None else -1)
        tree.tensor_b.append(b.tensor if b is not None else -1)
        tree.parent.append(parent)
        tree.end.append(len(tree.end) + 1)
        tree.depth.append(depth)
        tree.pair.append(-1 if leaf is None else leaf.pair)
        tree.leaf.append(node.leaf)
        tree.leaves.append(node.leaves)
        tree.flags.append(
            (CHILDREN if node.children else 0)
            | (GAP_A if node.gap_a else 0)
            | (GAP_B if node.gap_b else 0)
            | (FOLD if is_fold else 0)
            | (HAND if leaf is not None and leaf.by_hand else 0)
            | (VALUE if leaf is not None and leaf.pair < 0 else 0)
        )


# As arrays

TEXTS: Final = ("name_a", "name_b", "shape_a", "shape_b")
COLUMNS: Final = {
    "kind_a": "B",
    "kind_b": "B",
    "flags": "B",
    "depth": "H",
    "parent": "i",
    "end": "i",
    "pair": "i",
    "leaves": "i",
    **{f"{name}_{part}": "I" for name in TEXTS for part in ("at", "length")},
}
"""Column -> array type code; `kind_a` and `kind_b` index `core.tree.KINDS`, texts are as in `core.sheet`."""


class AlignedSheet(Rows):
    """All rows of one comparison; the texts are `TEXTS`."""

    __slots__ = ()

    def kind(self, column: str, row: int) -> str:
        """One of `core.tree.KINDS`, in `kind_a` or `kind_b`."""
        return str(KINDS[self.columns[column][row]])

    @staticmethod
    def from_buffers(buffers: Mapping[str, memoryview]) -> AlignedSheet:
        """The sheet from raw buffers named like the columns, and `text`."""
        return AlignedSheet(typed_columns(buffers, COLUMNS), buffers["text"])


def pack(tree: AlignedTree) -> dict[str, bytes]:
    """The buffers of a tree: column name -> raw bytes, and `text`. The expanded bit is 0 everywhere."""
    return pack_rows(tree, COLUMNS)


def pack_rows(
    tree: AlignedTree,
    codes: Mapping[str, str],
    texts: Mapping[str, Sequence[str]] = MappingProxyType({}),
    columns: Mapping[str, array[int]] = MappingProxyType({}),
) -> dict[str, bytes]:
    """The buffers of a tree with the columns in `codes`; `texts` and `columns` are those that it has not itself."""
    blob = TextBlob()
    made = dict(columns)
    for name, words in {**{name: getattr(tree, name) for name in TEXTS}, **texts}.items():
        made[f"{name}_at"], made[f"{name}_length"] = blob.put(words)
    kinds = {kind: number for number, kind in enumerate(KINDS)}
    made["kind_a"] = array("B", [kinds[kind] for kind in tree.kind_a])
    made["kind_b"] = array("B", [kinds[kind] for kind in tree.kind_b])
    made["depth"] = array("H", [min(depth, 65535) for depth in tree.depth])
    for name in codes.keys() - made.keys():
        made[name] = array(codes[name], getattr(tree, name))
    return {**{name: column.tobytes() for name, column in made.items()}, "text": blob.to_bytes()}
