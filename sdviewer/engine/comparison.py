"""What the worker of a comparison answers. It owns both files, their pairs and the aligned tree.

A *row* is a row number of the current sheet, a *pair* a number that stays as long as the comparison: pairs are those of
`core.pairing`, A's order and then what only B has. Rows are numbered anew by `open`, `pair` and `fold`, which tell the
number of the sheet, "sheet", and translate `selected`; a question about rows of another sheet is not answered.

    open      {"a": path, "b": path, "recipe"?: text, carried out on A first, "state_dict_a"?, "state_dict_b"?: index,
              "match"?: "key" | "prefix" | "auto", "hand"?, "broken"?: [[tensor of A, tensor of B]], "ignored"?:
              IGNORED, "selected"?: [row] of the sheet before, where the same files are open already}
              -> SHEET and {"a": CARD, "b": CARD, "one": whether both are one file, in words, "match", "exchanges":
              [[prefix in A, prefix in B]], "renamed": {by: n pairs of other names}, "alone": [text, text] what of each
              side nothing is compared with, "kept": whether filter, chips and order are as before, as the same files
              were open}; buffers: those of SHEET, "pairs" (int32, tensor of A, of B, pair by pair) and "measured"
              (uint8, whether a pair is measured or need not be)
    match     {"match", "hand", "broken", "state_dict_a", "state_dict_b", "selected"} -> as open, of the files as opened
    fold      {"selected": [row]} -> SHEET: blocks that turned out alike are folded, others are not any more
    rows      {"toggle"?, "expand"?, "collapse"?, "subtree"?, "all"?, "filter"?, "sort"?, "descending"?, "reveal"?: row,
              as those of a document; "chips"?: [status | "renamed"], shown alone; "hide"?: hide what is alike}
              -> {"matched": n pairs shown | null, "filter_error"}; buffers: "visible" (int32 rows), "flags" (all rows)
    step      {"row": row | -1, "forwards": bool} -> as rows and {"row": the next difference, -1: there is none}
    numbers   buffers: "indices" and columns of `stats.pair_table`; {"identities": [of A, of B], "refresh": bool}
              -> NUMBERS; where `refresh` and chips or order look at numbers, "visible" and "flags" too
    unknown   {} -> {"n": pairs whose norms would make the change of a module exact, "nbytes": of their tensors in B};
              buffer "measured" (uint8, for each tensor of B, 0: to be measured). What is kept of both files from
              before is taken first
    norms     buffers: "indices" and columns of `stats.table`, of tensors of B; {"identity": of B, "keep"?: bool}
              -> NUMBERS
    ignore    IGNORED -> NUMBERS with "visible" and "flags"
    facts     {"row"} -> FACTS
    where     {} -> {"components": [text], "depths": [text], "limit", "frozen": [text], "bars": [[text, row, value]] |
              null, "pairs": n that changed, "comparable": n on both sides in one shape}; buffers: "cells" (float64,
              components by depths, NaN for none), "rows" (int32 likewise)
    map       {"height": n} -> buffers "status" (uint8) and "change" (float32): of the rows that are visible, in so many
              parts at most, the gravest status and the largest change
    find      {"text", "limit"} -> {"rows": [[row, key]]}; {"most_changed": true, "limit"}: the pairs that changed most
    partners  {"row", "text", "limit"} -> {"rows": [[tensor, key, shape, whether the shape fits, key of its partner or
              ""]]}    what of the other side the tensor of a row could be paired with, what fits and is alone first
    report    {"form": "json" | "csv" | "lines" | "markdown" | "html"} -> {}; buffer "text": what was found
              (`engine.compare_reports`)
    take      {"row"} or {"all": true} -> {"step": table of a recipe, "label", "n": tensors, "nbytes", "state_dict":
              that of A, dotted}    the step that takes what differs at and below a row, or everywhere, from B into A
    changed   {} -> {"state", "young", "file", "side": "a" | "b"}    as that of a document, of the worse of both files

    SHEET     {"sheet", "rows_total", "selected": [row | -1], "matched": n pairs shown | null, "counts", "limit",
              "known", "to_measure"}; buffers: the columns of `core.aligned.COLUMNS`, "text", "visible", "flags", and
              those of NUMBERS
    NUMBERS   {"known": pairs that are measured, "to_measure", "counts": {status: n pairs}, "values": n that differ,
              "limit": the largest change}; buffers over rows: "status" (uint8, `engine.pair_numbers.WORDS`), "change"
              and "cosine" (float32), "bounds" (uint8, what the change of a module is: `engine.pair_numbers.EXACT` ...)
    CARD      {"path", "name", "container", "size", "tensors", "parameters", "identity", "state_dicts": [[dotted, role,
              tensors]], "chosen": index, "problems", "files": as those of engine.problems, "steps": n of a recipe}
    IGNORED   {"dtype": bool, "most": largest |b - a|, "optimizer": bool, "keys"?: filter}
    FACTS     {"row", "kind": "pair" | "value" | "module", "name", "key_a", "key_b", "by", "path": [[text, row]],
              "tensors": [of A, of B] by their
              indexes, null for what is no pair, "pair": {"a": FACTS of a document | null, "b": likewise, "status",
              "numbers": {column: value}, "relation": text} | null, "values": [text, text] | null, "counts": of the
              pairs below by status, "leaves": n}

Failures arrive as those of a document; where only one side cannot be read the `path` says which.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from sdviewer.core import aligned, text
from sdviewer.core.aligned import AlignedTree, Side, align
from sdviewer.core.aligned_rows import AlignedRows
from sdviewer.core.depth import Series, find_series
from sdviewer.core.dtypes import FLOATING
from sdviewer.core.key_parts import common_end
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.core.relation import relation
from sdviewer.engine.compared import Choice, Compared, compare, entries, told
from sdviewer.engine.document import Document
from sdviewer.engine.frames import Answer
from sdviewer.engine.measured_pairs import MeasuredPairs
from sdviewer.engine.pair_numbers import (
    ALIKE,
    BY_RANK,
    CODES,
    DIFFERENT,
    RANKS,
    WORDS,
    Ignored,
    PairNumbers,
    RowNumbers,
)
from sdviewer.engine.problems import told_problems
from sdviewer.engine.row_requests import change_rows
from sdviewer.errors import SDViewerError, UsageError
from sdviewer.stats.pair_table import CASTS, COLUMNS, NOTHING, PairTable
from sdviewer.stats.table import KNOWN, NOT_YET

MOST_COMPONENTS: Final = 40
MOST_DEPTHS: Final = 200
MOST_BARS: Final = 12
MOST_FROZEN: Final = 6
"""Of "Where did it change?": what there is room for."""

MOST_PARTS: Final = 12
"""Components of a name that are told one by one."""

Params = Mapping[str, Any]
Handler = Callable[[Params, Progress], Answer]


class Told(NamedTuple):
    """A row by its tensors, which are -1 for a module or value, and its keys, "" for those of a fold."""

    tensor_a: int = -1
    tensor_b: int = -1
    key_a: str = ""
    key_b: str = ""


NO_ROW: Final = Told()


class Comparison:
    """The service of one comparison; every request but `open` needs an open one."""

    def __init__(self) -> None:
        self._a, self._b = Document(), Document()
        self._choice = Choice()
        self._compared = Compared()
        self._numbers: PairNumbers | None = None
        self._origins: list[Hashable] = []
        self._measured = MeasuredPairs()
        self._shown: AlignedRows | None = None
        self._rows: RowNumbers | None = None
        self._sheet = 0
        self._base_flags = b""
        self._folded: tuple[str, ...] = ()
        requests: Mapping[str, Handler] = {
            "open": self.open,
            "match": self.match,
            "fold": self.fold,
            "rows": self.rows,
            "step": self.step,
            "numbers": self.numbers,
            "unknown": self.unknown,
            "norms": self.norms,
            "ignore": self.ignore,
            "facts": self.facts,
            "where": self.where,
            "map": self.map,
            "find": self.find,
            "partners": self.partners,
            "report": self.report,
            "take": self.take,
            "changed": self.changed,
        }
        self.requests = requests

    def _want_open(self) -> None:
        """Raise where nothing is open: this process took the place of one that died."""
        if self._shown is None:
            raise UsageError("no files are open", code="not_open")

    @property
    def shown(self) -> AlignedRows:
        self._want_open()
        assert self._shown is not None
        return self._shown

    @property
    def tree(self) -> AlignedTree:
        return self.shown.tree

    @property
    def known(self) -> PairNumbers:
        assert self._numbers is not None
        return self._numbers

    @property
    def row_numbers(self) -> RowNumbers:
        assert self._rows is not None
        return self._rows

    # Opening

    def open(self, params: Params, progress: Progress) -> Answer:
        """Read both headers, pair up; of the same files as before, with another recipe, what was measured is kept."""
        before, kept = self._shown, self._kept(params)
        opened = [document.checkpoint for document in (self._a, self._b)] if before is not None else []
        self._shown = None
        try:
            self._a.read(params["a"], params.get("recipe", ""), _half(progress, 0))
        except SDViewerError as error:
            self._tell_other(params, error, progress)
            raise
        self._b.read(params["b"], "", _half(progress, 1))
        if not opened or opened[0] is not self._a.checkpoint or opened[1] is not self._b.checkpoint:
            before, kept, self._numbers, self._measured = None, NO_ROW, None, MeasuredPairs()
        return self._pair_up(params, Ignored(**params.get("ignored", {})), before, kept, progress)

    def _tell_other(self, params: Params, error: SDViewerError, progress: Progress) -> None:
        """Let the error about A say that B cannot be read either, so that nobody mends one and learns of the other."""
        if error.path == params["a"] != params["b"]:
            try:
                self._b.read(params["b"], "", _half(progress, 1))
            except SDViewerError as other:
                name = text.visible(Path(params["b"]).name, 120)
                error.remedy = f"{error.remedy} B, {name}, cannot be read either: {other.message}.".strip()

    def match(self, params: Params, progress: Progress) -> Answer:
        """Pair up in another way."""
        return self._pair_up(params, self.known.ignored, self.shown, self._kept(params), progress)

    def _pair_up(
        self, params: Params, ignored: Ignored, before: AlignedRows | None, kept: Told, progress: Progress
    ) -> Answer:
        """Make pairs; what `before` was filtered by stays, and the row of one of the `kept` tensors selected."""
        self._choice = Choice(
            params.get("match") or None,
            params.get("state_dict_a"),
            params.get("state_dict_b"),
            [(int(i), int(j)) for i, j in params.get("hand", ())],
            [(int(i), int(j)) for i, j in params.get("broken", ())],
        )
        if self._numbers is not None:
            self._measured.keep(self._origins, self._numbers.table)
        compared = self._compared = compare(self._a, self._b, self._choice, progress)
        roles = [compared.roles[leaf.group] for leaf in compared.leaves if leaf.pair >= 0]
        tensors = self._a.result.tensors
        weights = [i >= 0 and tensors[i].dtype in FLOATING for i in compared.tensors_a]
        self._numbers = PairNumbers(PairTable(compared.statuses), roles, weights)
        self._numbers.ignored = ignored
        self._origins = self._pair_origins()
        self._measured.give(self._origins, self._numbers.table)
        self._take_norms()
        self._shown, self._folded = None, ()
        answer = self._make_sheet((), before, kept)
        pairs = np.array([compared.tensors_a, compared.tensors_b], np.int32).T
        body = {
            "a": self._card(self._a, compared.chosen_a),
            "b": self._card(self._b, compared.chosen_b),
            "one": self._one(),
            "match": compared.match,
            "exchanges": [[exchange.a, exchange.b] for exchange in compared.exchanges],
            "renamed": {by: n for by, n in compared.renamed.items() if n},
            "alone": [told(self._a, compared.alone_a), told(self._b, compared.alone_b)],
            "kept": before is not None,
        }
        measured = (self._numbers.table["state"] != NOT_YET).astype(np.uint8)
        buffers = {"pairs": np.ascontiguousarray(pairs).tobytes(), "measured": measured.tobytes()}
        return Answer({**answer.body, **body}, {**answer.buffers, **buffers})

    def _pair_origins(self) -> list[Hashable]:
        """What each pair is, whatever the recipe: of A's tensors that it computes, how."""
        compared, plan, computed = self._compared, self._a.plan, self._a.computed
        edited = None if plan is None else plan.state_dict
        return [
            (i if i not in computed else (edited, computed[i]), j)
            for i, j in zip(compared.tensors_a, compared.tensors_b, strict=True)
        ]

    def _kept(self, params: Params) -> Told:
        """What tells the selected row, which is to be found among other pairs; -1 and "" for none."""
        (row,) = params.get("selected") or (-1,)
        if self._shown is None or params.get("sheet", self._sheet) != self._sheet or row < 0:
            return NO_ROW
        tree = self.tree
        return Told(tree.tensor_a[row], tree.tensor_b[row], tree.key_a[row], tree.key_b[row])

    def fold(self, params: Params, progress: Progress) -> Answer:
        """Fold what turned out alike."""
        stale = params.get("sheet", self._sheet) != self._sheet
        return self._make_sheet(() if stale else params.get("selected", ()))

    def _make_sheet(self, selected: Sequence[int], filtered: AlignedRows | None = None, kept: Told = NO_ROW) -> Answer:
        """Build the tree with what is known, and keep what was open, filtered, sorted.

        Of other pairs than before filter and order are those of `filtered`, and the row is selected that shows one of
        the `kept` tensors.
        """
        compared, before = self._compared, self._shown
        words = self._alike()
        if before is None or words != self._folded:
            tree = align(compared.groups, compared.leaves, words)
            shown = AlignedRows(tree, self._a.result, self._b.result)
            self._rows = RowNumbers(self.known, tree)
            shown.keys = self._rows.sort_keys
            self._pass_over(shown)
            shown.set_statuses(self._rows.statuses().tobytes())
            if before is not None:
                selected = shown.adopt(before, selected)
            elif filtered is not None:
                shown.look_like(filtered)
                selected = _rows_of(tree, kept)
                shown.open_to(*selected)
            self._shown, self._folded = shown, words
            self._sheet += 1
        buffers = aligned.pack(self.tree)
        self._base_flags = buffers["flags"]
        body = {**self._told(), "sheet": self._sheet, "rows_total": len(self.tree), "selected": list(selected)}
        body["matched"] = self.shown.matched
        return Answer(body, {**buffers, **self._visible(), **self._row_buffers()})

    def _alike(self) -> tuple[str, ...]:
        """For each leaf a word that blocks which are alike have in common, "" for one that is like no other."""
        codes = self.known.statuses().tolist()
        unlike = {0, CODES["changed"], CODES["unreadable"]}
        return tuple(
            "" if leaf.pair < 0 or codes[leaf.pair] in unlike else WORDS[codes[leaf.pair]]
            for leaf in self._compared.leaves
        )

    def _card(self, document: Document, chosen: int) -> dict[str, Any]:
        checkpoint = document.checkpoint
        dicts = checkpoint.state_dicts
        return {
            "path": checkpoint.path,
            "name": text.visible(Path(checkpoint.path).name, 120),
            "container": checkpoint.container,
            "size": checkpoint.size,
            "tensors": dicts[chosen].tensors if chosen >= 0 else len(checkpoint.tensors),
            "parameters": dicts[chosen].parameters
            if chosen >= 0
            else sum(info.elements for info in checkpoint.tensors),
            "identity": asdict(checkpoint.identity),
            "state_dicts": [[text.visible(dotted(d.path), 60), d.role, d.tensors] for at, d in enumerate(dicts)],
            "chosen": chosen,
            **told_problems(checkpoint),
            "steps": sum(step.enabled for step in document.plan.steps) if document.plan is not None else 0,
        }

    def _one(self) -> str:
        """That both are the same file, "" where they are not."""
        a, b = self._a.checkpoint, self._b.checkpoint
        if (a.identity.device, a.identity.inode) != (b.identity.device, b.identity.inode):
            return ""
        if Path(a.path) == Path(b.path):
            return "A and B are the same file."
        return "A and B are one file that has two names."

    # What is shown

    def _visible(self) -> dict[str, Any]:
        return {"visible": self.shown.visible(), "flags": self.shown.flags(self._base_flags)}

    def _told(self) -> dict[str, Any]:
        known = self.known
        table = known.table
        return {
            "known": known.known,
            "to_measure": int(np.count_nonzero(table["state"] == NOT_YET)),
            "pairs": len(table),
            "counts": known.counts(),
            "values": self.row_numbers.values,
            "limit": known.limit(),
        }

    def _row_buffers(self) -> dict[str, Any]:
        rows = self.row_numbers
        return {
            "status": rows.statuses().tobytes(),
            "change": rows.changes().astype(np.float32).tobytes(),
            "cosine": rows.cosines().astype(np.float32).tobytes(),
            "bounds": rows.bounds().tobytes(),
        }

    def rows(self, params: Params, progress: Progress) -> Answer:
        """Expand, collapse, filter, sort; which rows are shown after it."""
        self._check(params)
        shown = self.shown
        if "chips" in params:
            chips = [word for word in params["chips"] if word != "renamed"]
            shown.set_chips([CODES[word] for word in chips], renamed=len(chips) < len(params["chips"]))
        if "hide" in params:
            shown.set_hidden(ALIKE if params["hide"] else ())
        error = change_rows(shown, params)
        return Answer({"matched": shown.matched, "filter_error": error}, self._visible())

    def step(self, params: Params, progress: Progress) -> Answer:
        """Go on to the next difference."""
        self._check(params)
        row = self.shown.next_of(params["row"], DIFFERENT, forwards=params["forwards"])
        if row >= 0:
            self.shown.reveal(row)
        return Answer({"matched": self.shown.matched, "filter_error": "", "row": row}, self._visible())

    def _check(self, params: Params) -> None:
        self._want_open()
        if params.get("sheet", self._sheet) != self._sheet:
            raise UsageError("the rows were numbered anew", code="old_sheet")

    # Numbers

    def numbers(self, params: Params, progress: Progress) -> Answer:
        """Take more of what was measured, say what the tree shows of it."""
        self._want_open()
        identities = [asdict(document.checkpoint.identity) for document in (self._a, self._b)]
        if "indices" in params and params["identities"] == identities:
            columns = {name: np.frombuffer(params[name], kind) for name, kind in COLUMNS.items()}
            self.known.table.put(np.frombuffer(params["indices"], np.int64), columns)
        return self._answer_numbers(bool(params.get("refresh")))

    def unknown(self, params: Params, progress: Progress) -> Answer:
        """Of which tensors the norms are still to be measured: those of B, as no recipe makes another one of these."""
        self._want_open()
        self._a.file_numbers.take_kept()
        self._b.file_numbers.take_kept()
        self._take_norms()
        checkpoint = self._b.checkpoint
        wanted = np.unique(np.array(self._compared.tensors_b, np.int64)[self.row_numbers.wanted_norms()])
        measured = np.ones(len(checkpoint.tensors), np.uint8)
        measured[wanted] = 0
        nbytes = sum(checkpoint.tensors[index].nbytes for index in wanted.tolist())
        return Answer({"n": len(wanted), "nbytes": nbytes}, {"measured": measured.tobytes()})

    def norms(self, params: Params, progress: Progress) -> Answer:
        """Take statistics of tensors that are identical on both sides."""
        self._want_open()
        file = self._b.file_numbers
        if "indices" in params and params["identity"] == asdict(file.checkpoint.identity):
            file.put(params)
            self._take_norms()
        if params.get("keep"):
            file.keep()
        return self._answer_numbers(bool(params.get("refresh")))

    def _take_norms(self) -> None:
        """Let the pairs have the norms that statistics of either file tell; a computed tensor is none of the file's."""
        compared, pairs = self._compared, len(self.known.table)
        norms, known = np.full(pairs, np.nan), np.zeros(pairs, bool)
        for document, tensors in ((self._a, compared.tensors_a), (self._b, compared.tensors_b)):
            if (table := document.table) is not None:
                index = np.array(tensors, np.int64)
                own = np.flatnonzero((index >= 0) & (index < len(table)))
                own = own[table["state"][index[own]] != NOT_YET]
                norms[own], known[own] = table["l2"][index[own]], True
        self.known.take_norms(norms, known)

    def ignore(self, params: Params, progress: Progress) -> Answer:
        """Look at other differences."""
        keys = str(params.get("keys", ""))
        self.shown.found_by(keys)  # one that cannot be read changes nothing
        self.known.ignored = Ignored(bool(params["dtype"]), float(params["most"]), bool(params["optimizer"]), keys)
        self._pass_over(self.shown)
        return self._answer_numbers(True)

    def _pass_over(self, shown: AlignedRows) -> None:
        """Find the pairs that are ignored by their keys."""
        pair = shown.tree.pair
        found = [pair[row] for row in shown.found_by(self.known.ignored.keys) if pair[row] >= 0]
        self.known.found[:] = False
        self.known.found[found] = True

    def _answer_numbers(self, refresh: bool) -> Answer:
        shown = self.shown
        buffers = self._row_buffers()
        body = self._told()
        if refresh:
            shown.set_statuses(buffers["status"])
            body["matched"] = shown.matched
            buffers |= self._visible()
        return Answer(body, buffers)

    # One row

    def facts(self, params: Params, progress: Progress) -> Answer:
        """What is known of one row."""
        self._check(params)
        tree, row = self.tree, params["row"]
        pair = tree.pair[row]
        leaf = tree.leaf[row]
        kind = "module" if leaf < 0 else "pair" if pair >= 0 else "value"
        path = self._path(row)
        body: dict[str, Any] = {
            "row": row,
            "kind": kind,
            "name": text.visible(tree.name_a[row] or tree.name_b[row], 300),
            "key_a": tree.key_a[row],
            "key_b": tree.key_b[row],
            "by": self._compared.by[pair] if pair >= 0 else "",
            "path": path,
            "tensors": [self._compared.tensors_a[pair], self._compared.tensors_b[pair]] if pair >= 0 else None,
            "pair": self._pair_facts(pair, path, row) if pair >= 0 else None,
            "values": [tree.shape_a[row], tree.shape_b[row]] if kind == "value" else None,
            "counts": self._counts_below(row),
            "leaves": tree.leaves[row],
        }
        return Answer(body)

    def _path(self, row: int) -> list[list[Any]]:
        """The components of a row's key, each with the row that it leads to; the state dict first, as in a document."""
        tree = self.tree
        path: list[list[Any]] = []
        for at in [*tree.ancestors(row), row]:
            if tree.flags[at] & aligned.FOLD:
                continue
            name = tree.name_a[at] or tree.name_b[at]
            parts = name.split(".", MOST_PARTS) if tree.leaf[at] < 0 or tree.pair[at] >= 0 else [name]
            path += [[text.visible(part, 200), at] for part in parts]
        leaf = tree.leaf[row]
        if leaf >= 0 and self._compared.leaves[leaf].group == 0:
            path.insert(0, [text.visible(self._compared.groups[0].name_a, 200), -1])
        return path

    def _pair_facts(self, pair: int, path: list[list[Any]], row: int) -> dict[str, Any]:
        known, compared = self.known, self._compared
        table = known.table
        numbers: dict[str, Any] = {}
        if table["state"][pair] == KNOWN:
            numbers = {name: _number(table[name][pair].item()) for name in COLUMNS}
            numbers["cast"] = CASTS[table["cast"][pair]]
        sides = [
            None if tensor < 0 else {**_facts_of(document, tensor), "key": key, "path": path, "row": row}
            for document, tensor, key in (
                (self._a, compared.tensors_a[pair], self.tree.key_a[row]),
                (self._b, compared.tensors_b[pair], self.tree.key_b[row]),
            )
        ]
        words = ""
        if sides[0] is not None and sides[1] is not None and sides[0]["shape"] is not None:
            words = relation(sides[0]["shape"], sides[1]["shape"] or ())
        return {
            "a": sides[0],
            "b": sides[1],
            "status": WORDS[known.statuses()[pair]],
            "numbers": numbers,
            "relation": words,
        }

    def _counts_below(self, row: int) -> dict[str, int]:
        tree = self.tree
        statuses = self.shown.statuses[row : tree.end[row]]
        leaves = [code for code, leaf in zip(statuses, tree.leaf[row : tree.end[row]], strict=True) if leaf >= 0]
        return {word: leaves.count(code) for word, code in CODES.items() if word and code in leaves}

    # The whole

    def where(self, params: Params, progress: Progress) -> Answer:
        """Component by depth, or the most changed."""
        series = self._series()
        change = self.known.table["rel_l2"]
        row_of = {pair: row for row, pair in enumerate(self.tree.pair) if pair >= 0}
        frozen = list(self._frozen())
        body: dict[str, Any] = {
            "limit": self.known.limit(),
            "frozen": frozen[:MOST_FROZEN],
            "pairs": self.known.counts()["changed"],
            "comparable": int(np.count_nonzero(self.known.table["state"] != NOTHING)),
            "components": [],
            "depths": [],
            "bars": None,
        }
        if series is None:
            body["bars"] = self._bars(row_of)
            return Answer(body, {"cells": b"", "rows": b""})
        every = math.ceil(len(series.blocks) / MOST_DEPTHS)
        lines = sorted(series.lines[:MOST_COMPONENTS], key=lambda line: line.tensors[0])
        cells = np.full((len(lines), math.ceil(len(series.blocks) / every)), np.nan)
        rows = np.full(cells.shape, -1, np.int32)
        for at, line in enumerate(lines):
            for place, pair in zip(line.places, line.tensors, strict=True):
                if place % every == 0:
                    cells[at, place // every] = change[pair]
                    rows[at, place // every] = row_of.get(pair, -1)
        body["components"] = [text.visible(line.name, 60) for line in lines]
        body["depths"] = [text.visible(block, 40) for block in series.blocks[::every]]
        return Answer(body, {"cells": cells.tobytes(), "rows": rows.tobytes()})

    def _series(self) -> Series | None:
        """The blocks of the chosen state dicts; the "tensors" of its lines are pairs."""
        tensors = self._a.result.tensors
        keys = [
            (leaf.pair, leaf.a.key, tensors[leaf.a.tensor].shape, tensors[leaf.a.tensor].elements)
            for leaf in self._compared.leaves
            if leaf.group == 0 and leaf.compared and leaf.a is not None
        ]
        return next(iter(find_series(keys)), None)

    def _bars(self, row_of: Mapping[int, int]) -> list[list[Any]]:
        change = self.known.table["rel_l2"]
        known = np.flatnonzero(change > 0)
        order = known[np.argsort(-change[known], kind="stable")][:MOST_BARS]
        leaves = self._compared.leaves
        return [
            [text.visible(side.key, 200), row_of.get(int(pair), -1), _number(float(change[pair]))]
            for pair in order
            if (side := leaves[pair].a) is not None
        ]

    def _frozen(self) -> Iterator[str]:
        """Modules of which nothing changed, the outermost; nothing where all is alike."""
        tree, statuses = self.tree, self.row_numbers.statuses()
        alike = np.isin(statuses, list(ALIKE))
        if not len(tree) or alike[np.array(tree.leaf, np.int64) >= 0].all():
            return
        row = 0
        while row < len(tree):
            if alike[row]:
                if tree.leaf[row] < 0:
                    above = tree.parent[row]
                    inside = tree.key_a[above] if above >= 0 else ""
                    name = tree.name_a[row] if tree.flags[row] & aligned.FOLD else tree.key_a[row]
                    yield text.visible(f"{inside}.{name}" if inside and tree.flags[row] & aligned.FOLD else name, 80)
                row = tree.end[row]
            else:
                row += 1

    def map(self, params: Params, progress: Progress) -> Answer:
        """The rows that are visible, in so many parts."""
        visible = np.frombuffer(self.shown.visible(), np.int32)
        if not len(visible):
            return Answer({"parts": 0}, {"status": b"", "change": b""})
        parts = min(int(params["height"]), len(visible))
        rows = self.row_numbers
        opened = np.frombuffer(self.shown.flags(self._base_flags), np.uint8)[visible]
        both = aligned.EXPANDED | aligned.CHILDREN
        status = RANKS[rows.worst()[visible]]
        change = np.nan_to_num(rows.changes()[visible], posinf=np.inf)
        inside = opened & both == both
        status[inside], change[inside] = 0, 0.0
        starts = np.arange(parts) * len(visible) // parts
        return Answer(
            {"parts": parts},
            {
                "status": BY_RANK[np.maximum.reduceat(status, starts)].tobytes(),
                "change": np.maximum.reduceat(change, starts).astype(np.float32).tobytes(),
            },
        )

    def find(self, params: Params, progress: Progress) -> Answer:
        """Pairs whose key on either side holds the words, shortest key first."""
        tree = self.tree
        if params.get("most_changed"):
            row_of = {pair: row for row, pair in enumerate(tree.pair) if pair >= 0}
            return Answer({"rows": [[row, key] for key, row, _ in self._bars(row_of)[: params["limit"]]]})
        words = params["text"].lower().split()
        hits = []
        for row, leaf in enumerate(tree.leaf):
            if leaf >= 0:
                key = tree.key_a[row] or tree.key_b[row]
                both = f"{tree.key_a[row]} {tree.key_b[row]}".lower()
                if all(word in both for word in words):
                    hits.append((len(key), row, key))
        hits.sort()
        return Answer({"rows": [[row, text.visible(key)] for _, row, key in hits[: params["limit"]]]})

    def partners(self, params: Params, progress: Progress) -> Answer:
        """What could be paired with a tensor by hand."""
        self._check(params)
        leaves = self._compared.leaves
        at = self.tree.leaf[params["row"]]
        if at < 0 or leaves[at].pair < 0:
            raise UsageError("this row is no tensor")
        own = leaves[at]
        in_a = own.a is None  # where the partner is looked for
        side = own.b if own.a is None else own.a
        words = params["text"].lower().split()
        found: list[tuple[bool, bool, int, int, Side, Side | None]] = []
        for leaf in leaves:
            other, partner = (leaf.a, leaf.b) if in_a else (leaf.b, leaf.a)
            if other is None or side is None or leaf.group != own.group or leaf is own:
                continue
            if all(word in other.key.lower() for word in words):
                fits = other.shape == side.shape
                likeness = common_end(other.key, side.key)
                found.append((not fits, partner is not None, -likeness, len(found), other, partner))
        found.sort(key=lambda one: one[:4])
        rows = [
            [
                other.tensor,
                text.visible(other.key, 200),
                other.shape,
                not unlike,
                "" if partner is None else partner.key,
            ]
            for unlike, _, _, _, other, partner in found[: params["limit"]]
        ]
        return Answer({"rows": rows})

    def report(self, params: Params, progress: Progress) -> Answer:
        """What was found so far, to be kept."""
        from sdviewer.engine.compare_page import as_html
        from sdviewer.engine.compare_reports import (
            CompareReport,
            ReportedPair,
            as_csv,
            as_json,
            as_lines,
            as_markdown,
        )

        compared, tensors = self._compared, (self._a.result.tensors, self._b.result.tensors)
        pairs = [
            ReportedPair(
                leaf.a.key if leaf.a else None,
                tensors[0][leaf.a.tensor] if leaf.a else None,
                leaf.b.key if leaf.b else None,
                tensors[1][leaf.b.tensor] if leaf.b else None,
                compared.by[leaf.pair],
            )
            for leaf in compared.leaves
            if leaf.pair >= 0
        ]
        found = CompareReport(self._a.checkpoint, self._b.checkpoint, pairs, self.known.table, tuple(compared.values))
        made = {
            "json": lambda: json.dumps(as_json(found), indent=2),
            "csv": lambda: as_csv(found),
            "lines": lambda: "\n".join(as_lines(found)) + "\n",
            "markdown": lambda: as_markdown(found),
            "html": lambda: as_html(found),
        }[str(params["form"])]()
        return Answer({}, {"text": made.encode("utf-8", "backslashreplace")})

    def take(self, params: Params, progress: Progress) -> Answer:
        """The step that takes tensors of B, of the chosen state dicts."""
        from sdviewer.repair.taking import take_step

        compared, tree = self._compared, self.tree
        if compared.chosen_a < 0:
            raise UsageError("only tensors of a state dict can be taken, and there is none on both sides")
        codes = self.known.statuses()
        everywhere = bool(params.get("all"))
        if everywhere and np.any(self.known.table["state"] == NOT_YET):
            raise UsageError("not all pairs are compared yet", remedy="Take all differences when they are.")
        if not everywhere:
            self._check(params)
        rows = range(len(tree)) if everywhere else range(params["row"], tree.end[params["row"]])
        # What is not compared yet is taken where somebody points at it.
        wanted = DIFFERENT if everywhere else DIFFERENT | {0}
        leaves = [compared.leaves[tree.leaf[row]] for row in rows if tree.leaf[row] >= 0]
        chosen = [leaf for leaf in leaves if leaf.pair >= 0 and leaf.group == 0 and codes[leaf.pair] in wanted]
        pairs = [(leaf.a.key if leaf.a else None, leaf.b.key) for leaf in chosen if leaf.b is not None]
        in_b = self._b.checkpoint
        state_dict = dotted(in_b.state_dicts[compared.chosen_b].path)
        step = take_step(pairs, in_b.path, entries(self._b, compared.chosen_b).keys, state_dict)
        return Answer(
            {
                "step": step.to_step(),
                "label": step.label,
                "n": len(pairs),
                "nbytes": sum(in_b.tensors[leaf.b.tensor].nbytes for leaf in chosen if leaf.b is not None),
                "state_dict": dotted(self._a.checkpoint.state_dicts[compared.chosen_a].path),
            }
        )

    def changed(self, params: Params, progress: Progress) -> Answer:
        """Whether both files are still those that were opened."""
        looks = [{**document.changed({}).body, "side": side} for side, document in (("a", self._a), ("b", self._b))]
        return Answer(max(looks, key=lambda look: _WORSE.index(str(look["state"]))))


_WORSE: Final = ("same", "silent", "written", "replaced", "gone")


def _facts_of(document: Document, tensor: int) -> dict[str, Any]:
    """Of the facts that a document tells of a tensor those that do not depend on its tree."""
    info = document.result.tensors[tensor]
    facts: dict[str, Any] = {"source": None, "made": None, "params": info.elements, "nbytes": info.nbytes}
    named = {"name": "" if info.key is None else text.visible(info.key, 300), "dotted": dotted(info.path)}
    return {**facts, **named, **document.tensor_facts(tensor)}


def _rows_of(tree: AlignedTree, told: Told) -> list[int]:
    """The row of a tensor of A, else of B, or of a module or value of these keys; none where there is none."""
    for column, tensor in ((tree.tensor_a, told.tensor_a), (tree.tensor_b, told.tensor_b)):
        if tensor >= 0 and tensor in column:
            return [column.index(tensor)]
    if max(told.tensor_a, told.tensor_b) >= 0 or not (told.key_a or told.key_b):
        return []
    keys = (told.key_a, told.key_b)
    return [row for row, pair in enumerate(tree.pair) if pair < 0 and (tree.key_a[row], tree.key_b[row]) == keys][:1]


def _half(progress: Progress, which: int) -> Progress:
    def told(done: int, total: int) -> None:
        progress(round((which + (done / total if total else 0)) * 500), 1000)

    return told


def _number(value: float) -> float | str | None:
    """A number as JSON has it."""
    if value != value:
        return None
    if value in (math.inf, -math.inf):
        return "inf" if value > 0 else "-inf"
    return value
