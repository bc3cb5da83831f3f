"""What a pickle would import and call if somebody ran it, read off its nodes.

Every name is judged with what is done to it: whether it is called, and with which arguments. Calls are seen wherever
they are: popped for their side effect, in keys, on the stack of a pickle that broke off later. `getattr` is as harmful
as what it reaches, `functools.partial` as what it holds, `torch.storage._load_from_bytes` as the pickles in its bytes.

A verdict says what was found, never that a file is safe: clean means that every name is on a list of harmless ones.
All walks are over a set of nodes already seen and an explicit stack, so shared nodes cost nothing twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sdviewer.core import text
from sdviewer.core.progress import Progress, no_progress
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.names import CALLERS, PLAIN, REACHES_OUT, NameClass, classify, fix_imports
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, children
from sdviewer.pickles.places import MOST_PATHS, places_of_names
from sdviewer.pickles.python_line import python_line
from sdviewer.pickles.weights_only import would_load

Verdict = Literal["clean", "unknown", "dangerous"]

MOST_PLACES = 100
"""Places listed for one name."""

_DEEPEST = 8
"""Pickles inside pickles that are still read."""

_MOST_FOLLOWING = 1000
"""Pickles one behind the other that are still read where nobody says how many there are."""

_TEXT_PICKLE = re.compile(rb"\(?[ci][\w.]+\n[\w.]+\n|\((?:dp?\d*\n|lp?\d*\n|[IVSF])|[\]})]q")
"""How protocols 0 and 1 begin where they hold more than a constant."""

_HARM: dict[NameClass, int] = {"torch": 0, "plain": 1, "unknown": 2, "dangerous": 3}


@dataclass(frozen=True, slots=True)
class GlobalUse:
    """One name of a file: `name` as Python 3 resolves it, `raw` as written, with a dot.

    `uses` counts the places it stands in. `called`: as a function, or handed to one that may call it, or changed. A
    `where` is `RECORD:byte offset`, of the name and of the calls (at most MOST_PLACES). `call` is one line of Python.
    `paths` are the dotted paths of what needs it: some, where there are many, and none where nothing reaches it.
    """

    name: str
    raw: str
    cls: NameClass
    uses: int
    called: bool
    where: tuple[str, ...]
    call: str | None = None
    paths: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form of `docs/cli.md`."""
        found: dict[str, Any] = {"name": self.name, "raw": self.raw, "class": self.cls, "uses": self.uses}
        found |= {"called": self.called, "where": list(self.where), "paths": list(self.paths)}
        return found if self.call is None else {**found, "call": self.call}


@dataclass(frozen=True, slots=True)
class Scan:
    """What one or several pickles ask for.

    `complete` is False where something could not be read or known; `gaps` says what. `weights_only_would_load`: whether
    `torch.load(weights_only=True)` of torch 2.13 accepts the opcodes, names and calls, None where that cannot be told.
    """

    complete: bool
    pickles: int
    weights_only_would_load: bool | None
    globals: tuple[GlobalUse, ...]
    gaps: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """dangerous: a dangerous name is called; clean: all was read, and every name is torch's or plain."""
        return verdict(self.globals, self.complete)

    def to_json(self) -> dict[str, Any]:
        """The form of `docs/cli.md`."""
        return {
            "verdict": self.verdict,
            "complete": self.complete,
            "pickles": self.pickles,
            "weights_only_would_load": self.weights_only_would_load,
            "globals": [use.to_json() for use in self.globals],
        }


def verdict(names: Iterable[GlobalUse], complete: bool) -> Verdict:
    """One word for what was found."""
    names = tuple(names)
    if any(use.cls == "dangerous" and use.called for use in names):
        return "dangerous"
    return "clean" if complete and all(use.cls in ("torch", "plain") for use in names) else "unknown"


ONLY_ATTRIBUTES = (
    "The only unknown name is getattr, which takes what an object has: Python before 3.11.4 pickles a member of an "
    "enum so, as in the memory format of a torch.distributed.checkpoint. What it takes stands in its line."
)
"""What is said of a file that is unknown for nothing else."""


def takes_only_attributes(unknown: Iterable[str]) -> bool:
    """Whether `getattr` is the one name of a scan that is on no list."""
    return set(unknown) == {"builtins.getattr"}


def scan_pickle(pickle: Pickle, where: str, *, number_ids: bool = False) -> Scan:
    """What one parsed pickle, whole or broken off, asks for.

    Args:
        where: the name of the record or file that holds it, for people.
        number_ids: persistent ids may be bare numbers (tar files of torch before 0.1.10).
    """
    return _scan(pickle, where, number_ids, 0)


