"""Ctrl+L in a comparison: which tensor of the other side belongs to the selected one; what fits comes first."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.dialogs.palette import CommandPalette, Hit

MOST: Final = 60


class PartnerDialog(CommandPalette):
    """`partner_chosen` tells the index of the tensor on the other side."""

    partner_chosen = Signal(int)

    def __init__(self, parent: QWidget, session: ComparisonSession, row: int, other: str) -> None:
        self._row = row
        super().__init__(parent, session, ())
        words = f"Pair with a tensor of {other}"
        self.setWindowTitle(words)
        self.field.setPlaceholderText(words)
        self.field.setAccessibleName(words)
        self.node_chosen.connect(self.partner_chosen)

    def _find(self, wanted: str) -> None:
        def answered(body: Any, buffers: Any) -> None:
            if self.field.text() == wanted:
                self._show([_hit(*found) for found in body["rows"]])

        assert self._session is not None
        params = {"row": self._row, "text": wanted, "limit": MOST}
        self._session.ask("partners", params, answered, lane="partners")


def _hit(tensor: int, key: str, shape: str, fits: bool, partner: str) -> Hit:
    note = shape if not partner else f"{shape}, now with {text.visible(partner, 40)}"
    return Hit(key, "tensor" if fits else "shape", int(tensor), note=note)
