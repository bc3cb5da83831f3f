"""A two-dimensional slice of a tensor as colours, centred at zero, reduced to what fits on the screen."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Final

from PySide6.QtCore import QPoint, QSize, QTimer
from PySide6.QtGui import QImage, QResizeEvent
from PySide6.QtWidgets import QMenu

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.boundaries import head_edges, inner_edges, parts_along
from sdviewer.gui.plots.copying import MOST_COPIED
from sdviewer.gui.plots.heatmap_canvas import Divisions, HeatmapCanvas, Picture
from sdviewer.gui.plots.numbers import has_numbers, long_axes
from sdviewer.gui.plots.place import Index, Place, Window
from sdviewer.gui.plots.plot import Facts, Plot, Remark
from sdviewer.gui.widgets import Chip

LARGE: Final = 1 << 25
"""Elements of a slice from which a first look comes from a part of it."""
LOOK: Final = 1 << 21
"""Elements that the first look reads."""

REDUCTIONS: Final = {
    "mean": ("mean", "Mean of each cell"),
    "max_abs": ("largest", "Largest magnitude, with its sign: for outliers"),
    "rms": ("RMS", "Root mean square"),
}
"""How several elements become one cell: in the chip, and in its menu."""


_SUBTITLE: Final = 40
"""Pixels that a subtitle needs to say anything."""
_ODD: Final = {"nan": "NaN", "inf": "Inf", "-inf": f"{text.MINUS}Inf"}


class HeatmapPlot(Plot):
    """Diverging colours; limits from what is shown, or locked; the reduction of cells is stated."""

    name = "heatmap"
    title = "Heatmap"
    heading = "Values"
    icon = "heat"
    uses_slice = True
    canvas_kind: ClassVar[type[HeatmapCanvas]] = HeatmapCanvas

    def __init__(self) -> None:
        super().__init__()
        self._how = "mean"
        self._limit = 0.0
        self._looked = False
        self.reduction = Chip("")
        self.reduction.clicked.connect(self._choose_reduction)
        self.lock = widgets.icon_button("unlock", "Keep these colours for other tensors", 14)
        self.lock.setCheckable(True)
        self.lock.clicked.connect(self._lock)
        self.whole = Chip("Show all")
        self.whole.clicked.connect(lambda: self.place.show_window(None))
        self.whole.hide()
        for control in (self.whole, self.reduction, self.lock):
            self.add_control(control)
        self.canvas = self.canvas_kind()
        self.canvas.hovered.connect(self._hovered)
        self.canvas.chosen.connect(self._chosen)
        self.canvas.window_wanted.connect(self._zoom)
        self.canvas.resized.connect(self._resized)
        self.set_body(self.canvas)
        self._asked = QSize()
        self._settle = QTimer(self, interval=120, singleShot=True)
        self._settle.timeout.connect(self._ask_again)
        self._whole_next = QTimer(self, interval=0, singleShot=True)
        self._whole_next.timeout.connect(self.ask)
        self._description = self._pointed_at = ""

    @staticmethod
    def score(facts: Facts) -> int:
        return 70 if has_numbers(facts) and len(long_axes(facts)) >= 2 else 0

    def share(self, place: Place) -> None:
        super().share(place)
        place.window_changed.connect(self._window_changed)
        place.limit_changed.connect(self._limit_changed)
        self._show_lock()

    def begin(self, facts: Facts) -> None:
        self.place.begin(facts.get("shape") or ())
        self._looked, self._pointed_at = False, ""
        self.canvas.point_out(None, "")

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        self._asked = self.canvas.picture_size()
        params: dict[str, Any] = {
            "rows": self._asked.height(),
            "columns": self._asked.width(),
            "how": self._how,
            **self.place.params(),
        }
        rows, columns = self.place.size
        if self.place.window is not None:
            params["window"] = list(self.place.window)
            rows, columns = self.place.window[2:]
        if self.place.locked is not None:
            params["limit"] = self.place.locked
        if rows * columns > LARGE and not self._looked:
            params["most"] = LOOK
        return "slice", params

    def wanted_table(self) -> tuple[str, dict[str, Any]] | None:
        if self._answer is None:
            return None
        body = self._answer[0]
        (_, _, rows, columns), block = body["window"], body["block"]
        cells = {"rows": -(-rows // block[0]), "columns": -(-columns // block[1])}
        if not all(cells.values()):
            return None
        return "slice_table", {**self.place.params(), **cells, "how": body["how"], "window": list(body["window"])}

    def table_remark(self) -> Remark:
        drawn = self._answer[0] if self._answer is not None else {}
        how = REDUCTIONS[str(drawn.get("how", self._how))][0]
        where = ""
        if self.place.axes is not None and len(self.place.index) > 2:
            shown = (":" if axis in self.place.axes else str(at) for axis, at in enumerate(self.place.index))
            where = f"[{', '.join(shown)}], "

        def remark(body: Body) -> str:
            row, column, rows, columns = (int(at) for at in body["window"])
            block = int(body["block"][0]), int(body["block"][1])
            part = f"{where}rows {row} to {row + rows - 1}, columns {column} to {column + columns - 1}"
            if block == (1, 1):
                return f"{part}, every value"
            words = f"{part}, {how} of {block[0]}×{block[1]} values each"
            fewer = tuple(drawn.get("block", block)) != block
            return f"{words}, fewer than drawn: at most {MOST_COPIED:,} are copied" if fewer else words

        return remark

    def forget(self) -> None:
        super().forget()
        self._settle.stop()
        self._whole_next.stop()

    def clear(self) -> None:
        self.canvas.show_nothing()
        self.canvas.setAccessibleDescription("")
        self.whole.hide()
        self.reduction.setText("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._limit = float(body["limit"])
        picture = picture_of(body, buffers["shades"], self._limit)
        self.canvas.show_picture(picture, self._divisions(picture.size))
        self._drawn(body, picture)

    def _drawn(self, body: Body, picture: Picture) -> None:
        """Say what is drawn, and ask for all of it after a first look."""
        self.canvas.set_cell(self.place.cell if self.place.cell != (0, 0) else None)
        self._show_words(body, picture.window, picture.block)
        if body["sampled"]:
            self._looked = True
            self._whole_next.start()

    def _show_words(self, body: Body, window: Window, block: tuple[int, int]) -> None:
        row, column, rows, columns = window
        size = int(body["shape"][0]), int(body["shape"][1])
        whole = (rows, columns) == size
        self.whole.setVisible(not whole)
        shape = text.shape(self.place.shape or ())
        self.subtitle.setText(shape if whole else f"[{row}:{row + rows}, {column}:{column + columns}] of {shape}")
        how = REDUCTIONS[self._how][0]
        cells = "every cell" if block == (1, 1) else f"{how} of {block[0]}×{block[1]}"
        self.reduction.setText(f"≈ {cells}" if body["sampled"] else cells)
        clipped = int(body.get("clipped") or 0)
        beyond = f"{text.plural(clipped, 'cell')} beyond the colour scale" if clipped else "All cells within the scale"
        more = "; so far from a part of each cell" if body["sampled"] else ""
        self.reduction.setToolTip(f"How elements become cells. {beyond}{more}.")
        limit = text.value(self._limit)
        low = "0" if body["how"] == "rms" else text.value(-self._limit)
        part = "" if whole else f", rows {row} to {row + rows - 1} and columns {column} to {column + columns - 1} shown"
        self._description = (
            f"Heatmap of {size[0]:,} by {size[1]:,} values{part}, {cells}, colours from {low} to {limit}"
            f"{', locked' if self.place.locked is not None else ''}, {beyond[:1].lower()}{beyond[1:]}"
        )
        self._describe()
        self._make_room()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._make_room()

    def _make_room(self) -> None:
        """Where the head is short how cells were reduced is told before the shape, which is above, and the lock."""
        room = self.width() - self.taken_by_margins() - self.taken(self.subtitle, self.lock)
        room -= self.lock.sizeHint().width()
        self.lock.setVisible(room >= 0)
        self.subtitle.setVisible(room >= _SUBTITLE)

    def _describe(self) -> None:
        """What is shown, and what stands where somebody points, for who does not see it."""
        self.canvas.setAccessibleDescription(self._description + self._pointed_at)

    def _divisions(self, size: tuple[int, int]) -> Divisions:
        """What is known of the structure, along rows and along columns."""
        if self.place.axes is None:
            return Divisions((), ())
        named = tuple(tuple(parts_along(self._facts, axis)) for axis in self.place.axes)
        edges = tuple(tuple(inner_edges(list(parts), n)) for parts, n in zip(named, size, strict=True))
        heads = tuple(tuple(head_edges(self._facts, axis)) for axis in self.place.axes)
        return Divisions(named, edges, heads)

    # How it is coloured and reduced

    def _choose_reduction(self) -> None:
        menu = QMenu(self.reduction)
        self.fill_menu(menu)
        menu.exec(self.reduction.mapToGlobal(QPoint(0, self.reduction.height() + 2)))
        menu.deleteLater()

    def fill_menu(self, menu: QMenu) -> None:
        """An entry for each reduction."""
        for how, (_, words) in REDUCTIONS.items():
            action = menu.addAction(words)
            action.setCheckable(True)
            action.setChecked(how == self._how)
            action.triggered.connect(partial(self.set_reduction, how))

    def set_reduction(self, how: str) -> None:
        """Reduce cells in another way."""
        self._how = how
        self.ask()

    def _lock(self, locked: bool) -> None:
        self.place.lock(self._limit if locked and self._limit > 0 else None)

    def _limit_changed(self) -> None:
        self._show_lock()
        self._slice_changed()

    def _show_lock(self) -> None:
        locked = self.place.locked
        self.lock.setChecked(locked is not None)
        self.lock.setIcon(icons.icon("unlock" if locked is None else "lock"))
        words = (
            "Keep these colours for other tensors"
            if locked is None
            else f"Colours kept from {text.value(-locked)} to {text.value(locked)}: let each tensor have its own again"
        )
        self.lock.setToolTip(words)
        self.lock.setAccessibleName(words)

    # What part of it is shown

    def _zoom(self, window: Window | None) -> None:
        self.place.show_window(window)

    def _window_changed(self) -> None:
        self.canvas.show_window(self.place.window)
        self._looked = False
        self._ask_soon()

    def _slice_changed(self) -> None:
        self._looked = False
        super()._slice_changed()

    def _resized(self) -> None:
        if self._session is not None and not self.isHidden():
            self._settle.start()

    def _ask_again(self) -> None:
        if self.pending:
            self._settle.start()  # the line that says so takes room, which it gives back
            return
        size, before = self.canvas.picture_size(), self._asked
        if abs(size.width() - before.width()) > 8 or abs(size.height() - before.height()) > 8:
            self.ask()

    # The element that is pointed at

    def _hovered(self, row: int, column: int) -> None:
        self.cell_moved.emit(self.place.full_index(row, column) if row >= 0 else ())

    def _chosen(self, row: int, column: int) -> None:
        self.place.cell = (row, column)
        self.cell_moved.emit(self.place.full_index(row, column))

    def mark(self, cell: Index) -> None:
        self.canvas.set_cursor(self.place.in_slice(cell) if cell else None)

    def tell_value(self, cell: Index, words: str) -> None:
        self.canvas.show_value(words)
        self._pointed_at = f". At {list(cell)}: {words}"
        self._describe()

    def point_out(self, statistic: str, value: float | None) -> None:
        if statistic not in ("min", "max") or value is None:
            if self._session is not None:
                self._session.jobs.drop("extreme")
            self.canvas.point_out(None, "")
            return

        def answered(body: Body, buffers: Buffers) -> None:
            index = None if body["index"] is None else tuple(int(at) for at in body["index"])
            cell = None if index is None else self.place.in_slice(index)
            self.canvas.point_out(cell, f"{statistic} {text.value(value)}")

        self.ask_aside("extreme", "extreme", {"which": statistic}, answered)


def picture_of(body: Body, shades: memoryview, limit: float) -> Picture:
    """The picture of a reduced slice, from what is told of it and its shades."""
    row, column, rows, columns = (int(at) for at in body["window"])
    block = int(body["block"][0]), int(body["block"][1])
    height, width = -(-rows // block[0]), -(-columns // block[1])
    # The image only looks into the bytes: `copy` takes them over before they go.
    image = QImage(shades, width, height, width, QImage.Format.Format_Indexed8).copy()
    size = int(body["shape"][0]), int(body["shape"][1])
    return Picture(image, (row, column, rows, columns), block, size, limit, body["how"] == "rms")


def cell_text(exact: str, number: float) -> str:
    """One value as it is shown: whole numbers and words as they are, others with four digits."""
    if exact in _ODD:
        return _ODD[exact]
    if not math.isfinite(number) or not ("." in exact or "e" in exact):
        return text.visible(exact, 40).replace("-", text.MINUS)
    return text.value(number) if exact[-1:].isdigit() else text.visible(exact, 40)
