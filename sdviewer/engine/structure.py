"""Everything a file holds, as it stands in it: containers, values and inert objects, looked into on demand.

Nothing is walked before somebody asks: an answer has one item's children, a page of them. So shared objects cost
nothing twice and cycles end nowhere; an object that is met again is marked with the place where it was met first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import no_progress
from sdviewer.errors import SDViewerError
from sdviewer.formats.dcp import DcpSource
from sdviewer.formats.dcp_metadata import DcpMetadata, StoredAt, StoredTensor
from sdviewer.formats.folder import METADATA
from sdviewer.formats.pickle_streams import PickleStream, pickle_streams
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.names import fix_imports
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, TensorRecord
from sdviewer.pickles.places import key_text
from sdviewer.pickles.python_line import python_line

MOST_PICKLES = 1000
"""Pickles one behind the other that are told of one stream."""

LONGEST_VALUE = 300
"""Characters of a value in a row."""

LONGEST_METADATA = 1 << 20
"""Bytes of a `.metadata` that are read opcode by opcode; one of 100,000 tensors would take ten seconds."""

_NODES = (Const, Global, Group, Call, Persistent, Other, TensorRecord)


class Plain:
    """A value of JSON: a header, an index, what a reader made of the container's own words."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Section:
    """No object of the file, but a pickle, or a list of its calls; `inside` makes its children when asked."""

    __slots__ = ("inside", "kind", "said", "type")

    def __init__(
        self, type_: str, said: str, inside: Callable[[], Sequence[tuple[str, Thing]]], kind: str = "dict"
    ) -> None:
        self.type = type_
        self.said = said
        self.inside = inside
        self.kind = kind


Thing = Node | Plain | Section


@dataclass(slots=True)
class Item:
    """One row: a thing in a place. `record` and `pickle` are where it came from, `numbers` the rows in it so far."""

    label: str
    thing: Thing
    parent: int
    record: str
    pickle: Pickle | None
    inside: Sequence[tuple[str, Thing]] | None = None
    numbers: dict[int, int] = field(default_factory=dict)


