"""The worker of a series: opens the files of a run header-only, one after the other, and keeps what is shown of them.

It reads no tensor but the single numbers that files state as such; what is to be measured it tells (`todo`), and it
takes what was measured (`note`): `engine.series_survey` does that, in another process.

Requests (name: parameters -> body of the result; buffers):

    open     {"paths": [path], "skip"?: [path] that are not read, "subject"?: SUBJECT}
             -> STATE: the files are known by their names
    read     {"seconds", "stop"?: read no more} -> STATE: further headers are read, until so many seconds have passed
    files    {"metric"?: name} -> {"rows": [FILE], "metric": short name or ""}
    keys     {"changed": only rows that change, "most"} -> {"rows": [[name, keys, [[start, stop, form]], [form words]]],
             "all": n of rows, "more": n not told, "keys": n, "changing": n of rows, "unknown": [step]}
    metrics  {"metric"?: name} -> {"names": [[name, short name]], "chosen": name or "", "best", "rule", "words",
             "values": [number | null], "odd": [step whose number is none, or infinite, or absurd]}
    lines    {"what": WHAT, "points": of all lines} -> {"names": [module], "steps": [step that is told],
             "outlier": [line, "8.63 times"] | null, "onset": [step, words] | null, "known": n of "total" steps};
             "values" f8 (line, step), NaN: not known, or not there
    matrix   {"what": "previous" | "first", "columns"} -> {"names": [module], "steps": [[first, behind the last]],
             "frozen": [module], "known", "total", "limit": the most}; "cells" f8 (module, column), NaN: not known or
             not there; "shades" u1 likewise, 0 to `MOST_SHADE` and `NO_SHADE`
    todo     {"what": WHAT, "first": [step]} -> {"work": null | {"name": request of the survey, "params", "key"},
             "left", "total"}; the buffers of that request
    note     {"key": as told, "body": of the survey's answer}, its buffers -> {}
    unread   {"key": as told, "failure"} -> {}: it could not be measured

    WHAT   "norm" | "previous" | "first": the norm, or the change against the file before or the first
    STATE  {"name", "folder", "files": n, "read": n of them, "by": how they are ordered, "unit", "labels": [text],
            "left_out": words, "failed": n, "nbytes": of all, "state_dict": dotted, "paths": [path],
            "container": "" where there are several, "next": path of the file that is read next, or "",
            "subjects": [[state dict, moment, words]] that files have beside their model}
    SUBJECT  null, the model, or [state dict, moment or ""] (`core.series.subjects`)
    FILE   [step, label, name, keys, bytes, metric | null, [[tone, words]], state]: tone is "best", "odd",
            "failed", "damaged", "new" keys, "same" weights; state "waiting", "read", "failed"

All but `open` fail with `not_open` where no series is: the process that knew one has ended.

Steps count from 0 in the order that STATE has. A module stands for all tensors of the state dict below it that are
weights: of types that are numbers with a fraction, and no running statistics.
"""

from __future__ import annotations

import itertools
import os
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, elements_in
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import Progress
from sdviewer.core.series.metrics import Metric, find_metrics, shortest_names
from sdviewer.core.series.modules import find_outlier, modules_of
from sdviewer.core.series.order import Dated, Order, order, steps_in
from sdviewer.core.series.presence import NO_LAYOUT, Layouts, changed_first, presence
from sdviewer.core.series.subjects import MOST as MOST_SUBJECTS
from sdviewer.core.series.subjects import Subject, subjects_of
from sdviewer.engine.frames import Answer
from sdviewer.engine.run_headers import LARGEST, StatedNumbers, chosen_of, evenly, followed
from sdviewer.errors import SDViewerError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.run_files import run_files, words_left_out

MOST_KEYS: Final = 100_000
"""Keys of one file that are looked at."""

BUFFERS: Final = ("running_mean", "running_var", "num_batches_tracked")
"""Last names of what a norm layer counts: no weights, and often larger than all of them."""

