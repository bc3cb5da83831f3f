"""The kernels of a convolution as a grid of small pictures: are they alive, do they look like anything?"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QRect, QRectF, Qt
from PySide6.QtGui import QImage, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QSpinBox

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.cell_grid import CellGrid
from sdviewer.gui.plots.cell_plot import CellPlot
from sdviewer.gui.plots.copying import MOST_COPIED
from sdviewer.gui.plots.numbers import floats, has_numbers
from sdviewer.gui.plots.plot import Facts, Index, Remark, SlicePart
from sdviewer.gui.widgets import Chip, Segments

MOST_SIDE = 64
COLOURS = 3
PAGE = 1024
"""Kernels of one page, at most (`stats.kernel_images`)."""


class KernelGrid(CellGrid):
    """As large as they fit, a whole number of pixels for each value where there is room."""

    def __init__(self) -> None:
        super().__init__("Kernels")
        self._image = QImage()
        self._count = 0
        self._size = (1, 1)
        self._pixmap: QPixmap | None = None
        self._layout = (0, 0, 1.0, 1.0, 0.0)  # rows, columns, width and height of a cell, gap

    def show_kernels(self, image: QImage, count: int, size: tuple[int, int]) -> None:
        """Kernels of `(height, width)`, one below the other in a picture."""
        self._image, self._count, self._size = image, count, size
        self.current = -1
        self._lay_out()

    def _lay_out(self) -> None:
        """Choose the number of columns that makes the cells largest."""
        height, width = self._size
        best = (0.0, 1)
        for columns in range(1, self._count + 1):
            rows = -(-self._count // columns)
            fitting = min(self._scale(self.width(), columns, width), self._scale(self.height(), rows, height))
            best = max(best, (fitting, columns), key=lambda pair: pair[0])
        scale, columns = best
        gap = _gap(scale * width)
        self._layout = (-(-self._count // columns), columns, scale * width, scale * height, gap)
        self._pixmap = None
        self.update()

    def _scale(self, room: int, number: int, pixels: int) -> float:
        """Device-independent pixels for each value along a side, whole ones where there is room."""
        scale = room / number / pixels
        fitting = (room - (number - 1) * _gap(scale * pixels)) / number / pixels
        return max(float(int(fitting)) if fitting >= 1 else fitting, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        return self._layout[:2] if self._count else (0, 0)

    def has_cell(self, cell: int) -> bool:
        return 0 <= cell < self._count

    def cell_rect(self, cell: int) -> QRectF:
        _, columns, width, height, gap = self._layout
        row, column = divmod(cell, columns)
        return QRectF(column * (width + gap), row * (height + gap), width, height)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self._pixmap = None
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._pixmap is None:
            self._pixmap = self._drawn()
        painter.drawPixmap(0, 0, self._pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self.paint_current(painter)

    def _drawn(self) -> QPixmap:
        """All kernels, drawn once: a pointer that moves over a thousand of them needs no more than a frame."""
        ratio = self.devicePixelRatioF()
        made = QPixmap(self.size() * ratio)
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        if self._image.format() == QImage.Format.Format_Indexed8:
            self._image.setColorTable(colours.table())
        painter = QPainter(made)
        height, width = self._size
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(resources.colour("border"))
        for cell in range(self._count):
            target = self.cell_rect(cell)
            painter.drawImage(target, self._image, QRectF(QRect(0, cell * height, width, height)))
            if target.width() >= 12:
                painter.drawRect(target.adjusted(-0.5, -0.5, 0.5, 0.5))
        painter.end()
        return made


class KernelsPlot(CellPlot):
    """One picture an output channel, of one input channel or, where there are three, of these as colours."""

    name = "kernels"
    title = "Kernels"
    heading = "Kernels"
    icon = "tensor"

    def __init__(self) -> None:
        super().__init__()
        self._shape: tuple[int, ...] = ()
        self._limits: list[float] = []
        self._note_chip = Chip("", "warn", "warn")
        self.page = _field("kernels from ", "First kernel that is shown")
        self.channel = _field("input ", "Input channel that is shown")
        self.colour = Segments((("rgb", "RGB", ""), ("one", "One input", "")), "What is shown of the input channels")
        self.scale = Segments((("own", "Each scaled", ""), ("common", "Common", "")), "Scale of the kernels")
        self.scale.set_tooltip("own", "Each kernel to its own largest magnitude")
        self.scale.set_tooltip("common", "All to the largest magnitude of those shown")
        self.colour.choose("rgb")
        self.scale.choose("own")
        self._rgb, self._common = True, False
        self.add_note(self._note_chip)
        self.add_choice(self.page, self.channel, self.colour, self.scale)
        self.page.valueChanged.connect(lambda _: self.ask())
        self.channel.valueChanged.connect(lambda _: self.ask())
        self.colour.chosen.connect(self._set_colour)
        self.scale.chosen.connect(self._set_scale)
        self.grid = KernelGrid()
        self.set_grid(self.grid)

    @staticmethod
    def score(facts: Facts) -> int:
        shape = facts.get("shape") or ()
        kernels = len(shape) == 4 and max(shape[2:]) <= MOST_SIDE and min(shape[2:]) > 1
        return 75 if kernels and has_numbers(facts) else 0

    def begin(self, facts: Facts) -> None:
        shape = tuple(int(size) for size in facts.get("shape") or ())
        if shape == self._shape:
            return
        self._shape = shape
        for field, last, step in ((self.page, (shape[0] - 1) // PAGE * PAGE, PAGE), (self.channel, shape[1] - 1, 1)):
            field.blockSignals(True)
            field.setRange(0, min(last, 2**31 - 1))
            field.setSingleStep(step)
            field.setValue(0)
            field.blockSignals(False)
        self._show_fields()

    def _show_fields(self) -> None:
        colourful = self._shape[1] == COLOURS
        self.colour.setVisible(colourful)
        self.channel.setVisible(self._shape[1] > 1 and not (colourful and self._rgb))
        self.page.setVisible(self._shape[0] > PAGE)
        self.make_room()

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "kernels", {
            "first": self.page.value() // PAGE * PAGE,
            "channel": self.channel.value(),
            "rgb": self._rgb and self._shape[1] == COLOURS,
            "common": self._common,
        }

    def wanted_table(self) -> tuple[str, dict[str, Any]] | None:
        if self._answer is None:
            return None
        return "kernel_table", {name: self._answer[0][name] for name in ("first", "channel", "rgb")}

    def table_remark(self) -> Remark:
        return _table_remark

    def clear(self) -> None:
        self.grid.show_kernels(QImage(), 0, (1, 1))
        self.grid.setAccessibleDescription("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        height, width = (int(size) for size in body["size"])
        self._limits = floats(buffers["limits"])
        count, rgb = len(self._limits), bool(body["rgb"])
        kind = QImage.Format.Format_RGB888 if rgb else QImage.Format.Format_Indexed8
        # The image only looks into the bytes: `copy` takes them over before they go.
        line = width * (COLOURS if rgb else 1)
        image = QImage(buffers["shades"], width, count * height, line, kind).copy()
        self.grid.show_kernels(image, count, (height, width))
        self.subtitle.setText(self._subtitle(body, count))
        dead, odd = int(body["dead"]), int(body["odd"])
        parts = [f"{dead:,} all zero"] * bool(dead) + [f"{odd:,} with NaN or Inf"] * bool(odd)
        self._note_chip.setText(", ".join(parts))
        self._note_chip.setVisible(bool(parts))
        self.grid.setAccessibleDescription(", ".join([f"Kernels: {self._subtitle(body, count)}", *parts]))

    def _subtitle(self, body: Body, count: int) -> str:
        height, width = body["size"]
        words = f"{text.plural(count, 'kernel')} {height}×{width}"
        if count < int(body["of"]):
            words = f"{words}, {int(body['first']):,} – {int(body['first']) + count - 1:,} of {int(body['of']):,}"
        if body["rgb"]:
            words += " · inputs as RGB"
        elif int(body["channels"]) > 1:
            words += f" · input {int(body['channel']):,} of {int(body['channels']):,}"
        return words + (" · one scale" if body["common"] else " · each scaled")

    def _set_colour(self, choice: str) -> None:
        self._rgb = choice == "rgb"
        self._show_fields()
        self.ask()

    def _set_scale(self, choice: str) -> None:
        self._common = choice == "common"
        self.ask()

    def _kernel(self, cell: int) -> tuple[int, int, bool]:
        """Output and input channel of a cell, and whether it shows all inputs as colours."""
        assert self._answer is not None
        body = self._answer[0]
        rgb = bool(body["rgb"])
        return int(body["first"]) + cell, 0 if rgb else int(body["channel"]), rgb

    def mark(self, cell: Index) -> None:
        """Show the kernel of an element that is pointed at elsewhere."""
        body = self._answer[0] if self._answer is not None else {}
        there = len(cell) == 4 and bool(body) and (body["rgb"] or cell[1] in (-1, body["channel"]))
        self.grid.show_current(cell[0] - int(body["first"]) if there and cell[0] >= 0 else -1)

    def words_of(self, cell: int) -> str:
        out, channel, rgb = self._kernel(cell)
        where = f"[{out}, :]" if rgb else f"[{out}, {channel}]"
        return f"kernel {where}: largest magnitude of its scale {text.value(self._limits[cell])}"

    def slice_of(self, cell: int) -> SlicePart:
        out, channel, _ = self._kernel(cell)
        height, width = self._shape[2:]
        return SlicePart((2, 3), (out, channel, 0, 0), (0, height), (0, width))


def _gap(size: float) -> float:
    """Pixels between cells of so many."""
    return 3.0 if size >= 16 else 2.0 if size >= 8 else 1.0


def _field(prefix: str, name: str) -> QSpinBox:
    made = QSpinBox()
    made.setPrefix(prefix)
    made.setAccessibleName(name)
    made.setToolTip(name)
    made.setKeyboardTracking(False)
    made.setFixedHeight(26)
    made.hide()
    return made


def _table_remark(body: Body) -> str:
    """The line above the kernels' values."""
    told, shown = int(body["kernels"]), int(body["shown"])
    words = "values as they are stored, not scaled"
    if told == shown:
        return words
    return f"{words}, the first {told:,} of {shown:,} kernels drawn: at most {MOST_COPIED:,} values are copied"
