"""One element of a tensor that somebody points at in one plot, shown by all of them and in the status bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.numbers import floats
from sdviewer.gui.plots.place import Index, Place
from sdviewer.gui.plots.plot import PAUSE, Asker, Facts, Plot


class LinkedCursor(QObject):
    """Follows the plots of a page. `said` is for the status bar, "" when nobody points at anything."""

    said = Signal(str)

    def __init__(self, place: Place, shown: Callable[[], Iterable[Plot]]) -> None:
        super().__init__()
        self._place, self._shown = place, shown
        self._session: Asker | None = None
        self._facts: Facts = {}
        self.at: Index = ()
        self._wait = QTimer(self, interval=PAUSE, singleShot=True)
        self._wait.timeout.connect(self._ask)

    @property
    def waits(self) -> bool:
        """Whether the exact value will be asked for as soon as the pointer has rested."""
        return self._wait.isActive()

    def begin(self, session: Asker, facts: Facts) -> None:
        """Nobody points at anything in another tensor yet."""
        self.stop()
        self._session, self._facts = session, facts

    def stop(self) -> None:
        """Nobody points at anything any more, and nobody wants to know what is there."""
        self.at = ()
        self._wait.stop()
        if self._session is not None:
            self._session.jobs.drop("cell")

    def move(self, source: Plot, cell: Index) -> None:
        """Somebody points at an element in a plot, or () at none any more."""
        self.at = cell
        for plot in self._shown():
            if plot is not source:
                plot.mark(cell)
        if cell and min(cell) >= 0:
            self._wait.start()
        else:
            self._wait.stop()
            if not cell:
                self.said.emit("")

    def _ask(self) -> None:
        """The exact value, once the pointer rests: of the element, not of what the picture reduced it to."""
        session, cell = self._session, self.at
        if session is None or not cell or not self._facts.get("source"):
            return
        params = {**self._place.params(), "index": list(cell)}
        y, x = params["y"], params["x"]
        params["row0"] = 0 if y is None else cell[y]
        params["col0"] = 0 if x is None else cell[x]

        def answered(body: Body, buffers: Buffers) -> None:
            if self.at != cell or not body["texts"]:
                return
            words = cell_text(str(body["texts"][0]), floats(buffers["numbers"])[0])
            for plot in self._shown():
                plot.tell_value(cell, words)
            self.said.emit(f"{list(cell)} = {words}")

        source = {"source": self._facts["source"], "rows": 1, "cols": 1}
        session.ask_numbers("values", {**source, **params}, answered, lambda failure: None, lane="cell")