class Structure:
    """The rows handed out so far; row 0 is the file."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._items = [Item("", Section("file", "", self._roots), -1, "", None)]
        self._first: dict[int, int] = {}
        self._records: dict[int, tuple[str, Pickle]] = {}

    def children(self, item: int, start: int, limit: int) -> dict[str, Any]:
        """One page of what is in a row: `{"rows": [ROW], "total": n}`.

        ROW is [item, label, type, value, place in the file, mark, whether something is in it, kind of icon].
        """
        above = self._items[item]
        inside = above.inside
        if inside is None:
            inside = above.inside = self._inside(above.thing, above.pickle)
        rows = []
        for place, (label, thing) in enumerate(inside[start : start + limit], start):
            # A row that is listed once more is the same row, not another place of the same object.
            number = above.numbers.get(place)
            if number is None:
                record, pickle = above.record, above.pickle
                if isinstance(thing, Section) and id(thing) in self._records:
                    record, pickle = self._records[id(thing)]
                number = above.numbers[place] = len(self._items)
                self._items.append(Item(label, thing, item, record, pickle))
            rows.append(self._row(number))
        return {"rows": rows, "total": len(inside)}

    def _row(self, number: int) -> list[Any]:
        item = self._items[number]
        mark, again = self._mark(number)
        type_, value, kind = told(item.thing)
        return [
            number,
            text.visible(item.label, 200),
            text.visible(type_, 200),
            text.visible(value, LONGEST_VALUE),
            self._place(item),
            mark,
            not again and _holds(item.thing),
            kind,
        ]

    def _mark(self, number: int) -> tuple[str, bool]:
        """What is said of an object that was met before, and whether it contains itself here."""
        thing = self._items[number].thing
        if not isinstance(thing, (Group, Call, TensorRecord)):
            return "", False
        above = self._items[number].parent
        while above >= 0:
            if self._items[above].thing is thing:
                return f"contains itself: it is {self._path(above)}", True
            above = self._items[above].parent
        first = self._first.setdefault(id(thing), number)
        if first == number:
            return "", False
        return f"same object as {self._path(first)}", False

    def _path(self, number: int) -> str:
        labels: list[str] = []
        while number > 0 and len(labels) < 40:
            labels.append(self._items[number].label)
            number = self._items[number].parent
        return text.visible(" › ".join(reversed(labels)), 200)

    def _place(self, item: Item) -> str:
        """`data.pkl:12–58`: the bytes of the opcodes that make it, as far as they are its own."""
        thing = item.thing
        if not isinstance(thing, _NODES) or thing.at < 0:
            return ""
        end = thing.at
        if isinstance(thing, TensorRecord):
            end = thing.end
        elif isinstance(thing, (Const, Global)) and thing.raw:
            end = thing.at + len(thing.raw)
        name = text.visible(item.record, 80)
        return f"{name}:{thing.at:,}" + (f"–{end:,}" if end > thing.at + 1 else "")

    def _inside(self, thing: Thing, pickle: Pickle | None) -> Sequence[tuple[str, Thing]]:
        if isinstance(thing, Section):
            return thing.inside()
        if isinstance(thing, Plain):
            return list(_plain_parts(thing.value))
        if isinstance(thing, TensorRecord) and pickle is not None:
            return [*node_parts(pickle.expand(thing)), *node_parts(thing)]
        return list(node_parts(thing))

    # What stands at the top

    def _roots(self) -> list[tuple[str, Thing]]:
        roots: list[tuple[str, Thing]] = []
        source = self._checkpoint.source
        own = getattr(source, "pickle", None)
        own_name = getattr(getattr(source, "object_entry", None), "name", "")
        if isinstance(own, Pickle):
            name = own_name or Path(self._checkpoint.path).name
            roots.append(self._pickle_root(name, own, "the checkpoint's objects"))
        for stream in self._streams():
            if isinstance(own, Pickle) and stream.name == own_name and own_name:
                continue
            roots += self._stream_roots(stream, own)
        pairs = getattr(source, "header_pairs", None)
        if pairs is not None:
            inside = [(str(key), Plain(value)) for key, value in pairs]
            roots.append(("header", Section("JSON", text.plural(len(inside), "entry", "entries"), lambda: inside)))
        for name, value in self._checkpoint.metadata.items():
            if name not in ("state_dict", "safetensors"):
                roots.append((name, Plain(value)))
        if self._checkpoint.writer:
            roots.append(("writer", Plain(dict(self._checkpoint.writer))))
        return roots

    def _streams(self) -> list[PickleStream]:
        try:
            return list(pickle_streams(self._checkpoint.path, parts=False, checkpoint=self._checkpoint))
        except SDViewerError:
            return []  # a folder, or a container that holds none

    def _stream_roots(self, stream: PickleStream, own: Pickle | None) -> list[tuple[str, Thing]]:
        name = stream.name or Path(self._checkpoint.path).name
        if stream.broken:
            return [(name, Section("pickle", f"cannot be read: {stream.broken}", list))]
        if len(stream.data) > LONGEST_METADATA and stream.name == METADATA:
            described = self._described(stream.data)
            if described is not None:
                return [(name, described)]
        pickles: list[Pickle] = []
        at = 0
        most = MOST_PICKLES if stream.pickles is None else stream.pickles
        while at < len(stream.data) and len(pickles) < most:
            pickle = parse_partial(stream.data, at)
            if stream.pickles is None and pickles and pickle.broken and not pickle.calls:
                break  # what follows is no pickle
            pickles.append(pickle)
            at = pickle.end
            if pickle.broken:
                break
        note = "" if stream.loaded else "torch.load does not read it"
        return [
            self._pickle_root(f"{name}, pickle {number}" if len(pickles) > 1 else name, pickle, note)
            for number, pickle in enumerate(pickles, 1)
            # That of a legacy stream which holds the objects is there already.
            if own is None or stream.name or number != 4 or pickle.end - pickle.start != own.end - own.start
        ]

    def _described(self, data: bytes) -> Section | None:
        """A long `.metadata` of a distributed checkpoint by what it describes; None where only its opcodes tell."""
        if not isinstance(self._checkpoint.source, DcpSource):
            return None
        from sdviewer.formats.dcp_records import read_records  # its expressions take long to compile

        found = read_records(data, no_progress)
        if found is None:
            return None
        said = f"{len(data):,} bytes, so many that what they describe is told and not each opcode"
        return Section("pickle", said, lambda: list(_metadata_parts(found)), "object")

    def _pickle_root(self, name: str, pickle: Pickle, note: str) -> tuple[str, Thing]:
        words = [f"protocol {pickle.protocol}", f"{pickle.end - pickle.start:,} bytes"]
        words += [f"breaks off: {pickle.broken}"] if pickle.broken else []
        words += [note] if note else []
        section = Section("pickle", ", ".join(words), lambda: list(_pickle_parts(pickle)), "object")
        self._records[id(section)] = (name.rpartition("/")[2], pickle)
        return name, section


def _metadata_parts(metadata: DcpMetadata) -> Iterator[tuple[str, Thing]]:
    """The three tables of a distributed checkpoint's description, under the names that they have in it."""
    entries, paths, places = metadata.entries, metadata.paths, metadata.places
    for label, count, inside in (
        ("state_dict_metadata", len(entries), lambda: [_described_entry(entry) for entry in entries]),
        ("planner_data", len(paths), lambda: [(fqn, Plain(steps)) for fqn, steps in paths.items()]),
        ("storage_data", len(places), lambda: [_described_place(*place) for place in places.items()]),
    ):
        yield label, Section("dict", text.plural(count, "entry", "entries"), inside)
    if metadata.version is not None:
        yield "version", Plain(metadata.version)


