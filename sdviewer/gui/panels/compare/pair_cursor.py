"""The element of a pair that somebody points at: its index, A, B and their difference, in plots and status bar."""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.linked_cursor import LinkedCursor
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.pair.pair_plot import NAMES, PairPlot, index_in
from sdviewer.gui.plots.plot import Facts


class PairCursor(LinkedCursor):
    """Follows the plots of a pair whose elements stand at the same places."""

    @property
    def facts(self) -> Facts:
        """The pair that it follows the plots of."""
        return self._facts

    def _ask(self) -> None:
        session, cell, facts = self._session, self.at, self._facts
        if session is None or not cell or not facts.get("source"):
            return
        sources = PairPlot.sources(facts)
        shapes = {side: facts[side]["shape"] for side in sources}
        of = facts.get("shape") or ()
        places = {side: index_in(cell, of, shape) for side, shape in shapes.items()}

        def answered(body: Body, buffers: Buffers) -> None:
            if self.at != cell:
                return
            said = [
                f"{name} {cell_text(str(body[side]), float(body['numbers'][at]))}"
                for at, (side, name) in enumerate((*NAMES.items(), ("d", "\u0394")))
                if body[side]
            ]
            words = "  ".join(said)
            for plot in self._shown():
                plot.tell_value(cell, words)
            self.said.emit(f"{list(cell)}  {text.visible(words)}" if words else "")

        wanted = [None if places.get(side) is None else list(places[side] or ()) for side in NAMES]
        params = {**sources, "places": wanted}
        session.ask_numbers("pair_value", params, answered, lambda failure: None, lane="cell")
