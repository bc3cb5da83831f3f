"""The bar at the top of a document: which of its views is shown."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.gui.widgets import Segments

VIEWS: Final = (
    ("overview", "Overview", "treemap"),
    ("details", "Tensors", "tree"),
    ("structure", "Raw structure", "dict"),
    ("metadata", "Metadata", "info"),
)


class DocumentBar(QWidget):
    """Overview, tensors, and the two views of a whole file that people look for."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.segments = Segments(VIEWS, "View")
        self.segments.chosen.connect(self.chosen)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 14, 8)
        row.addWidget(self.segments)
        row.addStretch(1)

    def show_view(self, name: str) -> None:
        """Mark what is in front; a view that stands beside the tree and has no segment counts as tensors."""
        known = [key for key, *_ in VIEWS]
        self.segments.choose(name if name in known else "details")
