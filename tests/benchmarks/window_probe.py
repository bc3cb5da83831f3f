"""Use the window on a large file and tell its event loop's longest gaps, as JSON.

    python tests/benchmarks/window_probe.py MANY OTHER

MANY has 100,000 keys under a common prefix. A heartbeat of 1 ms runs while the file opens, its overview fills under a
pointer that wanders over the tiles, it is scrolled, filtered, expanded, selected, edited and undone, while its raw
structure is shown, while an expression that renames every key is typed, previewed, added, switched off and undone, a
key is edited in place, 2,000 rows are dropped, while OTHER opens in a second tab under scrolling, and while the
statistics of both are measured under scrolling, with columns for them and an order by them. A gap is the time between
two beats; `computing` says for each longest one what the window's thread and the whole process computed in it, and
`most` is the most that the thread computed in any, so
that a busy machine can be told from a busy window.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEventLoop, Qt, QTimer, SignalInstance
from PySide6.QtWidgets import QApplication

from sdviewer.engine.client import NumbersPool
from sdviewer.gui import resources
from sdviewer.gui.app import make_application, make_window
from sdviewer.gui.interpreter import Collector
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.find_panel import FindPanel
from sdviewer.gui.plots.library import library
from sdviewer.gui.settings import Memory, Settings
from sdviewer.repair.operations.strip import Strip

LIMIT = 60_000
EXPRESSION = r"layers\.(\d+)\."
"""It finds every key of MANY that stands in a layer."""


class Gap(NamedTuple):
    """Between two beats, in ms: on the clock, and how much of it the window's thread and its process computed.

    What is on the clock only was spent waiting: for the interpreter lock where the process computed meanwhile, for a
    core or a disk where it did not.
    """

    wall: float
    thread: float
    process: float


class Heartbeat:
    """The gaps between beats by what was going on."""

    def __init__(self) -> None:
        self.phase = ""
        self.gaps: dict[str, list[Gap]] = {}
        self._last = self._now()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(1)

    def _now(self) -> Gap:
        return Gap(time.perf_counter() * 1000, time.thread_time() * 1000, time.process_time() * 1000)

    def _beat(self) -> None:
        now, last = self._now(), self._last
        self.gaps.setdefault(self.phase, []).append(
            Gap(now.wall - last.wall, now.thread - last.thread, now.process - last.process)
        )
        self._last = now


def wait_for(signal: SignalInstance, act: Callable[[], object]) -> float:
    """Do something and wait for the signal that says it is done; milliseconds."""
    loop = QEventLoop()
    signal.connect(loop.quit)
    QTimer.singleShot(LIMIT, loop.quit)
    start = time.perf_counter()
    act()
    loop.exec()
    signal.disconnect(loop.quit)
    return (time.perf_counter() - start) * 1000


def spin(milliseconds: int) -> None:
    """Let the event loop run."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def empty_window() -> tuple[QApplication, MainWindow, NumbersPool]:
    """An empty window as a person has it before a file is opened; the application lives as long as it is held."""
    app = make_application()
    resources.dress(app, "light")
    pool = NumbersPool()
    window = make_window(Settings(Memory()), pool)
    window.show()
    pool.start()
    library().load()
    Collector(window).start()
    spin(300)
    return app, window, pool


