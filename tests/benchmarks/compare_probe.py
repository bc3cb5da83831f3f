"""Compare two large files in the window and tell its event loop's longest gaps, as JSON.

    python tests/benchmarks/compare_probe.py MANY CHANGED

Both have 100,000 keys. A heartbeat runs (`window_probe`) while the comparison is made a tab and opened, while its pairs
are measured under scrolling, while it is filtered, a chip shows its pairs alone, one steps from difference to
difference, what is alike is hidden, rows are sorted and selected, a subtree of B is taken into A and that is undone.
"""

from __future__ import annotations

import json
import os
import sys
import time

from window_probe import LIMIT, Heartbeat, empty_window, spin, wait_for

from sdviewer.gui.comparison import ComparisonSession

STEPS = 30


def until_settled(session: ComparisonSession) -> None:
    """Let the event loop run until all is compared and told."""
    start = time.perf_counter()
    while not (session.is_settled and session.is_over) and time.perf_counter() - start < LIMIT / 1000:
        spin(50)


def main(many: str, changed: str) -> None:
    """Drive the window, print the gaps."""
    _app, window, _pool = empty_window()
    beat = Heartbeat()
    beat.phase = "compare, tab made and opened"
    page = window.comparisons.compare(many, changed)
    session = page.session
    wait_for(session.sheet_changed, lambda: None)
    spin(500)
    beat.phase = "compare, expand all"
    wait_for(session.rows_changed, session.expand_all)
    spin(100)
    bar = page.pairs.view.verticalScrollBar()
    beat.phase = "compare, scroll while all pairs are measured"
    step = 0
    start = time.perf_counter()
    while (step < 150 or not (session.is_settled and session.is_over)) and time.perf_counter() - start < LIMIT / 1000:
        step += 1
        bar.setValue(bar.maximum() * (step % 150) // 150)
        spin(8)
    beat.phase = "compare, filter"
    keystrokes = []
    for text in ("q", "qk", "qkv", "qkv w", "", "norm", "layers.123", ""):
        keystrokes.append(wait_for(session.rows_changed, lambda text=text: session.set_filter(text)))
        spin(50)
    beat.phase = "compare, chips"
    for names in (("changed",), ("shape", "only_a"), ()):
        wait_for(session.rows_changed, lambda names=names: page.pairs.chips.choose(names))
        spin(100)
    beat.phase = "compare, next difference"
    for _ in range(STEPS):
        wait_for(session.rows_changed, window.actions_by_id["next_difference"].trigger)
        spin(30)
    beat.phase = "compare, hide what is alike"
    for on in (True, False):
        wait_for(session.rows_changed, lambda on=on: page.pairs.hide_alike(on))
        spin(100)
    beat.phase = "compare, sort"
    for key in ("rel_l2", "name", "natural"):
        wait_for(session.rows_changed, lambda key=key: page.pairs.sort(key, key == "rel_l2"))
        spin(100)
    beat.phase = "compare, select"
    for row in range(5, 400, 13):
        page.pairs.view.selectRow(row)
        spin(20)
    beat.phase = "compare, take a subtree"
    # The last tensor that differs: below the block that holds it there is little to be named one by one.
    wait_for(session.rows_changed, lambda: page.pairs.chips.choose(("shape",)))
    model = page.pairs.model
    page.pairs.select_node(model.node(model.rowCount() - 1))
    wait_for(session.facts_changed, lambda: None)
    page.pairs.select_node(model.parent_of(session.selected))
    wait_for(session.facts_changed, lambda: None)
    took = wait_for(session.sheet_changed, window.actions_by_id["take"].trigger)
    until_settled(session)
    beat.phase = "compare, undo"
    undone = wait_for(session.sheet_changed, window.actions_by_id["undo"].trigger)
    until_settled(session)
    beat.phase = ""
    worst = {phase: max(gaps) for phase, gaps in beat.gaps.items() if phase}
    result = {
        "worst": {phase: round(gap.wall, 1) for phase, gap in worst.items()},
        "computing": {phase: [round(gap.thread, 1), round(gap.process, 1)] for phase, gap in worst.items()},
        "keystroke_ms": round(sorted(keystrokes)[len(keystrokes) // 2], 1),
        "take_ms": round(took),
        "undo_ms": round(undone),
        "counts": dict(session.told["counts"]),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:3])