MOST_SHADE: Final = 254
NO_SHADE: Final = 255
"""Shades of the change matrix: the most, and that of a cell without a number."""

FEWEST_POINTS: Final = 40
"""Points of a line, of however many it is one."""

ENDED_BY_IT: Final = "not read: the process that read it ended suddenly"

NAMED: Final = 3
"""Tensors that are named in a sentence."""

What = Literal["norm", "previous", "first"]
Params = Mapping[str, Any]


@dataclass(slots=True)
class _File:
    """One file, the `number`-th by name: what its header says, and what was measured of it by now.

    `tensors` are indexes into its tensors, one for each entry of its layout. Sums are for each module; `changes` are
    against the file of that number.
    """

    number: int
    name: str
    path: str
    state: Literal["waiting", "read", "failed"] = "waiting"
    why: str = ""
    identity: Mapping[str, int] = field(default_factory=dict)
    dated: Dated = field(default_factory=lambda: Dated(""))
    size: int = 0
    container: str = ""
    state_dict: str = ""
    layout: int = NO_LAYOUT
    tensors: array[int] = field(default_factory=lambda: array("i"))
    own: int = 0
    keys: int = 0
    unreadable: int = 0
    stated: Mapping[str, float] = field(default_factory=dict)
    squares: NDArray[np.float64] | None = None
    odd: NDArray[np.int32] | None = None
    odd_keys: tuple[str, ...] = ()
    odd_total: int = 0
    changes: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    unmeasured: set[int] = field(default_factory=set)


