"""Other rows in a table whose rows a worker keeps: what is selected, or stands first in sight, keeps its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QItemSelectionModel

from sdviewer.gui.models.flat_tree import FlatTreeModel
from sdviewer.gui.panels.flat_tree import FlatTreeView
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT

ALONE: Final = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows


def swap_rows(
    view: FlatTreeView, model: FlatTreeModel, swap: Callable[[], None], selected: int, *, renumbered: bool = False
) -> None:
    """Swap rows by calling `swap`; the selected node is selected again where it is shown.

    `renumbered`: nodes are not what they were, so that nothing of before can be looked for.
    """
    before, first = view.currentIndex().row(), view.rowAt(0)
    offset = view.rowViewportPosition(before) if before >= 0 else -1
    in_sight = 0 <= offset < view.viewport().height()
    bar = view.verticalScrollBar()
    top = model.node(first) if first >= 0 and not in_sight and not renumbered else -1
    swap()
    view.updateGeometries()
    row = model.row_of(selected) if selected >= 0 else -1
    if row >= 0:
        view.selectionModel().setCurrentIndex(model.index(row, 0), ALONE)
        if in_sight:
            bar.setValue(row * ROW_HEIGHT - offset)
    if not in_sight and top >= 0 and (place := model.visible_ancestor(top)) >= 0:
        bar.setValue(place * ROW_HEIGHT)