def begins_like_a_pickle(data: bytes, at: int = 0) -> bool:
    """Whether a pickle may begin there: PROTO and a protocol that exists, or opcodes of protocol 0 or 1."""
    return (data[at : at + 1] == b"\x80" and data[at + 1 : at + 2] <= b"\x05") or _TEXT_PICKLE.match(
        data, at
    ) is not None


def scan_stream(
    data: bytes, where: str, *, most: int | None = 5, number_ids: bool = False, progress: Progress = no_progress
) -> Scan:
    """What the pickles at the beginning of `data` ask for, one behind the other: a legacy stream of torch has five.

    Args:
        most: how many pickles there are; None: one, and whatever else follows like a pickle, though nobody loads it.

    Raises:
        Cancelled: from `progress`.
    """
    return _scan_stream(data, where, most, 0, progress, number_ids)


def merge(loaded: Sequence[Scan], beside: Sequence[Scan] = ()) -> Scan:
    """One scan of several: `loaded` are the pickles that `torch.load` reads, `beside` those that lie there unused."""
    both = (*loaded, *beside)
    names: dict[tuple[str, str], GlobalUse] = {}
    for scan in both:
        for use in scan.globals:
            known = names.get((use.name, use.raw))
            names[use.name, use.raw] = use if known is None else _joined(known, use)
    answers = [scan.weights_only_would_load for scan in loaded]
    answer = False if False in answers else None if None in answers or not answers else True
    return Scan(
        all(scan.complete for scan in both),
        sum(scan.pickles for scan in both),
        answer,
        _sorted(names.values()),
        tuple(gap for scan in both for gap in scan.gaps),
    )


def _joined(a: GlobalUse, b: GlobalUse) -> GlobalUse:
    worse, other = (a, b) if (_HARM[a.cls], a.called) >= (_HARM[b.cls], b.called) else (b, a)
    return replace(
        worse,
        uses=a.uses + b.uses,
        called=a.called or b.called,
        where=a.where if len(a.where) >= MOST_PLACES else (a.where + b.where)[:MOST_PLACES],
        paths=tuple(dict.fromkeys(a.paths + b.paths))[:MOST_PATHS],
        call=worse.call or other.call,
    )


def _sorted(names: Iterable[GlobalUse]) -> tuple[GlobalUse, ...]:
    return tuple(sorted(names, key=lambda use: (-_HARM[use.cls], not use.called, use.name)))


def _scan_stream(
    data: bytes, where: str, most: int | None, depth: int, progress: Progress = no_progress, number_ids: bool = False
) -> Scan:
    scans: list[Scan] = []
    pos = 0
    while not scans or (
        pos < len(data) and (len(scans) < most if most is not None else begins_like_a_pickle(data, pos))
    ):
        if most is None and len(scans) == _MOST_FOLLOWING:
            scans.append(Scan(False, 0, None, (), (f"{text.visible(where)}: more pickles follow at byte {pos:,}",)))
            break
        pickle = parse_partial(data, pos, progress=progress)
        if most is None and scans and pickle.broken and not pickle.calls:
            break  # behind a whole pickle: no pickle, only bytes that begin like one
        scans.append(_scan(pickle, where, number_ids, depth))
        if pickle.broken:
            break
        pos = pickle.end
    # torch.load reads as many as it knows of, and no more.
    return merge(scans) if most is not None else merge(scans[:1], scans[1:])


def _scan(pickle: Pickle, where: str, number_ids: bool, depth: int) -> Scan:
    scanner = _Scanner(pickle, where, number_ids, depth)
    scanner.walk()
    scanner.judge()
    return merge(
        [Scan(not scanner.gaps, 1, would_load(pickle), scanner.uses(), tuple(scanner.gaps))], beside=scanner.inner
    )


