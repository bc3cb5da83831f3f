"""The numbers themselves, tinted like the heatmap: going to an index, copying, editing one."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QLineEdit

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.cell_editor import CellEditor
from sdviewer.gui.plots.copying import MOST_COPIED, as_numpy, as_table
from sdviewer.gui.plots.goto import WrongIndex, parse_index
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.numbers import has_values
from sdviewer.gui.plots.place import Index, Place
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.plots.values_grid import ValuesGrid
from sdviewer.gui.session import Session

_AROUND: Final = 12
"""Rows read beyond the edge, so that a small change of size shows no gap."""


_Write = tuple[tuple[int, int], int, list[str]]
"""A write of the recipe: its row and column in the slice (-1: all), how many dimensions it names, its numbers."""


class ValuesPlot(Plot):
    """The grid in its card; a vector is one column, a scalar one cell."""

    name = "values"
    title = "Values"
    heading = "Numbers"
    icon = "tensor"
    uses_slice = True

    def __init__(self) -> None:
        super().__init__()
        self._limit = 0.0
        self.goto = QLineEdit()
        self.goto.setPlaceholderText("Go to [i, j]")
        self.goto.setAccessibleName("Go to an index, such as 920, 478; negative numbers count from the end")
        self.goto.setToolTip("Go to an index, such as 920, 478; negative numbers count from the end (Ctrl+G)")
        self.goto.setFixedSize(120, 26)
        self.goto.returnPressed.connect(self._go)
        self.goto.textEdited.connect(lambda _: self._say_wrong(""))
        self.add_control(self.goto)
        self._wrong = widgets.label("", "error")
        self._wrong.hide()
        self.column.addWidget(self._wrong)
        self.grid = ValuesGrid()
        self.set_body(self.grid)
        self._pause = QTimer(self, interval=25, singleShot=True)
        self._pause.timeout.connect(self._ask_window)
        self.grid.window_changed.connect(self._moved)
        self.grid.cell_chosen.connect(self._chosen)
        self.grid.edit_requested.connect(self.edit_cell)
        self.grid.copy_requested.connect(self.copy)
        self.grid.setToolTip("F2 or a double click edits a number")
        self.editor: CellEditor | None = None
        self._editing = (0, 0)
        self._writes: list[_Write] | None = None
        find = QShortcut(QKeySequence("Ctrl+G"), self, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)
        find.activated.connect(self.goto.setFocus)

    @staticmethod
    def score(facts: Facts) -> int:
        return 40 if has_values(facts) and 0 not in (facts.get("shape") or ()) else 0

    def share(self, place: Place) -> None:
        super().share(place)
        place.limit_changed.connect(self._draw_answer)

    def show_summary(self, summary: Facts) -> None:
        # Three deviations make about the same colours as the heatmap's.
        mean, std = float(summary.get("mean") or 0.0), float(summary.get("std") or 0.0)
        limit = abs(mean) + 3 * std
        self._limit = limit if math.isfinite(limit) else 0.0
        self._draw_answer()

    def begin(self, facts: Facts) -> None:
        if self.editor is not None:
            self.editor.close_now()
        self._limit = 0.0
        self.place.begin(facts.get("shape") or ())
        self._say_wrong("")
        self._take_place()

    def _take_place(self) -> None:
        self._writes = None
        self.grid.set_size(*self.place.size, self.place.cell, self.place.scroll)
        index = self.place.index
        shown = [
            ":" if self.place.axes is None or axis in self.place.axes else str(at) for axis, at in enumerate(index)
        ]
        shape = text.shape(self.place.shape or ())
        self.subtitle.setText(f"[{', '.join(shown)}] of {shape}" if len(shown) > 2 else shape)

    def forget(self) -> None:
        super().forget()
        self._pause.stop()

    def clear(self) -> None:
        self.grid.setAccessibleDescription("")
        self._take_place()

    def _slice_changed(self) -> None:
        if self.editor is not None:
            self.editor.close_now()
        self._take_place()
        super()._slice_changed()

    # Going to an index

    def _go(self) -> None:
        shape = self.place.shape or ()
        try:
            index = parse_index(self.goto.text(), shape, self.place.full_index(*self.place.cell))
        except WrongIndex as why:
            self._say_wrong(f"{why}.")
            return
        self.place.go(index)
        self.grid.go(*self.place.cell)
        self.grid.setFocus()

    def _say_wrong(self, words: str) -> None:
        widgets.set_property(self.goto, "wrong", bool(words))
        self._wrong.setText(words)
        self._wrong.setVisible(bool(words))

    # Copying

    def can_be_copied(self) -> bool:
        return self._answer is not None and bool(self.grid.rows and self.grid.columns)

    def copy_data(self) -> None:
        """What is selected; one value alone is just that."""
        self.copy("table")

    def copy(self, how: str) -> None:
        """Put what is selected on the clipboard: one value, a table with tabs, or as a NumPy expression."""
        row, column, rows, columns = self.grid.selected()
        if rows * columns > MOST_COPIED:
            self._say_wrong(f"{rows * columns:,} values are too many to copy: at most {MOST_COPIED:,}.")
            return
        params = {**self.place.params(), "row0": row, "col0": column, "rows": rows, "cols": columns}
        written = self._written(row, column, rows, columns)
        dtype = str(self._facts.get("dtype") or "")

        def answered(body: Body, buffers: Buffers) -> None:
            texts, wide = [str(exact) for exact in body["texts"]], int(body["columns"])
            for at, words in written.items():
                texts[at] = words
            widgets.copy_text(as_numpy(texts, wide, dtype) if how == "numpy" else as_table(texts, wide))

        # What was selected then, also where somebody goes on to another tensor before it comes.
        self.ask_aside("copy", "values", params, answered, whatever_is_shown=True)

    # What is pointed at elsewhere

    def mark(self, cell: Index) -> None:
        if self.editor is None:
            self.grid.mark(self.place.in_slice(cell) if cell else None)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        row, column, rows, columns = self.grid.window()
        return "values", {
            **self.place.params(),
            "row0": row,
            "col0": column,
            "rows": min(rows + _AROUND, self.grid.rows),
            "cols": min(columns + 1, self.grid.columns),
        }

    def draw(self, body: Body, buffers: Buffers) -> None:
        rows, columns = int(body["rows"]), int(body["columns"])
        numbers = array("d", memoryview(buffers["numbers"]).cast("B").cast("d"))
        texts = list(body["texts"])
        edited = self._written(int(body["row"]), int(body["column"]), rows, columns)
        for at, words in edited.items():
            texts[at], numbers[at] = words, _number(words)
        limit = (
            self.place.locked
            or self._limit
            or max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
        )
        cells = []
        for at in range(rows * columns):
            number = numbers[at]
            share = number / limit if limit and not math.isinf(number) else math.copysign(1.0, number)
            cells.append((cell_text(texts[at], number), 0.0 if number == 0 else share, texts[at], at in edited))
        self.grid.set_values(int(body["row"]), int(body["column"]), columns, cells)
        n, m = self.grid.rows, self.grid.columns
        self.grid.setAccessibleDescription(
            f"{text.count(n)} by {text.count(m)} values, from row {body['row']}, column {body['column']}: "
            + ", ".join(words for words, *_ in cells[:5])
        )

    def _written(self, row: int, column: int, rows: int, columns: int) -> dict[int, str]:
        """The numbers of a window that the recipe writes, by their places in it."""
        if self._writes is None:
            self._writes = self._writes_here()
        shape = self.place.shape or ()
        found: dict[int, str] = {}
        for (at_row, at_column), depth, texts in self._writes:
            for r in _reached(at_row, row, rows):
                for c in _reached(at_column, column, columns):
                    inner = self.place.full_index(r, c)[depth:]
                    words = texts[_place(inner, shape[depth:]) if len(texts) > 1 else 0]
                    found[(r - row) * columns + c - column] = words
        return found

    def _writes_here(self) -> list[_Write]:
        """What the recipe writes into this slice, in its order."""
        dimensions = len(self.place.shape or ())
        found = []
        for where, texts in (self._facts.get("made") or {}).get("writes") or ():
            cell = self.place.in_slice((*where, *[-1] * (dimensions - len(where))))
            if cell is not None:
                found.append((cell, len(where), texts))
        return found

    def edit_cell(self, row: int, column: int) -> None:
        """Edit a number in place, where its tensor can be edited and it is in sight."""
        session, facts = self._session, self._facts
        shown = self.grid.exact_text(row, column)
        if not isinstance(session, Session) or not shown or facts.get("row") != session.facts.get("row"):
            return
        why = str(facts.get("editable") or "") or ("" if facts.get("key") else "It is in no state dict")
        if why or facts.get("dropped"):
            said = why.rstrip(".").replace("Only the keys", "Only the tensors") or "It is dropped"
            session.trouble.emit({"message": f"This number cannot be edited: {said}", "remedy": ""})
            return
        if self.editor is not None:
            self.editor.close_now()
        made = CellEditor(self.grid.viewport(), session, self.place.full_index(row, column), shown)
        self.editor, self._editing = made, (row, column)
        made.closed.connect(self._edited)
        made.show_at(self.grid.cell_rect(row, column), self.grid.viewport().rect())

    def _edited(self) -> None:
        self.editor = None
        self.grid.setFocus()

    def _moved(self) -> None:
        """Other cells are in sight, or the same ones elsewhere."""
        self.place.scroll = self.grid.verticalScrollBar().value(), self.grid.horizontalScrollBar().value()
        self._pause.start()
        if self.editor is None:
            return
        cell, inside = self.grid.cell_rect(*self._editing), self.grid.viewport().rect()
        if inside.contains(cell.center()):
            self.editor.show_at(cell, inside)
        else:
            self.editor.close_now()

    def _ask_window(self) -> None:
        if self._session is not None and not self.isHidden():
            self.ask()

    def _chosen(self, row: int, column: int) -> None:
        self.place.cell = (row, column)
        self.cell_moved.emit(self.place.full_index(row, column))


def _number(words: str) -> float:
    """Where a number stands on the colour scale; of a complex one its real part."""
    try:
        return float(complex(words).real) if words not in ("True", "False") else float(words == "True")
    except ValueError:
        return math.nan


def _reached(at: int, start: int, count: int) -> range:
    """The rows or columns of a window that a write at `at` reaches; it is all of them for -1."""
    whole = range(start, start + count)
    return whole if at < 0 else range(at, at + 1) if at in whole else range(0)


def _place(index: Sequence[int], shape: Sequence[int]) -> int:
    """How many elements stand before an index, row by row."""
    place = 0
    for at, size in zip(index, shape, strict=True):
        place = place * size + at
    return place
