"""Where two checkpoints differ: a matrix of components by depth, or the most changed as bars."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Signal

from sdviewer.gui.jobs import Body
from sdviewer.gui.widgets import Card


class WhereCard(Card):
    """`pair_chosen` tells the row of a pair that was clicked."""

    pair_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__("Where did it change?", "relative L2 per tensor, depth →")

    def show_where(self, body: Body, buffers: Mapping[str, memoryview]) -> None:
        """Show {"components", "depths", "limit", "frozen", "bars": [[text, row, value]] | None}.

        Buffers "cells" f8 (components, depths; NaN for none) and "rows" i4 likewise.
        """
