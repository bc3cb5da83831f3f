"""The bar at the top of a document: which of its views is shown, and what can be done with the file as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.widgets import Segments

VIEWS: Final = (
    ("overview", "Overview", "treemap"),
    ("details", "Tensors", "tree"),
    ("structure", "Raw structure", "dict"),
    ("metadata", "Metadata", "info"),
)


class DocumentBar(QWidget):
    """Overview, tensors, and the two views of a whole file that people look for; compare, repair and export."""

    chosen = Signal(str)
    compare_requested = Signal()
    repair_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.segments = Segments(VIEWS, "View")
        self.segments.chosen.connect(self.chosen)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 14, 8)
        row.setSpacing(8)
        row.addWidget(self.segments)
        row.addStretch(1)
        self.compare = widgets.button("Compare with…", "compare")
        self.compare.clicked.connect(self.compare_requested)
        self.repair = widgets.button("Repair to fit…", "repair")
        self.repair.clicked.connect(self.repair_requested)
        self.export = widgets.icon_button("export", "Export: other containers, single tensors, smaller copies")
        self.export.clicked.connect(self._show_menu)
        self._exports: Sequence[QAction] = ()
        for part in (self.compare, self.repair, self.export):
            row.addWidget(part)

    def offer_exports(self, exports: Sequence[QAction]) -> None:
        """What the button at the right end offers."""
        self._exports = exports

    def _show_menu(self) -> None:
        menu = QMenu(self.export)
        menu.addActions(list(self._exports))
        menu.exec(self.export.mapToGlobal(QPoint(0, self.export.height() + 2)))
        menu.deleteLater()

    def show_view(self, name: str) -> None:
        """Mark what is in front; a view that stands beside the tree and has no segment counts as tensors."""
        known = [key for key, *_ in VIEWS]
        self.segments.choose(name if name in known else "details")