def main(many: str, other: str) -> None:
    """Drive the window, print the gaps."""
    _app, window, pool = empty_window()
    beat = Heartbeat()
    beat.phase = "open"
    window.open_paths([many])
    page = window.current_page()
    assert page is not None
    session = page.session
    wait_for(session.sheet_changed, lambda: None)
    beat.phase = "overview"
    wait_for(page.overview.settled, lambda: None)
    tiles = page.overview.tiles.map
    for step in range(60):
        # What a pointer that wanders over the tiles does, while their first numbers come.
        tiles._hover(step % len(tiles.tiles))
        spin(50)
    window.show_details()
    spin(300)
    view = page.tree.view
    beat.phase = "expand all"
    wait_for(session.rows_changed, session.expand_all)
    spin(100)
    bar = view.verticalScrollBar()
    beat.phase = "scroll"
    for step in range(150):
        bar.setValue(bar.maximum() * step // 150)
        spin(8)
    beat.phase = "filter"
    keystrokes = []
    for text in ("q", "qk", "qkv", "qkv w", "", "norm", "layers.123"):
        keystrokes.append(wait_for(session.rows_changed, lambda text=text: session.set_filter(text)))
        spin(30)
    wait_for(session.rows_changed, lambda: session.set_filter(""))
    beat.phase = "select"
    for row in range(5, 400, 13):
        view.selectRow(row)
        spin(20)
    beat.phase = "edit"
    wait_for(session.recipe_changed, lambda: session.apply(Strip(prefix="module.")))
    spin(100)
    beat.phase = "undo"
    wait_for(session.recipe_changed, session.undo)
    spin(100)
    beat.phase = "raw structure"
    wait_for(page.view("structure").settled, window.show_structure)
    spin(300)
    window.show_details()
    page.show_find()
    panel = page.view("find")
    assert isinstance(panel, FindPanel)
    spin(300)
    beat.phase = "type an expression"
    panel.syntax.buttons()[2].click()
    panel.replace_field.setText(r"blocks.\1.")
    for end in range(1, len(EXPRESSION) + 1):
        panel.find_field.setText(EXPRESSION[:end])
        spin(60)
    beat.phase = "preview"
    previewed = wait_for(panel.preview.model.modelReset, panel.ask)
    spin(100)
    beat.phase = "scroll the preview"
    below = panel.preview.view.verticalScrollBar()
    for _ in range(40):
        below.setValue(below.maximum())
        spin(20)
    beat.phase = "apply"
    panel.ask()
    wait_for(panel.preview.model.modelReset, lambda: None)
    spin(50)
    applied = wait_for(session.recipe_changed, panel.accept)
    spin(100)
    beat.phase = "switch off"
    wait_for(session.recipe_changed, lambda: session.toggle_step(0))
    spin(100)
    beat.phase = "undo both"
    undone = wait_for(session.recipe_changed, session.undo)
    wait_for(session.recipe_changed, session.undo)
    spin(100)
    page.show_details()
    beat.phase = "rename in place"
    view.selectRow(6)
    spin(500)
    page.tree.edit_key()
    spin(200)
    if page.tree.editor is not None:
        page.tree.editor.setText("module.elsewhere")
        spin(1500)
        page.tree.editor.close_now()
    beat.phase = "drop 2,000 rows"
    session.select([page.tree.model.node(row) for row in range(20, 2020)])
    wait_for(session.recipe_changed, lambda: session.step_of("drop", session.apply, rows=session.selection))
    spin(100)
    wait_for(session.recipe_changed, session.undo)
    beat.phase = "open another while scrolling"
    window.open_paths([other])
    spin(8)  # nobody opens a file and clicks on a tab at once
    window.tabs.setCurrentWidget(page)
    for step in range(150):
        bar.setValue(bar.maximum() * (150 - step) // 150)
        spin(8)
    pages = window.tabs.pages()
    beat.phase = "scroll while all tensors are measured"
    for name in ("std", "norm", "zeros"):
        page.tree.choose_column(name, True)
        spin(100)
    session.sort("std", True)
    session.survey.measure()
    start = time.perf_counter()
    surveys = [shown.session.survey for shown in pages]
    times: dict[int, float] = {}
    step = 0
    while len(times) < len(surveys) and time.perf_counter() - start < LIMIT / 1000:
        step += 1
        bar.setValue(bar.maximum() * (step % 150) // 150)
        spin(8)
        for at, survey in enumerate(surveys):
            if survey.known.state == "done":
                times.setdefault(at, time.perf_counter() - start)
    pages[-1].session.close()
    session.close()
    pool.stop()
    every = sorted(gap.wall for gaps in beat.gaps.values() for gap in gaps)
    worst = {phase: max(gaps) for phase, gaps in beat.gaps.items() if phase}
    result = {
        "worst": {phase: round(gap.wall, 1) for phase, gap in worst.items()},
        "computing": {phase: [round(gap.thread, 1), round(gap.process, 1)] for phase, gap in worst.items()},
        "most": {phase: round(max(gap.thread for gap in gaps), 1) for phase, gaps in beat.gaps.items() if phase},
        "measured": [survey.known.counts for survey in surveys],
        "measured_s": [round(times[at], 1) if at in times else None for at in range(len(surveys))],
        "preview_ms": round(previewed, 1),
        "apply_ms": round(applied, 1),
        "undo_ms": round(undone, 1),
        "p999": round(every[int(len(every) * 0.999)], 1),
        "keystroke_ms": round(sorted(keystrokes)[len(keystrokes) // 2], 1),
        "worst_keystroke_ms": round(max(keystrokes), 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:3])