def _described_entry(entry: StoredTensor | str) -> tuple[str, Thing]:
    if isinstance(entry, str):
        return entry, Section("BytesStorageMetadata", "an object that is no tensor", list, "value")
    said = entry.problem or f"{text.shape(entry.size)}, {entry.dtype}, {text.plural(len(entry.chunks), 'part')}"

    def inside() -> list[tuple[str, Thing]]:
        chunks = [{"offsets": offsets, "sizes": sizes} for offsets, sizes in entry.chunks]
        facts = {"dtype": entry.dtype, "requires_grad": entry.requires_grad, "size": entry.size, "chunks": chunks}
        return [(name, Plain(value)) for name, value in facts.items()]

    return entry.fqn, Section("TensorStorageMetadata", said, inside, "tensor")


def _described_place(index: tuple[str, tuple[int, ...] | None], at: StoredAt) -> tuple[str, Thing]:
    fqn, offsets = index
    label = fqn if offsets is None else f"{fqn} at {list(offsets)}"
    said = f"{at.file}, bytes {at.offset:,} to {at.offset + at.length:,}"
    return label, Section("_StorageInfo", f"{said}, {at.transforms}" if at.transforms else said, list, "link")


def _pickle_parts(pickle: Pickle) -> Iterator[tuple[str, Thing]]:
    if pickle.root is not None:
        yield "returns", pickle.root
    if pickle.left_over:
        yield "left over", _listed("objects that it makes and throws away", pickle.left_over)
    if pickle.calls:
        yield "calls", _listed("calls, in the order in which they would run", pickle.calls)
    if pickle.globals:
        yield "names", _listed("names that it asks for", pickle.globals)


def _listed(what: str, nodes: Sequence[Node]) -> Section:
    return Section("list", f"{len(nodes):,} {what}", lambda: [(f"{i}", node) for i, node in enumerate(nodes)], "list")


def node_parts(node: Node) -> Iterator[tuple[str, Node]]:
    """What stands directly in a node, labelled with what it is there."""
    if isinstance(node, Group):
        yield from _pairs(node.items) if node.type == "dict" else _elements(node.items, 0)
    elif isinstance(node, Call):
        yield "function" if node.kind == "reduce" else "class", node.function
        if node.kind in ("obj", "inst"):
            yield from ((f"argument {i}", argument) for i, argument in enumerate(node.args))
        else:
            yield from zip(("arguments", "keyword arguments"), node.args, strict=False)
    elif isinstance(node, Persistent) and node.id is not None:
        yield "id", node.id
    elif isinstance(node, Global) and node.parts is not None:
        yield from zip(("module", "name"), node.parts, strict=True)
    elif isinstance(node, Other) and node.child is not None:
        yield "buffer", node.child
    count = len(node.items) if isinstance(node, Group) else 0
    for effect in node.effects:
        if effect.kind in ("setitem", "setitems"):
            yield from _pairs(effect.items)
        elif effect.kind in ("append", "appends", "additems"):
            yield from _elements(effect.items, count)
            count += len(effect.items)
        elif effect.kind == "build":
            yield "state", effect.items[0]
        else:
            yield "called for its effect, result thrown away", effect.items[0]


