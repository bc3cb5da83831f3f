"""Open a series in the window and tell its event loop's longest gaps, as JSON.

    python tests/benchmarks/series_probe.py FOLDER

A heartbeat of 1 ms runs while the files are found and read, while the list of files is scrolled and steps are selected
as the rest is read and measured, while another number is drawn, while measuring is stopped, and while all is read again
and that is given up. A gap is the time between two beats: `worst` on the clock, `most` as much as the window's thread
computed in any of them, which a busy machine does not change.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from sdviewer.gui.panels.series.page import SeriesPage
from tests.benchmarks.window_probe import Heartbeat, empty_window, spin, wait_for

MEASURED = 15_000
"""Milliseconds that measuring is watched."""


def main(folder: str) -> None:
    """Drive the window, print the gaps."""
    _app, window, pool = empty_window()
    beat = Heartbeat()
    beat.phase = "open"
    window.series.open([folder])
    page = window.series.page
    assert page is not None
    session = page.session
    wait_for(session.opened, lambda: None)
    spin(500)
    beat.phase = "scroll while it is read"
    for step in range(100):
        _scroll(page, step / 100)
        spin(20)
    beat.phase = "read"
    if session.info["read"] < session.info["files"]:
        wait_for(session.all_read, lambda: None)
    beat.phase = "scroll while it is measured"
    for step in range(MEASURED // 50):
        _scroll(page, step * 50 / MEASURED)
        spin(50)
    beat.phase = "select steps"
    for step in range(0, int(session.info["files"]), max(int(session.info["files"]) // 40, 1)):
        page.files.table.selectRow(step)
        spin(30)
    beat.phase = "another number, another metric"
    for card, what in ((page.norm, "previous"), (page.norm, "first"), (page.change, "first"), (page.norm, "norm")):
        card._choose(what)
        spin(500)
    beat.phase = "stop measuring"
    session.cancel_job()
    spin(500)
    beat.phase = "read again, and give up"
    page.reload()
    spin(1500)
    session.cancel_job()
    spin(500)
    beat.phase = "close"
    window.series.close(page)
    spin(200)
    pool.stop()
    worst = {phase: max(gaps) for phase, gaps in beat.gaps.items() if phase}
    result = {
        "worst": {phase: round(gap.wall, 1) for phase, gap in worst.items()},
        "most": {phase: round(max(gap.thread for gap in gaps), 1) for phase, gaps in beat.gaps.items() if phase},
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _scroll(page: SeriesPage, share: float) -> None:
    for bar in (page.files.table.verticalScrollBar(), page.keys.scroller.verticalScrollBar()):
        bar.setValue(round(bar.maximum() * share))


if __name__ == "__main__":
    main(sys.argv[1])