class _Scanner:
    """One pass over one pickle's nodes."""

    def __init__(self, pickle: Pickle, where: str, number_ids: bool, depth: int) -> None:
        self.pickle = pickle
        self.where = where
        self.number_ids = number_ids
        self.depth = depth
        self.gaps: list[str] = []
        self.inner: list[Scan] = []
        self.count: Counter[Global] = Counter()
        self.calls: dict[Global, Call | Global] = {}
        self.places: dict[Global, list[int]] = {}
        self.cls: dict[Global, NameClass] = {}
        self.handed: list[Node] = []
        if pickle.broken:
            self.gap(pickle.broken)

    def gap(self, what: str) -> None:
        if len(self.gaps) < MOST_PLACES:
            self.gaps.append(f"{text.visible(self.where)}: {what}")

    def walk(self) -> None:
        """Visit every node once: count the places of names, note what cannot be known."""
        pickle = self.pickle
        todo: list[Node] = [*pickle.globals, *pickle.calls]
        seen: set[Node] = set(todo)
        for node in (pickle.root, *pickle.left_over):
            if isinstance(node, Global):
                self.count[node] += 1
            if node is not None and node not in seen:
                seen.add(node)
                todo.append(node)
        for node in todo:
            if isinstance(node, Const) and not node.effects:
                continue
            if isinstance(node, Persistent) and _is_reduce(node):
                self.handed.append(node)
            unknown = self.unknown(node)
            if unknown:
                self.gap(f"{unknown} at byte {node.at:,}")
            for child in children(node):
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
                if type(child) is Global:
                    self.count[child] += 1
        for record in pickle.records:
            for name in (record.function, record.storage_class, record.hooks_class):
                self.count[name] += 1

    def unknown(self, node: Node) -> str:
        """Why it cannot be known what a node is, else ""."""
        if isinstance(node, Other) and node.raw[0] in (op.EXT1, op.EXT2, op.EXT4):
            return "an extension code"
        if isinstance(node, Persistent) and not self.known_id(node):
            return "a persistent id of an unknown form"
        if isinstance(node, Global) and node.parts is not None and not node.module:
            return "a name that is computed"
        return ""

    def known_id(self, node: Persistent) -> bool:
        if node.id is None:
            return self.number_ids and node.raw[1:-1].isdigit()
        if isinstance(node.id, Const):
            return self.number_ids
        if not isinstance(node.id, Group) or node.id.type != "tuple" or not node.id.items:
            return False
        kind = node.id.items[0]
        if isinstance(kind, Const):
            return kind.value in ("storage", "module", "reduce_package")
        return self.number_ids and isinstance(kind, Global)

    def judge(self) -> None:
        """Class every name by itself, then by what is done with it."""
        for node in self.pickle.globals:
            self.cls[node] = "unknown" if node.parts and not node.module else classify(*_fixed(node))
            if any(effect.kind != "pop" for effect in node.effects):
                # BUILD, SETITEM, APPEND on a class, function or module's list change it for the whole process.
                self.cls[node] = "dangerous"
                self.note_call(node, node, node.at)
        reached: list[Node] = []
        for call in self.pickle.calls:
            function = call.function
            name = ""
            if isinstance(function, Global):
                self.note_call(function, call, call.at)
                name = ".".join(_fixed(function))
                self.judge_call(function, name, call)
            elif isinstance(function, Other):
                self.gap(f"a call of something unknown at byte {call.at:,}")
            if not _only_holds(function, name):
                reached.extend(child for child in children(call) if child is not function)
            if not isinstance(function, Global):
                reached.append(function)
        for record in self.pickle.records:
            self.calls.setdefault(record.function, record.function)
            self.calls.setdefault(record.hooks_class, record.hooks_class)
        self.hand_over([*reached, *self.handed])

    def judge_call(self, function: Global, name: str, call: Call) -> None:
        if name == "builtins.getattr":
            args = _arguments(call)
            attribute = args[1] if len(args) > 1 else None
            if not (isinstance(attribute, Const) and isinstance(attribute.value, str)):
                self.gap(f"an attribute whose name is computed at byte {call.at:,}")
            elif not REACHES_OUT.isdisjoint(attribute.value.split(".")) or self.is_dangerous(args[0]):
                self.cls[function] = "dangerous"
                self.calls[function] = call
        elif name == "functools.partial":
            if any(self.is_dangerous(arg) for arg in _arguments(call)):
                self.cls[function] = "dangerous"
                self.calls[function] = call
        elif name == "torch.storage._load_from_bytes":
            self.read_inside(function, call)

    def is_dangerous(self, node: Node) -> bool:
        """Whether a node is a dangerous name or a getattr, partial ... of one, a few steps down."""
        for _ in range(_DEEPEST):
            if isinstance(node, Global):
                return self.cls.get(node) == "dangerous" or classify(*_fixed(node)) == "dangerous"
            if isinstance(node, Call):
                args = _arguments(node)
                if isinstance(node.function, Global) and ".".join(_fixed(node.function)) in CALLERS and args:
                    node = args[0]
                else:
                    node = node.function
                continue
            return False
        return False

    def read_inside(self, function: Global, call: Call) -> None:
        """Scan the pickles in the bytes that `_load_from_bytes` is given."""
        args = _arguments(call)
        data = _bytes_of(args[0]) if args else None
        if data is None or self.depth >= _DEEPEST or data.startswith(b"PK"):
            self.gap(f"bytes that are loaded at byte {call.at:,} and cannot be read here")
            found: NameClass = "dangerous" if data is None else "unknown"
        else:
            scan = _scan_stream(data, f"{self.where}:{call.at}", 5, self.depth + 1)
            self.inner.append(scan)
            found = {"clean": "plain", "unknown": "unknown", "dangerous": "dangerous"}[scan.verdict]  # type: ignore[assignment]
        if _HARM[found] >= _HARM[self.cls[function]] or self.cls[function] == "unknown":
            self.cls[function] = found

    def note_call(self, name: Global, call: Call | Global, at: int) -> None:
        self.calls.setdefault(name, call)
        places = self.places.setdefault(name, [])
        if len(places) < MOST_PLACES and at != name.at:
            places.append(at)

    def hand_over(self, reached: list[Node]) -> None:
        """Dangerous names that stand anywhere in arguments or states may be called by what gets them."""
        seen: set[Node] = set(reached)
        while reached:
            node = reached.pop()
            if isinstance(node, Global):
                if self.cls.get(node) == "dangerous":
                    self.calls.setdefault(node, node)
                continue
            for child in children(node):
                if child not in seen:
                    seen.add(child)
                    reached.append(child)

    def uses(self) -> tuple[GlobalUse, ...]:
        """One entry a name; a name that is written several times is one."""
        found: dict[tuple[str, str], GlobalUse] = {}
        paths = places_of_names(self.pickle)
        for node in self.pickle.globals:
            module, name = _fixed(node)
            cls = self.cls[node]
            call = self.calls.get(node)
            line = None
            if call is not None and cls != "torch":
                line = python_line(call)
            use = GlobalUse(
                text.visible(f"{module}.{name}" if module else name or "(computed)"),
                text.visible(node.qualified if node.module or node.name else "(computed)"),
                cls,
                max(self.count[node], 1),
                call is not None,
                tuple(f"{text.visible(self.where)}:{at}" for at in (node.at, *self.places.get(node, ())))[:MOST_PLACES],
                line,
                paths.get(node, ()),
            )
            key = (use.name, use.raw)
            known = found.get(key)
            found[key] = use if known is None else _joined(known, use)
        return _sorted(found.values())


