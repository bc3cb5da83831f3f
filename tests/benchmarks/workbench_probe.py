"""Repair a large file to fit in the window and tell its event loop's longest gaps, as JSON.

    python tests/benchmarks/workbench_probe.py MANY

MANY has 100,000 keys; the target is a list of them in which every layer is called otherwise, so that every key is a
problem until one suggestion is accepted. A heartbeat runs (`window_probe`) while the workbench is made a tab and
opened, while suggestions are looked for under scrolling, while one is previewed, accepted and undone, while rows are
filtered, shown in other ways and stepped through, and while a strict load is told.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from window_probe import Heartbeat, empty_window, spin, wait_for

from sdviewer.formats import open_checkpoint
from sdviewer.gui.workbench import WorkbenchSession

PATIENCE = 240
"""Seconds: matching 100,000 keys takes a minute on a busy machine."""
STEPS = 30


def until_settled(session: WorkbenchSession) -> None:
    """Let the event loop run until all is told that will be by itself."""
    start = time.perf_counter()
    while (session.looking or not session.is_settled) and time.perf_counter() - start < PATIENCE:
        spin(50)


def main(many: str) -> None:
    """Drive the window, print the gaps."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "keys.txt"
        keys = open_checkpoint(many).state_dicts[0].keys
        wanted.write_text("\n".join(key.replace("layers.", "blocks.") for key in keys))
        result = repair(many, str(wanted))
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


def repair(many: str, wanted: str) -> dict[str, object]:
    """The worst gap of each phase."""
    _app, window, _pool = empty_window()
    beat = Heartbeat()
    beat.phase = "repair, tab made and opened"
    page = window.workbenches.repair(many, {"name": wanted})
    session = page.session
    wait_for(session.sheet_changed, lambda: None)
    spin(500)
    beat.phase = "repair, scroll while suggestions are looked for"
    bar = page.pairs.view.verticalScrollBar()
    step = 0
    start = time.perf_counter()
    while (step < 150 or session.looking) and time.perf_counter() - start < PATIENCE:
        step += 1
        bar.setValue(bar.maximum() * (step % 150) // 150)
        spin(8)
    seconds = time.perf_counter() - start
    until_settled(session)
    proposed = len(session.suggestions)
    beat.phase = "repair, preview"
    for at in (-1, 0):
        wait_for(session.sheet_changed, lambda at=at: session.preview(at))
        spin(200)
    beat.phase = "repair, filter"
    keystrokes = []
    for text in ("q", "qk", "qkv", "qkv w", "", "norm", "layers.123", ""):
        keystrokes.append(wait_for(session.rows_changed, lambda text=text: session.set_filter(text)))
        spin(50)
    beat.phase = "repair, next problem"
    wait_for(session.sheet_changed, lambda: session.preview(-1))
    for _ in range(STEPS):
        wait_for(session.rows_changed, window.actions_by_id["next_difference"].trigger)
        spin(30)
    beat.phase = "repair, other tabs"
    for tab in ("all", "tree", "problems"):
        wait_for(session.sheet_changed, lambda tab=tab: page.pairs.show_tab(tab))
        spin(200)
    beat.phase = "repair, strict load"
    page.pairs.show_tab("strict")
    until_settled(session)
    spin(200)
    page.pairs.show_tab("problems")
    beat.phase = "repair, accept"
    accepted = wait_for(session.sheet_changed, lambda: session.accept(0))
    spin(500)
    beat.phase = "repair, undo"
    undone = wait_for(session.sheet_changed, window.actions_by_id["undo"].trigger)
    spin(500)
    beat.phase = ""
    worst = {phase: max(gaps) for phase, gaps in beat.gaps.items() if phase}
    return {
        "worst": {phase: round(gap.wall, 1) for phase, gap in worst.items()},
        "computing": {phase: [round(gap.thread, 1), round(gap.process, 1)] for phase, gap in worst.items()},
        "keystroke_ms": round(sorted(keystrokes)[len(keystrokes) // 2], 1),
        "seconds_to_suggestions": round(seconds, 1),
        "suggestions": proposed,
        "accept_ms": round(accepted),
        "undo_ms": round(undone),
        "counts": dict(session.told["counts"]),
    }


if __name__ == "__main__":
    main(sys.argv[1])
