"""A slice of both tensors of a pair as colours: A, B, what was added to A to get B, or A and B with a divider."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QTimer, Signal

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.heatmap import HeatmapPlot, picture_of
from sdviewer.gui.plots.heatmap_canvas import Picture
from sdviewer.gui.plots.numbers import long_axes
from sdviewer.gui.plots.pair.pair_canvas import PairCanvas
from sdviewer.gui.plots.pair.pair_plot import PairPlot, is_same, same_shape
from sdviewer.gui.plots.pair.scatter import POINTS, amount, draw_scatter, in_words, numbers_of, of_flags
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.place import Window
from sdviewer.gui.plots.plot import Facts, Remark
from sdviewer.gui.widgets import Segments

BLINK: Final = 500
"""Milliseconds that each side is shown while Space is held: slower than three times a second, which can do harm."""
RELEASE: Final = 60
"""Milliseconds without another press after which a key is let go: some displays repeat a held key as if it was not."""
MODES: Final = (
    ("a", "A", "The values of A"),
    ("b", "B", "The values of B, in the colours of A"),
    ("d", f"B {text.MINUS} A", "What was added to A to get B; hold Space to see A and B in turn"),
    ("split", "Split", "A left and B right of a divider: drag it, or move it with [ and ]"),
    ("scatter", "Scatter", "Values of B over those of A"),
)
"""What is shown: id, word, and what it is."""
_SIDES: Final = {"a": ("A",), "b": ("B",), "d": (f"B {text.MINUS} A",), "split": ("A", "B")}


class DifferencePlot(PairPlot, HeatmapPlot):
    """A and B have the same limits, their difference its own; Space shows A and B in turn while it is held."""

    name = "difference"
    title = "Difference"
    heading = "Difference"
    main = True
    canvas_kind = PairCanvas
    canvas: PairCanvas

    mode_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.mode = "d"
        self._limits = (0.0, 0.0)
        self._kept: tuple[float, float] | None = None
        self._pictures: dict[str, Picture] = {}
        self._blinking = ""
        self._blink = QTimer(self, interval=BLINK)
        self._blink.timeout.connect(self._turn)
        self._released = QTimer(self, interval=RELEASE, singleShot=True)
        self._released.timeout.connect(self._stop_blinking)
        self.modes = Segments([(mode, words, "") for mode, words, _ in MODES], "What is shown of the pair")
        for mode, _, tip in MODES:
            self.modes.set_tooltip(mode, tip)
        self.modes.choose(self.mode)
        self.modes.chosen.connect(self.set_mode)
        self.add_control(self.modes)
        self.canvas.setAccessibleName("Slice of the pair")
        self.canvas.blinked.connect(self.blink)
        self.axes = Axes()
        self.axes.setAccessibleName("B against A")
        self.axes.hide()
        self.column.addWidget(self.axes, 1)
        self.lock.setToolTip("Keep these colours for other pairs")

    @staticmethod
    def score(facts: Facts) -> int:
        return 90 if same_shape(facts) and not is_same(facts) and len(long_axes(facts)) >= 2 else 0

    def begin(self, facts: Facts) -> None:
        self._stop_blinking()
        offered = [mode for mode, _, _ in MODES if mode != "scatter" or not of_flags(facts)]
        self.modes.offer(offered)
        if self.mode not in offered:
            self.mode = "d"
        self.modes.choose(self.mode)
        super().begin(facts)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        if self.mode == "scatter":
            return "pair_scatter", {"points": POINTS}
        _, params = super().request(facts)
        params.pop("limit", None)
        if self._kept is not None:
            params["limits"] = list(self._kept)
        return "pair_slice", params

    def set_mode(self, mode: str) -> None:
        """Show A, B, B - A, both with a divider, or a scatter."""
        self._stop_blinking()
        again = "scatter" in (mode, self.mode) and mode != self.mode
        self.mode = mode
        self.modes.choose(mode)
        if again:
            self._answer = None
            self._looked = False
            self.ask()
        else:
            self._draw_answer()
        self.mode_chosen.emit(mode)

    def clear(self) -> None:
        super().clear()
        self._pictures = {}
        self.axes.start_over()

    def draw(self, body: Body, buffers: Buffers) -> None:
        scatter = "looked" in body
        self.axes.setVisible(scatter)
        self.canvas.setVisible(not scatter)
        for control in (self.reduction, self.lock, self.whole):
            control.setVisible(not scatter)
        if scatter:
            self.canvas.setAccessibleDescription("")  # a picture is described by what is in sight
            self.title_label.setText("B against A")
            draw_scatter(self.axes, body, buffers)
            self.subtitle.setText(f"{amount(body)} · {numbers_of(body)}")
            self.subtitle.setToolTip(in_words(body))
            self.subtitle.setVisible(True)
            if not body["finite"]:
                self.say("No element is finite on both sides.")
            return
        self.axes.setAccessibleDescription("")
        self.title_label.setText({"a": "Values of A", "b": "Values of B", "d": "Difference"}.get(self.mode, "A and B"))
        self._limits = float(body["limit"]), float(body["limit_d"])
        limits = {"a": self._limits[0], "b": self._limits[0], "d": self._limits[1]}
        self._pictures = {side: picture_of(body, buffers[side], limit) for side, limit in limits.items()}
        # Nothing is one-sided about a difference of roots of mean squares.
        self._pictures["d"] = self._pictures["d"]._replace(one_sided=False)
        self._show(self.mode)
        self._drawn(body, self._pictures["d"])
        self._say_same(body)

    def _say_same(self, body: Body) -> None:
        """An even picture must not be taken for one that is not there."""
        if body["changed"] or body["sampled"]:
            return
        what = "No value differs" if body["window"][2:] == body["shape"] else "No value of this part differs"
        others = "" if self.place.shape and len(self.place.shape) == 2 else ", in this slice"
        self.say(f"{what}{others}.")

    def _show(self, mode: str) -> None:
        """Put pictures that are there onto the canvas."""
        if not self._pictures:
            return
        divisions = self._divisions(self._pictures["d"].size)
        if mode == "split":
            self.canvas.show_split(self._pictures["a"], self._pictures["b"], divisions)
        else:
            self.canvas.show_picture(self._pictures[mode], divisions)
        self.canvas.label(*_SIDES[mode])
        self._limit = self._limits[1 if mode == "d" else 0]

    def _show_words(self, body: Body, window: Window, block: tuple[int, int]) -> None:
        clipped = body["clipped_d" if self.mode == "d" else "clipped"]
        super()._show_words({**body, "clipped": clipped}, window, block)
        if window == (0, 0, *(int(n) for n in body["shape"])):
            self.subtitle.setText("")  # the shape is above
        what = {
            "a": "the values of A",
            "b": "the values of B",
            "d": "B minus A",
            "split": "the values of A left and of B right of a divider, which [ and ] move",
        }[self.mode]
        differ = f"{int(body['changed']):,} of {window[2] * window[3]:,} values differ" if not body["sampled"] else ""
        more = f", {differ}" if differ else ""
        self._description = f"{self._description}. Shown: {what}{more}. Space shows A and B in turn"
        self._describe()

    def _make_room(self) -> None:
        """Where the head is short the choice of what is shown comes before how cells were reduced and the title."""
        if self.axes.isVisible():
            return
        super()._make_room()
        for part in (self.title_label, self.reduction):
            part.show()
        for part in (self.reduction, self.title_label):
            if self.taken(self.subtitle) > self.width() - self.taken_by_margins():
                part.hide()

    def wanted_table(self) -> tuple[str, dict[str, Any]] | None:
        wanted = None if self.mode == "scatter" else super().wanted_table()
        if wanted is None:
            return None
        sides = ("a", "b") if self.mode == "split" else (self.mode,)
        return "pair_table", {"tables": [[side, wanted[1]] for side in sides], "how": wanted[1]["how"]}

    def table_remark(self) -> Remark:
        of_one = super().table_remark()

        def remark(body: Body) -> str:
            sides = " and ".join(_SIDES[side][0] for side, _ in body["tables"])
            return f"{sides}, {of_one(body['tables'][0][1])}"

        return remark

    def data(self) -> list[Column]:
        if self._answer is None or self.mode != "scatter":
            return []
        views = {name: memoryview(self._answer[1][name]).cast("B").cast("d") for name in ("x", "y")}
        return [("A", list(views["x"])), ("B", list(views["y"]))]

    # Colours that are kept

    def _lock(self, locked: bool) -> None:
        self._kept = self._limits if locked and max(self._limits) > 0 else None
        super()._lock(locked)

    # Blinking

    def blink(self, on: bool) -> None:
        """Show A and B in turn, or go back to what was shown."""
        if not on:
            self._released.start()
            return
        self._released.stop()
        if not self._blinking and self._pictures and self.mode != "scatter":
            self._blinking = "b" if self.mode == "a" else "a"
            self._show(self._blinking)
            self._blink.start()

    def _turn(self) -> None:
        self._blinking = "b" if self._blinking == "a" else "a"
        self._show(self._blinking)

    def _stop_blinking(self) -> None:
        self._blink.stop()
        self._released.stop()
        if self._blinking:
            self._blinking = ""
            self._show(self.mode)
