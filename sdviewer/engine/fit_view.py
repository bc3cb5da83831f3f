"""What a workbench shows: the rows of one tab, as the recipe makes them or as a preview would; paging through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdviewer.core import text
from sdviewer.core.aligned_rows import AlignedRows
from sdviewer.core.fit_sheet import CODES, PROBLEMS, pack
from sdviewer.core.key_table import checkpoint_of_table
from sdviewer.core.progress import Progress
from sdviewer.engine.fit_file import FitFile
from sdviewer.engine.fit_rows import Laid, Pair, lay
from sdviewer.engine.fit_steps import Preview
from sdviewer.engine.fitted import Fitted
from sdviewer.engine.frames import Answer
from sdviewer.engine.row_requests import change_rows
from sdviewer.errors import UsageError

Params = Mapping[str, Any]


class FitView:
    """The current sheet of a file. `laid` are its rows; what answers a SHEET of `engine.workbench` lays them anew."""

    def __init__(self, file: FitFile) -> None:
        self.preview: Preview | None = None
        self.laid: Laid
        self._file = file
        self._shown: AlignedRows | None = None
        self._base_flags = b""
        self._sheet = 0
        self._rows: dict[int, tuple[Sequence[int], Sequence[Pair]]] = {}
        self._tab = "problems"

    @property
    def is_open(self) -> bool:
        """Whether there is a sheet."""
        return self._shown is not None

    @property
    def shown(self) -> AlignedRows:
        """Which rows are open and pass the filter."""
        assert self._shown is not None
        return self._shown

    @property
    def fitted(self) -> Fitted:
        """What is shown."""
        return self._file.fitted if self.preview is None else self.preview.made.fitted

    def close(self) -> None:
        """There is no sheet until rows are laid again."""
        self._shown = None
        self._rows.clear()

    def lay(self, params: Params, preview: Preview | None) -> Answer:
        """Rows of what is shown from now on, with what was open, filtered and selected before."""
        file = self._file
        kept = self._kept(params)
        before = self._shown
        laid_before = None if before is None else self.laid
        same_tab = params.get("tab", self._tab) == self._tab
        self._tab = params.get("tab", self._tab)
        self.preview = preview
        fitted = self.fitted
        against = None if preview is None else file.fitted
        laid = self.laid = lay(self._tab, fitted, against, file.checkpoint, file.state_dict)
        shown = AlignedRows(laid.tree, file.checkpoint, checkpoint_of_table(file.target.table))
        shown.set_statuses(bytes(laid.statuses))
        if self._tab == "problems":
            shown.expanded = bytearray(len(laid.tree))
            opened = [row for name, row in laid.groups.items() if row in laid.opened]
            if before is not None and laid_before is not None and same_tab:
                was = {name for name, row in laid_before.groups.items() if before.expanded[row]}
                opened = [
                    row
                    for name, row in laid.groups.items()
                    if name in was or (row in laid.opened and name not in laid_before.groups)
                ]
            shown.set_expanded(opened, True)
        if before is not None:
            shown.set_filter(before.filter)
        selected = [self._row_of(pair) for pair in kept]
        if self._tab == "tree":
            shown.reveal(*[row for row in selected if row >= 0])
        self._shown = shown
        self._sheet += 1
        in_sight = params.get("sheet", -1)
        self._rows = {sheet: rows for sheet, rows in self._rows.items() if sheet == in_sight}
        self._rows[self._sheet] = laid.tree.leaf, laid.pairs
        buffers = pack(laid.tree, bytes(laid.statuses), laid.now)
        self._base_flags = buffers["flags"]
        body = {
            "sheet": self._sheet,
            "rows_total": len(laid.tree),
            "selected": selected,
            "counts": dict(fitted.counts),
            "before": None if against is None else dict(against.counts),
            "problems": fitted.problems if against is None else against.problems,
            "total": len(laid.pairs),
            "keys": fitted.asked,
            "allowed": len(fitted.allowed),
            "failed": None if file.failed is None else file.failed._asdict(),
            "preview": None if preview is None else preview.told,
            "matched": shown.matched,
            "alike": file.told_alike(None if preview is None else preview.made),
        }
        return Answer(body, {**buffers, **self._visible()})

    def _kept(self, params: Params) -> list[Pair]:
        """The pairs of the selected rows, which are to be found among other rows.

        They are those of the sheet in sight: somebody who goes through choices quickly has not seen the newest ones.
        """
        leaf, pairs = self._rows.get(params.get("sheet", self._sheet), ((), ()))
        rows = [row for row in params.get("selected", ()) if 0 <= row < len(leaf) and leaf[row] >= 0]
        return [pairs[leaf[row]] for row in rows]

    def _row_of(self, pair: Pair) -> int:
        """The row that shows the same key of the target, or the same entry of the file."""
        by_target = by_source = -1
        pairs = self.laid.pairs
        for row, leaf in enumerate(self.laid.tree.leaf):
            if leaf < 0:
                continue
            if pair.wanted >= 0 and pairs[leaf].wanted == pair.wanted:
                by_target = row if by_target < 0 else by_target
                if pairs[leaf].source == pair.source:
                    return row
            elif pair.source >= 0 and pairs[leaf].source == pair.source:
                by_source = row
        return by_target if by_target >= 0 else by_source

    def _visible(self) -> dict[str, Any]:
        return {"visible": self.shown.visible(), "flags": self.shown.flags(self._base_flags)}

    # Looking around

    def rows(self, params: Params, progress: Progress) -> Answer:
        """Expand, collapse, filter; which rows are shown after it."""
        self.check(params)
        if "chips" in params:
            self.shown.set_chips([CODES[word] for word in params["chips"]])
        error = change_rows(self.shown, params)
        return Answer({"matched": self.shown.matched, "filter_error": error}, self._visible())

    def step(self, params: Params, progress: Progress) -> Answer:
        """Go on to the next problem."""
        self.check(params)
        row = self.shown.next_of(params["row"], PROBLEMS, forwards=params["forwards"])
        if row >= 0:
            self.shown.reveal(row)
        return Answer({"matched": self.shown.matched, "filter_error": "", "row": row}, self._visible())

    def first(self, params: Params, progress: Progress) -> Answer:
        """Go to the first row of a kind."""
        row = self.shown.next_of(-1, {CODES[params["status"]]}, forwards=True)
        if row >= 0:
            self.shown.reveal(row)
        return Answer({"matched": self.shown.matched, "filter_error": "", "row": row}, self._visible())

    def find(self, params: Params, progress: Progress) -> Answer:
        """Rows whose key on either side holds all words, for "go to"."""
        words = params["text"].lower().split()
        tree = self.laid.tree
        found: list[list[Any]] = []
        for row, leaf in enumerate(tree.leaf):
            key = tree.key_a[row] or tree.key_b[row]
            both = f"{tree.key_a[row]} {tree.key_b[row]}".lower()
            if leaf >= 0 and all(word in both for word in words):
                found.append([row, text.visible(key, 200)])
                if len(found) >= params["limit"]:
                    break
        return Answer({"rows": found})

    def check(self, params: Params) -> None:
        """Refuse a question about rows of another sheet.

        Raises:
            UsageError: it is one.
        """
        if params.get("sheet", self._sheet) != self._sheet:
            raise UsageError("the rows were numbered anew", code="old_sheet")

    # What a row is without what is previewed

    def pair_at(self, row: int) -> Pair:
        """The pair of a row as it is without what is previewed.

        Raises:
            UsageError: the row is a group.
        """
        leaf = self.laid.tree.leaf[row]
        if leaf < 0:
            raise UsageError("this row is no key")
        return self.without_preview(self.laid.pairs[leaf])

    def entries_at(self, params: Params) -> list[int]:
        """What the file has in rows and below them, without what is previewed."""
        self.check(params)
        tree = self.laid.tree
        inside = [at for row in params["rows"] for at in range(row, tree.end[row]) if tree.leaf[at] >= 0]
        pairs = [self.without_preview(self.laid.pairs[tree.leaf[at]]) for at in dict.fromkeys(inside)]
        return [pair.entry for pair in pairs if pair.entry >= 0]

    def without_preview(self, pair: Pair) -> Pair:
        """A pair that is shown, as it is without what is previewed."""
        if self.preview is None:
            return pair
        fitted = self._file.fitted
        if pair.source < 0:
            return pair._replace(entry=fitted.filled[pair.wanted] if pair.wanted >= 0 else -1)
        own = self.fitted.entries[pair.entry].key if pair.entry >= 0 else ""
        of_source = [at for at, entry in enumerate(fitted.entries) if entry.source == pair.source]
        entry = next((at for at in of_source if fitted.entries[at].key == own), of_source[0] if of_source else -1)
        wanted = next((place for place, at in enumerate(fitted.filled) if at == entry), -1) if entry >= 0 else -1
        return pair._replace(entry=entry, wanted=wanted)
