"""What a document's worker answers about a checkpoint as a whole: the Overview.

What names, shapes and storages tell is there at once; statistics (`Document.table`) colour it as they come.

    overview         {} -> {"head": HEAD, "groups": [GROUP], "left_out": what of the file the tiles do not show, in
                     words, "bytes": BYTES, "kinds": [[heading, [[name, tensors, elements, bytes]]]]}
    overview_state   {} -> {"known", "unreadable", "total": n tensors, "std": [x | null], "norm": [x | null], one a tile
                     in the order of the groups, "findings": [FINDING], "candidates": [[tensor, SOURCE]], "seconds" that
                     this took}; candidates are tensors that look equal, to be compared when all are measured
    overview_depth   {"series": n, "measure": "std" | "norm" | "mean" | "largest", "kind": "weights" | "vectors"}
                     -> {"series": [[name, n blocks]], "chosen": n, "kind", "kinds": [those there are], "blocks":
                     [name], "every": only each n-th block is told, "lines": [LINE], "more": n lines that are not told}
    overview_place   {"row": n} -> {"tile": n | -1, its place among the tiles of all groups, "depth": {"series", "kind",
                     "line", "place"} | null, "words": what is said where it has no tile}
    overview_band    {"series": n, "kind", "line": n} -> {"points": [[place, tensor, SOURCE]]} of one of those lines,
                     where its numbers are known; for `row_band` of the pool
    overview_equal   {"digests": {tensor: SHA-256 or ""}, "identity": of their file (of `info`)} -> {}
                     what became of candidates; those of another file are left out

    HEAD     {"folder", "name", "container", "writer": text, "byte_order", "saved": seconds since the epoch, "files",
             "size", "parameters", "tensors", "values": n, "weights", "optimizer", "average": bytes,
             "dtype": [name, share of bytes] | null, "told": [[name, value as text]]}
    GROUP    [row, name, elements, container, [[row, name, elements, dtype, tensors, modules]]]    (core.tiles)
    BYTES    {"size", "parts": [[name, bytes, "model" | "average" | "optimizer" | "other" | "rest" | "unused"]],
             "compressed": whether they are packed in the file, "weights_only": bytes, "slim": whether a copy without
             the rest can be saved and is smaller}
    FINDING  {"severity", "kind", "title", "detail", "rows": [row], "count"}
    LINE     {"name", "places": [index into blocks], "values": [x | null], "rows": [row]}
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Role, StateDict, TensorInfo, elements_in
from sdviewer.core.depth import Line, Series, find_series
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import TypedStep
from sdviewer.core.progress import Progress
from sdviewer.core.tiles import Group, model_rows, module_tiles
from sdviewer.core.tree import ModuleTree, loose_root, value_text
from sdviewer.engine.frames import Answer
from sdviewer.errors import SDViewerError
from sdviewer.formats.torch_source import TorchSource

if TYPE_CHECKING:
    from sdviewer.stats.findings import Subjects
    from sdviewer.stats.table import StatisticsTable

Params = Mapping[str, Any]

MOST_LINES: Final = 6
"""As many as there are colours that nobody confuses (gui.resources.SERIES)."""
MOST_BLOCKS: Final = 400
"""Blocks that a line is drawn through; of more each n-th."""
MOST_COMPARED: Final = 400
LARGEST_COMPARED: Final = 4 << 30
"""Tensors of a file that look equal and are read again to know it, and their bytes."""
MOST_TOLD: Final = 3
LONGEST_DTYPE: Final = 40
MOST_MOMENTS: Final = 12
"""Parts of an optimizer's state that are told by name."""
NAMELESS: Final = "(no name)"

_TOLD: Final = ("epoch", "global_step", "step", "iteration", "iter", "num_updates", "epochs")
_BEST: Final = ("best", "acc", "top1", "metric", "score", "loss", "map", "f1", "bleu", "psnr", "fid", "miou", "auc")


