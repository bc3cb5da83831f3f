"""A plot that stays beside those of the next tensor."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.numbers import called
from sdviewer.gui.plots.place import Place
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Elided, IconLabel


class PinnedPlot(QWidget):
    """A second plot of a kind, of the tensor it was pinned at, with a place of its own. `closed` when it is let go."""

    closed = Signal()

    def __init__(self, kind: type[Plot], session: Session, facts: Facts, place: Place) -> None:
        super().__init__()
        self._session = session
        name = called(facts, 200)
        self.setAccessibleName(f"Pinned: {kind.title} of {name}")
        close = widgets.icon_button("x", "Let go of the pinned plot", 12)
        close.clicked.connect(self.closed)
        head = QHBoxLayout()
        head.setContentsMargins(4, 0, 0, 0)
        head.setSpacing(6)
        head.addWidget(IconLabel("pin", 14))
        head.addWidget(Elided(name, "second"), 1)
        head.addWidget(close)
        self.plot = kind()
        # A slice of its own, that of the moment it was pinned; the colours stay the ones it had.
        own = place.copy()
        own.setParent(self.plot)
        self.plot.share(own)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self.plot, 1)
        widgets.polish(self)
        self.plot.show_tensor(session, facts)
        if isinstance(self.plot, HistogramPlot):
            # The others ask by themselves; its numbers else come with the statistics, which are of another tensor.
            self.plot.ask()

    def forget(self) -> None:
        """Nothing is wanted any more of its tensor."""
        self.plot.forget()