def _pairs(items: list[Node]) -> Iterator[tuple[str, Node]]:
    for key, value in zip(items[::2], items[1::2], strict=False):
        label = key_text(key)
        if not isinstance(key, Const):
            yield f"key {label}", key
        elif not isinstance(key.value, str):
            label = python_line(key)
        yield label, value


def _elements(items: list[Node], first: int) -> Iterator[tuple[str, Node]]:
    for i, item in enumerate(items, first):
        yield f"[{i}]", item


def _pairs_of(value: Any) -> Sequence[tuple[Any, Any]] | None:
    """The pairs of a JSON object, duplicates too where its reader keeps them."""
    if isinstance(value, dict):
        return list(value.items())
    pairs: Sequence[tuple[Any, Any]] | None = getattr(value, "pairs", None)
    return pairs


def _plain_parts(value: Any) -> Iterator[tuple[str, Plain]]:
    pairs = _pairs_of(value)
    if pairs is not None:
        for key, inner in pairs:
            yield str(key), Plain(inner)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield f"[{i}]", Plain(inner)


def _holds(thing: Thing) -> bool:
    if isinstance(thing, Section):
        return thing.inside is not list
    if isinstance(thing, Plain):
        return next(_plain_parts(thing.value), None) is not None
    return isinstance(thing, TensorRecord) or next(node_parts(thing), None) is not None


def told(thing: Thing) -> tuple[str, str, str]:
    """Type, value in words, and icon of a row."""
    if isinstance(thing, Section):
        return thing.type, thing.said, thing.kind
    if isinstance(thing, Plain):
        return _plain_told(thing.value)
    if isinstance(thing, Const):
        return type(thing.value).__name__, python_line(thing), "value"
    if isinstance(thing, Global):
        return "name", _name(thing), "object"
    if isinstance(thing, Group):
        return thing.type, _count(thing), "dict" if thing.type == "dict" else "list"
    if isinstance(thing, Call):
        function = thing.function
        type_ = _name(function) if isinstance(function, Global) else "what another call returns"
        count = _count(thing)
        return type_, f"{count}, {python_line(thing)}" if count else python_line(thing), "object"
    if isinstance(thing, Persistent):
        return "persistent id", python_line(thing.id) if thing.id is not None else thing.raw.decode("latin-1"), "link"
    if isinstance(thing, TensorRecord):
        words = (text.shape(thing.size), thing.storage_class.name, f"storage {thing.key}, element {thing.offset:,} on")
        return "tensor", ", ".join(words), "tensor"
    return "opcode", "an object that is not in the pickle itself", "object"


def _name(node: Global) -> str:
    if node.parts is not None and not node.module:
        return "a name that is computed"
    now = ".".join(fix_imports(node.module, node.name))
    return node.qualified if now == node.qualified else f"{node.qualified} (now {now})"


def _count(node: Group | Call) -> str:
    """How many entries and items it has; of a call "" where it has none."""
    pairs = items = 0
    is_dict = isinstance(node, Group) and node.type == "dict"
    if isinstance(node, Group):
        pairs, items = (len(node.items) // 2, 0) if is_dict else (0, len(node.items))
    for effect in node.effects:
        if effect.kind in ("setitem", "setitems"):
            pairs += len(effect.items) // 2
        elif effect.kind in ("append", "appends", "additems"):
            items += len(effect.items)
    if isinstance(node, Group) and not is_dict:
        return text.plural(items, "item")
    if is_dict or pairs:
        return text.plural(pairs, "entry", "entries")
    return text.plural(items, "item") if items else ""


def _plain_told(value: Any) -> tuple[str, str, str]:
    pairs = _pairs_of(value)
    if pairs is not None:
        return "object", text.plural(len(pairs), "entry", "entries"), "dict"
    if isinstance(value, (list, tuple)):
        return "list", text.plural(len(value), "item"), "list"
    return type(value).__name__, str(value) if isinstance(value, str) else repr(value), "value"
