"""Look at tensors of 16 M elements in the window; how soon they are seen and the event loop's longest gaps, as JSON.

    python tests/benchmarks/tensor_probe.py FILE

FILE holds two matrices `w` and `w2` of 4,096 x 4,096, a vector `v` of 16 M elements and a short one `b`. `first_ms` is
from the selection to the first drawn distribution, which may come from a sample; `exact_ms` to the distribution
and the heatmap of all values. A heartbeat of 1 ms runs while the pointer moves over the heatmap, the wheel zooms, the
reduction changes, the values are scrolled, the vector is drawn and sorted, both are drawn over each other, and the
theme turns.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEventLoop, QPointF, Qt, QTimer
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication

from sdviewer.gui.panels.detail_panel import DetailPanel
from sdviewer.gui.plots.heatmap import HeatmapPlot
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.line import LinePlot
from sdviewer.gui.plots.values import ValuesPlot
from sdviewer.gui.session import Session
from tests.benchmarks.window_probe import LIMIT, Heartbeat, empty_window, spin, wait_for


def main(path: str) -> None:
    """Drive the window, print the times and gaps."""
    _app, window, pool = empty_window()
    window.open_paths([path])
    page = window.current_page()
    assert page is not None
    session, detail = page.session, page.detail
    wait_for(session.sheet_changed, lambda: None)
    spin(1500)
    # Two times, as the first has to bring in what measures: a person's first tensor, and all others.
    beat = Heartbeat()
    beat.phase = "select 16 M elements"
    first, exact = select(session, detail, "w")
    select(session, detail, "b")
    again, exact_again = select(session, detail, "w2")
    plots = detail.tensor_page.plots
    heatmap, values, line = plots["heatmap"], plots["values"], plots["line"]
    assert isinstance(heatmap, HeatmapPlot) and isinstance(values, ValuesPlot) and isinstance(line, LinePlot)
    beat.phase = "point at the heatmap"
    point(heatmap)
    beat.phase = "zoom the heatmap"
    show(detail, "heatmap")
    for _ in range(10):
        heatmap.canvas.zoom(1.25, 2000, 3000)
        spin(60)
    for how in ("max_abs", "rms", "mean"):
        heatmap.set_reduction(how)
        spin(300)
    point(heatmap)
    beat.phase = "scroll the values"
    show(detail, "values")
    for row in range(0, 4000, 97):
        values.grid.verticalScrollBar().setValue(row)
        spin(20)
    beat.phase = "a vector of 16 M"
    select(session, detail, "v")
    show(detail, "line")
    line.set_shape("sorted")
    spin(3000)
    beat.phase = "two over each other"
    session.select([node_of(session, "w"), node_of(session, "w2")])
    spin(1500)
    beat.phase = "turn the theme"
    select(session, detail, "w")
    show(detail, "overview")
    window.toggle_theme()
    spin(600)
    beat.phase = ""
    session.close()
    pool.stop()
    worst = {phase: max(gaps) for phase, gaps in beat.gaps.items() if phase}
    result = {
        "first_ms": round(first),
        "exact_ms": round(exact),
        "first_again_ms": round(again),
        "exact_again_ms": round(exact_again),
        "worst": {phase: round(gap.wall, 1) for phase, gap in worst.items()},
        "most": {phase: round(max(gap.thread for gap in gaps), 1) for phase, gaps in beat.gaps.items() if phase},
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


def node_of(session: Session, name: str) -> int:
    """The row of a tensor."""
    sheet = session.sheet
    assert sheet is not None
    return next(node for node in range(len(sheet)) if sheet.name(node) == name)


def select(session: Session, detail: DetailPanel, name: str) -> tuple[float, float]:
    """Select a tensor and wait until it is there: milliseconds to the first distribution, and to all values.

    The spectrum is not waited for: it says itself how long it takes.
    """
    histogram, picture = detail.tensor_page.plots["histogram"], detail.tensor_page.plots["heatmap"]
    assert isinstance(histogram, HistogramPlot)
    loop = QEventLoop()
    start = time.perf_counter()
    seen: list[float] = []

    def drawn() -> None:
        if histogram.shows(session.facts) and not histogram.pending:
            seen.append((time.perf_counter() - start) * 1000)

    def look() -> None:
        there = session.facts.get("row") == node and not detail.waits_for_sums and not histogram.pending
        if there and not picture.pending:
            loop.quit()

    node = node_of(session, name)
    histogram.finished.connect(drawn)
    again = QTimer(interval=2)
    again.timeout.connect(look)
    again.start()
    QTimer.singleShot(LIMIT, loop.quit)
    session.reveal(node)
    loop.exec()
    end = (time.perf_counter() - start) * 1000
    again.stop()
    histogram.finished.disconnect(drawn)
    spin(200)
    return (seen[0] if seen else end), end


def show(detail: DetailPanel, view: str) -> None:
    """Turn to a view of the tensor."""
    detail.choose_view(detail.tensor_page.offered.index(view) + 1)
    spin(700)


def point(heatmap: HeatmapPlot) -> None:
    """Move the pointer over the picture."""
    for step in range(60):
        at = QPointF(60 + 3 * step, 20 + 2 * step)
        none = Qt.MouseButton.NoButton
        move = QMouseEvent(
            QMouseEvent.Type.MouseMove, at, heatmap.canvas.mapToGlobal(at), none, none, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(heatmap.canvas, move)
        spin(15)


if __name__ == "__main__":
    main(sys.argv[1])