class Document(Protocol):
    """What is asked of the document."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def result(self) -> Checkpoint: ...
    @property
    def tree(self) -> ModuleTree: ...
    @property
    def table(self) -> StatisticsTable | None: ...


class OverviewRequests:
    """The requests of one document; what is made of names and shapes is kept as long as the tree is the same."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._overview: Overview | None = None
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "overview": lambda params, _: Answer(self._current().facts()),
            "overview_state": self._state,
            "overview_depth": self._depth,
            "overview_place": lambda params, _: Answer(self._current().place(int(params["row"]))),
            "overview_band": self._band,
            "overview_equal": self._equal,
        }

    def _current(self) -> Overview:
        document, known = self._document, self._overview
        if known is None or known.tree is not document.tree:
            kept = known if known is not None and known.checkpoint is document.checkpoint else None
            self._overview = known = Overview(document.checkpoint, document.tree, document.result, kept)
        return known

    def _state(self, params: Params, progress: Progress) -> Answer:
        began = time.perf_counter()
        body = self._current().state(self._document.table)
        return Answer({**body, "seconds": time.perf_counter() - began})

    def _depth(self, params: Params, progress: Progress) -> Answer:
        measure, kind = str(params["measure"]), str(params["kind"])
        return Answer(self._current().depth(self._document.table, int(params["series"]), measure, kind))

    def _band(self, params: Params, progress: Progress) -> Answer:
        found = self._current().band(
            self._document.table, int(params["series"]), str(params["kind"]), int(params["line"])
        )
        return Answer({"points": found})

    def _equal(self, params: Params, progress: Progress) -> Answer:
        # Those of the file as it was before it was read anew say nothing.
        if params["identity"] == asdict(self._document.checkpoint.identity):
            self._current().digests.update({int(at): str(found) for at, found in params["digests"].items()})
        return Answer({})