def _is_reduce(node: Persistent) -> bool:
    """Whether a persistent id is one of torch.package's calls: ("reduce_package", number, function, arguments)."""
    items = node.id.items if isinstance(node.id, Group) else []
    return bool(items) and isinstance(items[0], Const) and items[0].value == "reduce_package"


def _fixed(node: Global) -> tuple[str, str]:
    return fix_imports(node.module, node.name)


_TORCH_HOLDERS = frozenset(("collections.OrderedDict", "collections.Counter", "builtins.set", "torch.Size"))


def _only_holds(function: Node, name: str) -> bool:
    """Whether a call keeps its arguments and state as data."""
    if not isinstance(function, Global) or name in CALLERS:
        return False
    module, _, last = name.rpartition(".")
    return name in _TORCH_HOLDERS or last in PLAIN.get(module, ())


def _arguments(call: Call) -> list[Node]:
    """The positional arguments of a call, as far as they are literal."""
    if call.kind in ("obj", "inst"):
        return call.args
    args = call.args[0]
    return args.items if isinstance(args, Group) else []


def _bytes_of(node: Node) -> bytes | None:
    """The bytes a node stands for: a constant, or the call of `_codecs.encode` that protocol 2 uses for them."""
    if isinstance(node, Const):
        return bytes(node.value) if isinstance(node.value, (bytes, bytearray)) else None
    if isinstance(node, Call) and isinstance(node.function, Global) and _fixed(node.function) == ("_codecs", "encode"):
        args = _arguments(node)
        values = [arg.value for arg in args if isinstance(arg, Const)]
        if len(values) == 2 == len(args) and isinstance(values[0], str) and values[1] in ("latin1", "latin-1"):
            try:
                return values[0].encode("latin-1")
            except UnicodeEncodeError:
                return None
    return None