class Series:
    """The service of one series."""

    def __init__(self) -> None:
        self._forget()
        answers = (self.read, self.files, self.keys, self.metrics, self.lines, self.matrix)
        about_measuring = (self.todo, self.note, self.unread)
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "open": self.open,
            **{answer.__name__: self._if_open(answer) for answer in (*answers, *about_measuring)},
        }

    def _if_open(self, answer: Callable[[Params, Progress], Answer]) -> Callable[[Params, Progress], Answer]:
        def checked(params: Params, progress: Progress) -> Answer:
            if not self._files:
                raise UsageError("no series is open", code="not_open")
            return answer(params, progress)

        return checked

    def _forget(self) -> None:
        self._folder = self._left_out = ""
        self._subject: Subject | None = None
        self._subjects: dict[Subject, str] = {}
        self._files: list[_File] = []
        self._layouts = Layouts()
        self._same_tensors: dict[bytes, array[int]] = {}
        self._order = Order((), (), "", "")
        self._modules: list[str] = []
        self._module_of: dict[int, int] = {}
        self._stated = StatedNumbers()

    # Reading

    def open(self, params: Params, progress: Progress) -> Answer:
        """Find the files."""
        found = run_files([str(path) for path in params["paths"]], progress)
        self._forget()
        self._folder = found.folder
        self._subject = Subject(*map(str, params["subject"])) if params.get("subject") else None
        self._left_out = words_left_out(found.left_out, found.more)
        self._files = [_File(at, name, path, dated=Dated(name)) for at, (name, path) in enumerate(found.files)]
        skipped = set(params.get("skip", ()))
        for file in self._files:
            if file.path in skipped:
                file.state, file.why = "failed", ENDED_BY_IT
        self._sort()
        return Answer(self._state())

    def read(self, params: Params, progress: Progress) -> Answer:
        """Read further headers, in the order of the names."""
        until = time.monotonic() + float(params["seconds"])
        waiting = [file for file in self._in_order() if file.state == "waiting"]
        for file in waiting:
            if params.get("stop"):
                file.state, file.why = "failed", "not read: it was stopped"
                continue
            self._read(file, progress)
            if time.monotonic() >= until:
                break
        self._sort()
        if waiting and all(file.state != "waiting" for file in self._files):
            self._find_modules()
        return Answer(self._state())

    def _read(self, file: _File, progress: Progress) -> None:
        try:
            checkpoint = open_checkpoint(file.path, progress=progress)
            if len(checkpoint.tensors) > MOST_KEYS:
                file.state, file.why = "failed", f"more than {MOST_KEYS:,} tensors"
            elif not checkpoint.tensors:
                file.state, file.why = "failed", "there is no tensor in it"
            else:
                self._take(file, checkpoint)
        except SDViewerError as error:
            file.state, file.why = "failed", text.visible(error.message, 300)

    def _take(self, file: _File, checkpoint: Checkpoint) -> None:
        for subject, words in subjects_of(checkpoint).items():
            if len(self._subjects) < MOST_SUBJECTS:
                self._subjects.setdefault(subject, words)
        chosen = chosen_of(checkpoint, self._subject)
        if chosen is None:
            assert self._subject is not None
            file.state, file.why = "failed", f"there is no {self._subjects.get(self._subject, 'such thing')} in it"
            return
        file.state_dict = text.visible(chosen.state_dict, 120)
        file.stated, scalars = self._stated.of(checkpoint, file.path)
        entries, file.own = followed(checkpoint, chosen, scalars)
        file.layout = self._layouts.add((key, info.shape, info.dtype) for key, _, info in entries)
        tensors = array("i", [index for _, index, _ in entries])
        file.tensors = self._same_tensors.setdefault(tensors.tobytes(), tensors)
        file.keys = len(entries)
        file.unreadable = sum(bool(info.unreadable) for _, _, info in entries)
        file.identity = asdict(checkpoint.identity)
        file.dated = Dated(file.name, checkpoint.identity.mtime_ns, steps_in(checkpoint.values))
        file.size, file.container = checkpoint.size, checkpoint.container
        file.state = "read"

    def _sort(self) -> None:
        self._order = order([file.dated for file in self._files])

    def _in_order(self) -> list[_File]:
        return [self._files[place] for place in self._order.places]

    def _find_modules(self) -> None:
        """Which modules are followed: those of all keys of the model, in any file."""
        layouts, sizes = self._layouts, dict[str, int]()
        own: dict[int, int] = {}
        for file in self._files:
            if file.layout != NO_LAYOUT:
                own[file.layout] = max(own.get(file.layout, 0), file.own)
        largest: dict[int, int] = {}
        for layout, number in own.items():
            keys, forms = layouts.layouts[layout]
            for key, form in zip(keys[:number], forms[:number], strict=True):
                if is_weight(layouts.name(key), layouts.forms[form][1]):
                    largest[key] = max(largest.get(key, 0), elements_in(layouts.forms[form][0]))
        for name in layouts.keys:
            if (key := layouts.number(name)) in largest:
                sizes[name] = largest[key]
        self._modules, groups = modules_of(sizes)
        self._module_of = {layouts.number(name): group for name, group in zip(sizes, groups, strict=True)}

    def _state(self) -> dict[str, Any]:
        files = self._in_order()
        read = [file for file in files if file.state == "read"]
        dicts = {file.state_dict for file in read}
        containers = {file.container for file in read}
        return {
            "name": text.visible(os.path.basename(self._folder.rstrip("/")) or self._folder, 120),  # noqa: PTH119
            "folder": self._folder,
            "files": len(files),
            "read": sum(file.state != "waiting" for file in files),
            "failed": sum(file.state == "failed" for file in files),
            "nbytes": sum(file.size for file in read),
            "by": self._order.by,
            "unit": self._order.unit,
            "labels": list(self._order.labels),
            "paths": [file.path for file in files],
            "left_out": self._left_out,
            "state_dict": dicts.pop() if len(dicts) == 1 else "",
            "container": containers.pop() if len(containers) == 1 else "",
            "subjects": [[*subject, words] for subject, words in self._subjects.items()],
            "next": next((file.path for file in files if file.state == "waiting"), ""),
        }

    # What is shown

    def files(self, params: Params, progress: Progress) -> Answer:
        """The files in their order."""
        files = self._in_order()
        metric = self._metric(self._all_metrics(), params.get("metric"))
        short = shortest_names([metric.name])[metric.name] if metric is not None else ""
        before: _File | None = None
        rows = []
        for step, (file, label) in enumerate(zip(files, self._order.labels, strict=True)):
            value = None if metric is None or np.isnan(metric.values[step]) else metric.values[step]
            notes = self._notes(file, before)
            if metric is not None and metric.best == step:
                notes.insert(0, ["best", metric.words.replace(metric.name, short)])
            name = text.visible(file.name, 200)
            rows.append([step, label, name, file.keys, file.size, value, notes, file.state])
            before = file if file.state == "read" else before
        return Answer({"rows": rows, "metric": text.visible(short, 60)})

    def _notes(self, file: _File, before: _File | None) -> list[list[str]]:
        if file.state == "failed":
            return [["failed", file.why]]
        notes = []
        if file.unreadable:
            notes.append(["damaged", f"{text.plural(file.unreadable, 'tensor')} cannot be read"])
        if file.odd_total:
            notes.append(["odd", f"{file.odd_total:,} with NaN, Inf"])
        if before is not None and file.layout not in (before.layout, NO_LAYOUT) and before.layout != NO_LAYOUT:
            notes.append(["new", self._difference(before.layout, file.layout)])
        elif before is not None and not file.unreadable and _is_same(file, before):
            notes.append(["same", f"weights as in {text.visible(before.name, 60)}"])
        return notes

    def _difference(self, a: int, b: int) -> str:
        """What is other in the keys of one layout than in those of another."""
        of_a, of_b = (dict(zip(*self._layouts.layouts[one], strict=True)) for one in (a, b))
        come, gone = len(of_b.keys() - of_a.keys()), len(of_a.keys() - of_b.keys())
        forms = self._layouts.forms
        both = [(forms[of_a[key]], forms[of_b[key]]) for key in of_a.keys() & of_b.keys() if of_a[key] != of_b[key]]
        shapes = sum(a[0] != b[0] for a, b in both)
        said = [f"{text.plural(come, 'key')} more" if come else "", f"{text.plural(gone, 'key')} fewer" if gone else ""]
        said.append(f"{text.plural(shapes, 'shape')} changed" if shapes else "")
        said.append(f"{text.plural(len(both) - shapes, 'dtype')} changed" if shapes < len(both) else "")
        return ", ".join(part for part in said if part) or "another order of keys"

    def keys(self, params: Params, progress: Progress) -> Answer:
        """Which keys are there when."""
        files = self._in_order()
        rows = presence(self._layouts, [file.layout for file in files])
        known = [file.layout != NO_LAYOUT for file in files]
        always = sum(row.always(len(files)) for row in rows)
        shown = [row for row in rows if not row.always(len(files))] if params["changed"] else rows
        told, more = changed_first(shown, len(files), int(params["most"]))
        body = {
            "rows": [
                [text.visible(row.name, 200), row.keys, [list(run) for run in row.runs], list(row.forms[:4])]
                for row in told
            ],
            "all": len(rows),
            "more": more,
            "keys": sum(row.keys for row in rows),
            "changing": len(rows) - always,
            "unknown": [step for step, there in enumerate(known) if not there],
        }
        return Answer(body)

    def _all_metrics(self) -> list[Metric]:
        return find_metrics([file.stated for file in self._in_order()])

    @staticmethod
    def _metric(known: Sequence[Metric], name: Any) -> Metric | None:
        """The one of a name, else the first."""
        return next((one for one in known if one.name == name), known[0] if known else None)

    def metrics(self, params: Params, progress: Progress) -> Answer:
        """The numbers that the files state."""
        known = self._all_metrics()
        chosen = self._metric(known, params.get("metric"))
        short = shortest_names([one.name for one in known])
        body: dict[str, Any] = {"names": [[one.name, text.visible(short[one.name], 80)] for one in known]}
        if chosen is None:
            return Answer({**body, "chosen": "", "best": -1, "rule": "", "words": "", "values": [], "odd": []})
        words = chosen.words.replace(chosen.name, text.visible(short[chosen.name], 80))
        stated = [file.stated.get(chosen.name) for file in self._in_order()]
        body |= {
            "chosen": chosen.name,
            "best": chosen.best,
            "rule": chosen.rule,
            "words": words,
            "values": [value if value is not None and abs(value) < LARGEST else None for value in stated],
            "odd": [step for step, value in enumerate(stated) if value is not None and not abs(value) < LARGEST],
        }
        return Answer(body)

    def _numbers(self, what: What) -> NDArray[np.float64]:
        """The norm or the relative change of each module (rows) in each step (columns), NaN where not known."""
        files = self._in_order()
        table = np.full((len(self._modules), len(files)), np.nan)
        for step, (file, other) in enumerate(zip(files, self._others(files, what), strict=True)):
            if what == "norm":
                if file.squares is not None:
                    table[:, step] = np.sqrt(file.squares)
                continue
            if other is None or (moved := file.changes.get(other.number)) is None or other.squares is None:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                table[:, step] = np.where(moved == 0, 0.0, np.sqrt(moved) / np.sqrt(other.squares))
                table[np.isnan(moved), step] = np.nan
        return table

    @staticmethod
    def _others(files: Sequence[_File], what: What) -> list[_File | None]:
        """For each step the file that it is compared with, None where there is none."""
        others: list[_File | None] = []
        first: _File | None = None
        before: _File | None = None
        for file in files:
            if file.state != "read":
                others.append(None)
                continue
            others.append(before if what == "previous" else first)
            first, before = first or file, file
        return others

    def lines(self, params: Params, progress: Progress) -> Answer:
        """A line for each module over the steps."""
        what: What = params["what"]
        table = self._numbers(what)
        steps = evenly(table.shape[1], max(int(params["points"]) // max(len(table), 1), FEWEST_POINTS))
        known = int(np.count_nonzero(~np.isnan(table).all(axis=0))) if table.size else 0
        outlier = find_outlier(_clean(table, self._odd_table())) if what == "norm" else None
        told = None
        if outlier is not None:
            times = f"{outlier.times:.3g} times" if outlier.times < 1000 else f"{text.value(outlier.times)} times"
            told = [outlier.line, times]
        values = np.ascontiguousarray(table[:, steps])
        body = {
            "names": [text.visible(name, 80) for name in self._modules],
            "steps": steps,
            "outlier": told,
            "onset": self._onset(),
            "known": known,
            "total": max(sum(file.state == "read" for file in self._files) - (what != "norm"), 0),
        }
        return Answer(body, {"values": values.tobytes()})

    def _odd_table(self) -> NDArray[np.bool_]:
        """Which modules (rows) have a NaN or infinity in which step (columns)."""
        files = self._in_order()
        table = np.zeros((len(self._modules), len(files)), bool)
        for step, file in enumerate(files):
            if file.odd is not None:
                table[:, step] = file.odd > 0
        return table

    def _onset(self) -> list[Any] | None:
        """The first step with a NaN or infinity, among those that are measured."""
        for step, file in enumerate(self._in_order()):
            if file.odd_total:
                names = [text.visible(key, 80) for key in file.odd_keys[:NAMED]]
                more = file.odd_total - len(names)
                words = f"{', '.join(names)}{f' and {more:,} more' if more else ''}"
                return [step, words]
        return None

    def matrix(self, params: Params, progress: Progress) -> Answer:
        """How far each module moved in each step; where there are more steps than columns, the most of several."""
        table = self._numbers(params["what"])
        number = table.shape[1]
        width = max(1, -(-number // int(params["columns"])))
        edges = [(start, min(start + width, number)) for start in range(0, number, width)]
        cells = np.full((len(self._modules), len(edges)), np.nan)
        for column, (start, stop) in enumerate(edges):
            part = table[:, start:stop]
            there = ~np.isnan(part)
            if part.size:
                cells[:, column] = np.where(there.any(axis=1), np.where(there, part, -1.0).max(axis=1), np.nan)
        known = int(np.count_nonzero(~np.isnan(table).all(axis=0))) if table.size else 0
        # A damaged file says nothing of what is lost in it; a module of another shape is no frozen one.
        whole = ~np.isnan(table).all(axis=0) & ~self._damaged(params["what"])
        frozen = [
            text.visible(name, 80)
            for name, row in zip(self._modules, table, strict=True)
            if whole.any() and not row[whole].any()
        ]
        body: dict[str, Any] = {
            "names": [text.visible(name, 80) for name in self._modules],
            "steps": [list(edge) for edge in edges],
            "frozen": frozen,
            "known": known,
            "total": max(sum(file.state == "read" for file in self._files) - 1, 0),
        }
        finite = cells[np.isfinite(cells)]
        limit = body["limit"] = float(finite.max()) if finite.size else 0.0
        with np.errstate(invalid="ignore"):
            shades = np.where(
                np.isnan(cells), NO_SHADE, np.minimum(np.rint(cells / (limit or 1.0) * MOST_SHADE), MOST_SHADE)
            )
        return Answer(body, {"cells": cells.tobytes(), "shades": shades.astype("u1").tobytes()})

    def _damaged(self, what: What) -> NDArray[np.bool_]:
        """At which steps tensors cannot be read, of the file or of that which it is compared with."""
        files = self._in_order()
        pairs = zip(files, self._others(files, what), strict=True)
        return np.array([bool(file.unreadable or (other and other.unreadable)) for file, other in pairs], bool)

    # What is measured

    def todo(self, params: Params, progress: Progress) -> Answer:
        """What is to be measured next: norms of all files, the ends and the middle first, then what is looked at."""
        files = self._in_order()
        if not self._modules:
            return Answer({"work": None, "left": 0, "total": 0})
        norms = [step for step, file in enumerate(files) if _wants_norms(file)]
        views: list[What] = ["first", "previous"] if params["what"] == "first" else ["previous", "first"]
        others = {what: self._others(files, what) for what in views}
        pairs = {
            what: [step for step, file in enumerate(files) if _wants_change(file, others[what][step])] for what in views
        }
        read = sum(file.state == "read" for file in files)
        counts = {"left": len(norms) + sum(map(len, pairs.values())), "total": read + 2 * max(read - 1, 0)}
        first = [int(step) for step in params["first"]]
        if norms:
            return self._norms_work(files[_nearest(norms, first, len(files))], counts)
        for what, steps in pairs.items():
            if steps:
                step = next((step for step in first if step in steps), steps[0])
                other = others[what][step]
                assert other is not None
                return self._change_work(other, files[step], counts)
        return Answer({"work": None, **counts})

    def _norms_work(self, file: _File, counts: Mapping[str, int]) -> Answer:
        keys, forms = self._layouts.layouts[file.layout]
        modules = array("i")
        tensors = array("i")
        for key, form, index in zip(keys[: file.own], forms[: file.own], file.tensors[: file.own], strict=True):
            name, dtype = self._layouts.name(key), self._layouts.forms[form][1]
            if is_number(dtype):
                tensors.append(index)
                modules.append(self._module_of.get(key, -1) if is_weight(name, dtype) else -1)
        params = {"file": _asked(file), "number": len(self._modules)}
        work = {"name": "norms", "params": params, "key": ["norm", file.number, -1]}
        return Answer({"work": work, **counts}, {"tensors": tensors.tobytes(), "modules": modules.tobytes()})

    def _change_work(self, a: _File, b: _File, counts: Mapping[str, int]) -> Answer:
        of_a = self._weights(a)
        tensors_a, tensors_b, modules = array("i"), array("i"), array("i")
        for key, (index, form) in self._weights(b).items():
            there = of_a.get(key)
            if there is not None and self._layouts.forms[there[1]][0] == self._layouts.forms[form][0]:
                tensors_a.append(there[0])
                tensors_b.append(index)
                modules.append(self._module_of[key])
        params = {"a": _asked(a), "b": _asked(b), "number": len(self._modules)}
        work = {"name": "changes", "params": params, "key": ["change", b.number, a.number]}
        buffers = {"tensors_a": tensors_a, "tensors_b": tensors_b, "modules": modules}
        return Answer({"work": work, **counts}, {name: column.tobytes() for name, column in buffers.items()})

    def _weights(self, file: _File) -> dict[int, tuple[int, int]]:
        """The weights of a file that count to a module: key -> index of the tensor, and form."""
        keys, forms = self._layouts.layouts[file.layout]
        own = zip(keys[: file.own], forms[: file.own], file.tensors[: file.own], strict=True)
        return {
            key: (index, form)
            for key, form, index in own
            if key in self._module_of and is_weight(self._layouts.name(key), self._layouts.forms[form][1])
        }

    def note(self, params: Params, progress: Progress) -> Answer:
        """Keep what was measured."""
        kind, of, against = params["key"]
        file, body = self._files[of], params["body"]
        if kind == "norm":
            file.squares = np.frombuffer(params["squares"], np.float64).copy()
            file.squares[np.frombuffer(params["finite"], np.int32) == 0] = np.nan
            file.odd = np.frombuffer(params["odd"], np.int32).copy()
            names = dict(zip(file.tensors, self._layouts.layouts[file.layout][0], strict=True))
            file.odd_total = int(body["odd"])
            file.unreadable = max(file.unreadable, int(body["unread"]))
            file.odd_keys = tuple([self._layouts.name(names[index]) for index in body["first"] if index in names])
        else:
            moved = np.frombuffer(params["squares"], np.float64).copy()
            moved[np.frombuffer(params["pairs"], np.int32) == 0] = np.nan
            file.changes[against] = moved
        return Answer({})

    def unread(self, params: Params, progress: Progress) -> Answer:
        """Do not ask for it again."""
        kind, of, against = params["key"]
        file = self._files[of]
        if kind == "norm":
            file.state, file.why = "failed", text.visible(str(params["failure"]), 300)
        else:
            file.unmeasured.add(against)
        return Answer({})


def is_number(dtype: str) -> bool:
    """Whether values of a type can be NaN: numbers with a fraction."""
    known = DTYPES.get(dtype)
    return known is not None and known.kind in ("float", "complex", "float4", "quantized")


def is_weight(key: str, dtype: str) -> bool:
    """Whether a tensor counts to the norm of its module."""
    return is_number(dtype) and key.rpartition(".")[2] not in BUFFERS


def _asked(file: _File) -> dict[str, Any]:
    return {"path": file.path, "identity": dict(file.identity)}


def _wants_norms(file: _File) -> bool:
    return file.state == "read" and file.squares is None and file.layout != NO_LAYOUT


def _wants_change(file: _File, other: _File | None) -> bool:
    """Whether a file is still to be compared with another one, whose norms are known."""
    if other is None or other.number in file.changes or other.number in file.unmeasured:
        return False
    return file.layout != NO_LAYOUT and other.layout != NO_LAYOUT and other.squares is not None


def _is_same(file: _File, before: _File) -> bool:
    """Whether no weight is another one than in the file before, as far as that is measured."""
    moved = file.changes.get(before.number)
    return moved is not None and not np.isnan(moved).all() and not np.nansum(moved)


def _nearest(left: Sequence[int], first: Sequence[int], total: int) -> int:
    """Of the steps that are left the one that is wanted first, else the one in the middle of the widest gap."""
    wanted = next((step for step in first if step in left), -1)
    if wanted >= 0:
        return wanted
    done = sorted({-1, total} | (set(range(total)) - set(left)))
    if len(done) == 2:
        return left[0]
    if left[-1] == total - 1:
        return left[-1]
    gaps = [(b - a, -a) for a, b in itertools.pairwise(done)]
    width, minus_start = max(gaps)
    middle = -minus_start + width // 2
    return min(left, key=lambda step: abs(step - middle))


def _clean(table: NDArray[np.float64], odd: NDArray[np.bool_]) -> list[list[float]]:
    """The lines without the steps that have a NaN or infinity: what is left of a norm there tells nothing."""
    shown: list[list[float]] = np.where(odd, np.nan, table).tolist()
    return shown