class Overview:
    """A checkpoint as it was opened, seen as a whole; `tree` says which row shows which tensor.

    `result` is what a recipe makes of it: the tiles follow the tree, everything else tells of the file. `before` is the
    overview of the same file with another tree.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tree: ModuleTree,
        result: Checkpoint | None = None,
        before: Overview | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.tree = tree
        self._result = checkpoint if result is None else result
        # The first of them: a chain of all would keep every tree that there was.
        self._first: Overview | None = before if before is None or before._first is None else before._first
        self.digests: dict[int, str] = {} if before is None else before.digests

    # What the header tells

    def facts(self) -> dict[str, Any]:
        """All that names, shapes and storages tell."""
        tensors = self._result.tensors
        groups = [
            [
                group.row,
                text.visible(group.name, 200) or NAMELESS,
                group.params,
                group.container,
                [
                    [
                        tile.row,
                        text.visible(tile.name, 120) or NAMELESS,
                        tile.params,
                        text.visible(tensors[tile.tensor].dtype, LONGEST_DTYPE) if tile.tensor >= 0 else "",
                        tile.tensors,
                        tile.modules,
                    ]
                    for tile in group.tiles
                ],
            ]
            for group in self._groups
        ]
        return {
            "head": self._head(),
            "groups": groups,
            "left_out": self._left_out(),
            "bytes": self._bytes(),
            "kinds": self._kinds(),
        }

    @cached_property
    def _roles(self) -> list[Role]:
        """The role of each state dict; a tensor or two at the top of a training checkpoint are no model of it."""
        loose = loose_root(self.checkpoint)
        return ["other" if at == loose else found.role for at, found in enumerate(self.checkpoint.state_dicts)]

    @property
    def _models(self) -> list[StateDict]:
        return [found for found, role in zip(self.checkpoint.state_dicts, self._roles, strict=True) if role == "model"]

    @cached_property
    def _groups(self) -> list[Group]:
        return module_tiles(self.tree, model_rows(self._result, self.tree))

    def _left_out(self) -> str:
        """The state dicts that hold tensors and have no tiles."""
        shown = {self.tree.state_dict[row] for row in model_rows(self._result, self.tree)}
        words = {"ema": "averages", "optimizer": "optimizer", "other": "others", "model": "other weights"}
        left = [
            words[state_dict.role]
            for index, state_dict in enumerate(self._result.state_dicts)
            if index not in shown and state_dict.parameters and state_dict.role != "model"
        ]
        return " and ".join(dict.fromkeys(left))

    def _head(self) -> dict[str, Any]:
        checkpoint = self.checkpoint
        bytes_of = {"model": 0, "ema": 0, "optimizer": 0, "other": 0}
        for _, nbytes, kind in self._bytes()["parts"]:
            role = {"average": "ema"}.get(kind, kind)
            if role in bytes_of:
                bytes_of[role] += nbytes
        models = [found.parameters for found in self._models]
        path = Path(checkpoint.path)
        return {
            "folder": text.visible(str(path.parent), 300),
            "name": text.visible(path.name, 200),
            "container": checkpoint.container,
            "writer": _writer(checkpoint.writer),
            "byte_order": checkpoint.byte_order,
            "saved": checkpoint.identity.mtime_ns / 1e9,
            "files": max(1, len(checkpoint.shards)),
            "size": checkpoint.size,
            "parameters": sum(models) if models else sum(info.elements for info in checkpoint.tensors),
            "tensors": self._model_tensors if models else len(checkpoint.tensors),
            "values": len(checkpoint.values),
            "weights": bytes_of["model"] if models else bytes_of["model"] + bytes_of["other"],
            "average": bytes_of["ema"],
            "optimizer": bytes_of["optimizer"],
            "dtype": self._main_dtype(),
            "told": [[text.visible(name, 40), value] for name, value in told_values(checkpoint)],
        }

    @property
    def _model_tensors(self) -> int:
        return sum(found.tensors for found in self._models)

    @cached_property
    def _forms(self) -> Counter[tuple[int | None, str, tuple[int, ...], str, bool]]:
        """How many tensors there are of each state dict, dtype, shape and kind; whether they are running statistics."""
        return Counter(
            (t.state_dict, t.dtype, t.shape, t.kind, t.key is not None and t.key.endswith(_RUNNING))
            for t in self.checkpoint.tensors
        )

    def _main_dtype(self) -> list[Any] | None:
        """The dtype of most bytes of the model, or of all tensors, with its share."""
        roles = self._roles
        models = "model" in roles
        sizes: Counter[str] = Counter()
        for (state_dict, dtype, shape, _, _), n in self._forms.items():
            if not models or (state_dict is not None and roles[state_dict] == "model"):
                sizes[dtype] += n * _nbytes(dtype, elements_in(shape))
        total = sum(sizes.values())
        if not total:
            return None
        (name, nbytes), *_ = sizes.most_common(1)
        return [name, nbytes / total]

    def _bytes(self) -> dict[str, Any]:
        return self._bytes_told

    @cached_property
    def _bytes_told(self) -> dict[str, Any]:
        checkpoint = self.checkpoint
        parts: dict[tuple[str, str], int] = defaultdict(int)
        order = {"model": 0, "average": 1, "optimizer": 2, "other": 3}
        plain: dict[int | None, tuple[str, str]] = {None: _PARTS["other"]}
        plain |= {at: _PARTS[role] for at, role in enumerate(self._roles) if role in _PARTS}
        owner: dict[str, tuple[str, str]] = {}
        outside: Counter[tuple[str, str]] = Counter()
        for info in checkpoint.tensors:
            part = plain[info.state_dict] if info.state_dict in plain else self._moment(info)
            key = info.storage
            if key is None or key not in checkpoint.storages:
                outside[part] += info.nbytes
            elif (before := owner.get(key)) is None or order[part[1]] < order[before[1]]:
                owner[key] = part
        unused = 0
        for key, part in owner.items():
            storage = checkpoint.storages[key]
            # What no tensor can be read from is its tensor's all the same.
            used = storage.used_bytes or min(storage.nbytes, checkpoint.size)
            parts[part] += used
            unused += max(0, storage.nbytes - used)
        for key, storage in checkpoint.storages.items():
            if key not in owner:
                unused += storage.nbytes
        if not owner:
            for part, nbytes in outside.items():
                parts[part] += nbytes
        if unused > checkpoint.size:
            unused = 0  # a size that the file cannot have
        rest = checkpoint.size - sum(parts.values()) - unused
        shown = sorted(_fewer(parts).items(), key=lambda item: (order[item[0][1]], -item[1]))
        told: list[list[Any]] = [[text.visible(name, 60), nbytes, kind] for (name, kind), nbytes in shown if nbytes]
        if unused:
            told.append(["belongs to no tensor", unused, "unused"])
        if rest > 0:
            told.append(["names, values and padding", rest, "rest"])
        kept = sum(nbytes for (_, kind), nbytes in parts.items() if kind == "model")
        beside = sum(nbytes for (_, kind), nbytes in parts.items() if kind != "model")
        return {
            "size": checkpoint.size,
            "parts": told,
            "weights_only": kept,
            # What is compressed in the file is more than the file.
            "compressed": rest < 0,
            "slim": bool(kept and beside) and isinstance(checkpoint.source, TorchSource),
        }

    def _moment(self, info: TensorInfo) -> tuple[str, str]:
        """Name and kind of the part of an optimizer's state that a tensor belongs to."""
        last = info.path[-1]
        name = last.value if isinstance(last, TypedStep) else last
        return (f"optimizer {name}", "optimizer") if info.shape and not name.isdigit() else _OTHERS

    def _kinds(self) -> list[list[Any]]:
        """Tables of all tensors, by dtype and by what they are."""
        dtypes: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for (_, dtype, shape, kind, running), n in self._forms.items():
            elements = elements_in(shape)
            name = text.visible(dtype, LONGEST_DTYPE) or "unknown"
            for counts in (dtypes[name], kinds[_kind(shape, kind, running)]):
                counts[0] += n
                counts[1] += n * elements
                counts[2] += n * _nbytes(dtype, elements)
        return [
            [heading, sorted(([name, *counts] for name, counts in table.items()), key=lambda row: -row[3])]
            for heading, table in (("dtype", dtypes), ("kind", kinds))
        ]

    # What the statistics tell

    @cached_property
    def _row_of(self) -> dict[int, int]:
        """Index of a tensor of the file -> its row; one that a recipe drops has it too."""
        return {at: row for row, at in enumerate(self.tree.tensor) if at >= 0}

    @cached_property
    def series(self) -> list[Series]:
        """The modules of blocks of the models; where there is no model, of all tensors with keys."""
        if self._first is not None:
            return self._first.series
        roles = self._roles
        wanted: Role = "model" if "model" in roles else "ema" if "ema" in roles else "other"
        return find_series(self._keys(wanted, roles.count(wanted) > 1))

    def _keys(self, wanted: Role, several: bool) -> Iterator[tuple[int, str, Sequence[int], int]]:
        checkpoint, roles = self.checkpoint, self._roles
        for at, info in enumerate(checkpoint.tensors):
            if info.key is not None and info.state_dict is not None and roles[info.state_dict] == wanted:
                above = checkpoint.state_dicts[info.state_dict].path if several else ()
                prefix = "".join(f"{step.value if isinstance(step, TypedStep) else step}." for step in above)
                yield at, prefix + info.key, info.shape, info.elements

    @cached_property
    def _subjects(self) -> Subjects:
        from sdviewer.stats.findings import Subjects

        if self._first is not None:
            return self._first._subjects
        return Subjects(self.checkpoint, self.series)

    def state(self, table: StatisticsTable | None) -> dict[str, Any]:
        """How far the statistics are, the tiles' numbers, and what is worth a look."""
        from sdviewer.stats.findings import find

        total = len(self.checkpoint.tensors)
        known = unreadable = 0
        numbers: dict[str, list[float | None]] = {"std": [], "norm": []}
        if table is not None:
            known, unreadable = int((table["state"] == 1).sum()), int((table["state"] == 2).sum())
            tiles = [tile.tensor for group in self._groups for tile in group.tiles]
            for name, column in (("std", "std"), ("norm", "l2")):
                values = table[column]
                # What a recipe computes has no numbers yet.
                numbers[name] = [_number(values[at]) if 0 <= at < len(table) else None for at in tiles]
        findings = [
            {
                "severity": one.severity,
                "kind": one.kind,
                "title": one.title,
                "detail": one.detail,
                "rows": [self._row_of[at] for at in one.tensors if at in self._row_of],
                "count": one.count,
            }
            for one in find(self._subjects, table, self.digests)
        ]
        done = table is not None and known + unreadable >= total
        return {
            "known": known,
            "unreadable": unreadable,
            "total": total,
            **numbers,
            "findings": findings,
            "candidates": self._candidates(table) if done and table is not None else [],
        }

    def _candidates(self, table: StatisticsTable) -> list[list[Any]]:
        """Tensors that look equal and were not compared yet, as the numbers pool takes them."""
        from sdviewer.formats import tensor_source
        from sdviewer.stats.findings import look_equal

        made: list[list[Any]] = []
        tensors = self.checkpoint.tensors
        # What was compared before counts: nobody asked for it.
        room = LARGEST_COMPARED - sum(tensors[at].nbytes for at in self.digests)
        left = MOST_COMPARED - len(self.digests)
        for members in look_equal(self._subjects, table):
            missing = [int(at) for at in members if int(at) not in self.digests]
            nbytes = sum(tensors[at].nbytes for at in missing)
            if nbytes > room or len(missing) > left:
                continue
            room, left = room - nbytes, left - len(missing)
            for at in missing:
                try:
                    made.append([at, tensor_source(self.checkpoint, at).to_json()])
                except SDViewerError:
                    self.digests[at] = ""
        return made

    def depth(self, table: StatisticsTable | None, number: int, measure: str, kind: str) -> dict[str, Any]:
        """One number of each component over the blocks of a series."""
        series = self.series
        names = [[text.visible(one.name, 100), len(one.blocks)] for one in series]
        nothing: dict[str, Any] = {"blocks": [], "every": 1, "lines": [], "more": 0, "kinds": []}
        if not series:
            return {**nothing, "series": [], "chosen": -1}
        chosen = min(max(number, 0), len(series) - 1)
        one = series[chosen]
        kinds = [name for name, matrix in _LINES.items() if any(line.matrix is matrix for line in one.lines)]
        kind = kind if kind in kinds else kinds[0]
        lines = _lines(one, kind)
        every = _every(one)
        told = range(0, len(one.blocks), every)
        column = _measure(table, measure)
        return {
            "series": names,
            "chosen": chosen,
            "kind": kind,
            "kinds": kinds,
            "blocks": [text.visible(one.blocks[at], 100) for at in told],
            "every": every,
            "lines": [self._line(line, every, column) for line in lines[:MOST_LINES]],
            "more": max(0, len(lines) - MOST_LINES),
        }

    def place(self, row: int) -> dict[str, Any]:
        """Where a row of the tree stands: on which tile, and at which point of a line across depth."""
        tile = self._tile_of(row)
        name = text.visible(self.tree.path_text[row] or self.tree.name[row], 200)
        words = "" if tile >= 0 else f"{name} has no tile: these are of {'the model' if self._models else 'others'}"
        return {"tile": tile, "depth": self._point_of(row), "words": words}

    def _tile_of(self, row: int) -> int:
        tree = self.tree
        tiles = sorted(
            (tile.row, at, tile.modules, group.row)
            for at, (group, tile) in enumerate((group, tile) for group in self._groups for tile in group.tiles)
        )
        after = bisect_right(tiles, row, key=lambda tile: tile[0])
        for first, at, _, _ in tiles[after - 1 : after]:
            if row < tree.end[first]:
                return at
        # One of several modules begins at the first of them; the others are of the same block, or stand beside it.
        for first, at, modules, group in reversed(tiles[:after]):
            above = tree.parent[first]
            if modules > 1 and row < max(tree.end[group], tree.end[above] if above >= 0 else len(tree)):
                return at
        # A module, or a fold of several, whose parts have tiles: the first of them.
        inside = after < len(tiles) and tiles[after][0] < tree.end[row]
        return tiles[after][1] if inside else -1

    def _point_of(self, row: int) -> dict[str, Any] | None:
        """The line and the block of a tensor, or of the largest at and below a row; None where no line that is drawn
        runs through it."""
        tree = self.tree
        rows = [at for at in range(row, tree.end[row]) if tree.tensor[at] >= 0]
        if not rows:
            return None
        tensor = tree.tensor[max(rows, key=lambda at: tree.params[at])]
        for number, series in enumerate(self.series):
            every = _every(series)
            for kind in _LINES:
                for at, line in enumerate(_lines(series, kind)[:MOST_LINES]):
                    if tensor in line.tensors:
                        place = line.places[line.tensors.index(tensor)] // every
                        return {"series": number, "kind": kind, "line": at, "place": place}
        return None

    def band(self, table: StatisticsTable | None, number: int, kind: str, line: int) -> list[list[Any]]:
        """The tensors of a line, as the numbers pool takes them: those that the line is drawn through."""
        from sdviewer.formats import tensor_source

        lines = _lines(self.series[number], kind) if 0 <= number < len(self.series) else []
        if table is None or not 0 <= line < min(len(lines), MOST_LINES):
            return []
        every, known = _every(self.series[number]), table.known()
        points: list[list[Any]] = []
        for place, at in _points(lines[line], every):
            if known[at]:
                with suppress(SDViewerError):
                    points.append([place // every, at, tensor_source(self.checkpoint, at).to_json()])
        return points

    def _line(self, line: Line, every: int, column: Sequence[float] | None) -> dict[str, Any]:
        points = _points(line, every)
        return {
            "name": text.visible(line.name.removesuffix(".weight"), 100),
            "places": [place // every for place, _ in points],
            "values": [None if column is None else _number(column[at]) for _, at in points],
            "rows": [self._row_of.get(at, -1) for _, at in points],
        }


def _fewer(parts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The same bytes in few parts: an optimizer's state can have a name for each tensor."""
    fewer: dict[tuple[str, str], int] = {}
    room = MOST_MOMENTS
    for part, nbytes in sorted(parts.items(), key=lambda item: -item[1]):
        if part[1] == "optimizer":
            part = part if room > 0 else _OTHERS
            room -= 1
        fewer[part] = fewer.get(part, 0) + nbytes
    return fewer


def _lines(series: Series, kind: str) -> list[Line]:
    return [line for line in series.lines if line.matrix is _LINES.get(kind)]


def _every(series: Series) -> int:
    """Each how manyth block is told."""
    return math.ceil(len(series.blocks) / MOST_BLOCKS)


def _points(line: Line, every: int) -> list[tuple[int, int]]:
    """Places and tensors of a line at the blocks that are told."""
    return [pair for pair in zip(line.places, line.tensors, strict=True) if pair[0] % every == 0]


_OTHERS: Final = ("optimizer, others", "optimizer")
_PARTS: Final = {"model": ("model", "model"), "ema": ("average", "average"), "other": ("other tensors", "other")}
_LINES: Final = {"weights": True, "vectors": False}


@dataclass(frozen=True, slots=True)
class _Told:
    """A plain value that may be told in the head: how good it is, its name, its text."""

    rank: tuple[int, int]
    name: str
    shown: str


def told_values(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """How far a training was and how good: epoch or step first, then the best metrics and losses, by their names."""
    found: list[_Told] = []
    for info in checkpoint.values:
        if len(info.path) > 2 or not info.path or not isinstance(info.path[-1], str):
            continue
        if isinstance(info.value, bool) or not isinstance(info.value, (int, float)):
            continue
        name = info.path[-1].lower()
        depth = len(info.path)
        if name in _TOLD and depth == 1:
            found.append(_Told((0, _TOLD.index(name)), info.path[-1], value_text(info.value, 40)))
        elif rank := next((at for at, part in enumerate(_BEST, 1) if part in name), 0):
            found.append(_Told((rank if depth == 1 else rank + 100, depth), info.path[-1], value_text(info.value, 40)))
    found.sort(key=lambda one: one.rank)
    return [(one.name, one.shown) for one in found[:MOST_TOLD]]


def _measure(table: StatisticsTable | None, measure: str) -> Any:
    if table is None:
        return None
    if measure == "largest":
        import numpy as np

        return np.maximum(np.abs(table["min"]), np.abs(table["max"]))
    return table[{"std": "std", "norm": "l2", "mean": "mean"}[measure]]


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _writer(writer: Mapping[str, Any]) -> str:
    """Who wrote the file, as far as it says so."""
    for name in ("producer", "torch", "torch_version", "library", "generator"):
        if value := writer.get(name):
            return text.visible(str(value), 60)
    return ""


_DIMS: Final = ("scalars", "vectors", "matrices", "3-d", "kernels, 4-d", "kernels, 5-d")
_SPECIAL: Final = {"quantized": "quantized", "sparse": "sparse", "nested": "nested", "meta": "without numbers"}


_RUNNING: Final = ("running_mean", "running_var", "num_batches_tracked")


def _kind(shape: tuple[int, ...], kind: str, running: bool) -> str:
    """What a tensor is by its shape, or by what is special in it."""
    if kind in _SPECIAL:
        return _SPECIAL[kind]
    if running:
        return "running statistics"
    return _DIMS[len(shape)] if len(shape) < len(_DIMS) else f"{len(shape)}-d"


def _nbytes(dtype: str, elements: int) -> int:
    """Bytes of so many elements of a dtype."""
    known = DTYPES.get(dtype)
    return 0 if known is None else -(-elements // known.per_byte) * known.itemsize
