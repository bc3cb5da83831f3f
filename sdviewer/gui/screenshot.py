"""A picture of the window with a file, a comparison or a series in it, drawn offscreen, without waiting for a clock."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from PySide6.QtCore import QEventLoop, QSize, QTimer

from sdviewer.engine.client import NumbersPool
from sdviewer.errors import SaveError, UsageError
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.jobs import Body
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.plots.library import library

LONGEST = 120_000
"""Milliseconds after which a file that does not come is given up."""


def screenshot(
    out: str,
    paths: Sequence[str],
    *,
    theme: str = "light",
    select: str | None = None,
    series: bool = False,
    size: tuple[int, int] = (1440, 900),
) -> int:
    """Draw the window with a file, or with two that are compared, (none: the start page) into a PNG at `out`.

    `select` is a key; without it the largest tensor with two dimensions is shown, of two files the pair that changed
    most. `series`: they are checkpoints of one run, as those in a folder are that is none itself. `size` is in pixels.
    Returns the exit code.

    Raises:
        UsageError: no theme of this name, no such key.
        SaveError: the picture cannot be written.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from sdviewer.gui import resources
    from sdviewer.gui.app import make_application
    from sdviewer.gui.settings import Memory, Settings

    if theme not in ("light", "dark", "system"):
        raise UsageError(f"{theme!r} is no theme", remedy="It can be light, dark or system.")
    app = make_application()
    resources.dress(app, theme)  # type: ignore[arg-type]
    pool = NumbersPool()
    library().load_now()
    settings = Settings(Memory())
    settings.set("view/front", "tensors")  # it is of one tensor
    window = MainWindow(settings, pool)
    window.resize(QSize(*size))
    window.show()
    try:
        code = _show_series(window, paths) if series else _show(window, paths, select)
        app.processEvents()
        picture = window.grab()
        if not picture.save(out, "PNG"):
            raise SaveError("the picture could not be written", path=out, remedy="Choose another folder.")
    finally:
        window.close()
        pool.stop()
    return code


def _show(window: MainWindow, paths: Sequence[str], select: str | None) -> int:
    if len(paths) == 2:
        return _show_comparison(window, paths[0], paths[1], select)
    return _show_file(window, paths[0], select) if paths else 0


def _show_comparison(window: MainWindow, a: str, b: str, select: str | None) -> int:
    """Compare two files and wait until all pairs are compared and one of them is drawn; 3 where one cannot be read."""
    page = window.comparisons.compare(a, b)
    session = page.session
    loop = QEventLoop()
    timer = QTimer(singleShot=True)
    timer.timeout.connect(loop.quit)
    timer.start(LONGEST)
    session.open_failed.connect(loop.quit)

    def settle(body: object, buffers: object) -> None:
        if session.is_settled:
            loop.quit()

    session.where_changed.connect(settle)
    loop.exec()
    session.where_changed.disconnect(settle)
    if session.state != "open":
        return _not_opened(str(session.failure.get("path") or a), session.failure)
    row = _pair_of(session, select, loop)
    if row >= 0 and row != session.selected:
        session.reveal(row)
    elif session.facts and (session.facts["pair"] is None or page.pair.is_finished):
        return 0  # it stays what was shown from the start: a pair that is drawn, or no pair
    page.pair.finished.connect(lambda: loop.quit() if row < 0 or session.facts.get("row") == row else None)
    loop.exec()
    return 0


def _show_series(window: MainWindow, paths: Sequence[str]) -> int:
    """Open a series and wait until all that is measured by itself is shown; 3 where it is none."""
    window.series.open(list(paths))
    page = window.series.page
    assert page is not None
    loop = QEventLoop()
    timer = QTimer(singleShot=True)
    timer.timeout.connect(loop.quit)
    timer.start(LONGEST)
    page.session.open_failed.connect(loop.quit)
    page.settled.connect(loop.quit)
    loop.exec()
    return 0 if page.session.state == "open" else _not_opened(paths[0], page.session.failure)


def _not_opened(path: str, failure: Body) -> int:
    sys.stderr.write(f"sdviewer: {path}: {failure.get('message', 'it could not be opened')}.\n")
    return 3


def _pair_of(session: ComparisonSession, select: str | None, loop: QEventLoop) -> int:
    """The row of a key; without one the pair that changed most."""
    found: list[int] = []

    def answered(body: Body, buffers: object) -> None:
        found.extend(int(row) for row, key in body["rows"] if select is None or key == select)
        loop.quit()

    params = {"most_changed": True, "limit": 1} if select is None else {"text": select, "limit": 10_000}
    session.ask("find", params, answered)
    loop.exec()
    if not found and select is not None:
        raise UsageError(f"there is no tensor {select!r}", path=session.a)
    return found[0] if found else -1


def _show_file(window: MainWindow, path: str, select: str | None) -> int:
    """Open a file and wait until what is selected is there with its numbers and plots; 3 where it cannot be read."""
    window.open_paths([path])
    page = window.current_page()
    assert page is not None
    session = page.session
    loop = QEventLoop()
    timer = QTimer(singleShot=True)
    timer.timeout.connect(loop.quit)
    timer.start(LONGEST)
    session.open_failed.connect(loop.quit)
    session.opened.connect(lambda: QTimer.singleShot(0, loop.quit))
    loop.exec()
    if session.failure.get("code") == "several_checkpoints" and select is None:
        window.remove_tab(session)
        return _show_series(window, paths=[path])
    if session.state != "open":
        return _not_opened(path, session.failure)
    node = _node_of(page, select, loop)
    if node >= 0 and session.selection != [node]:
        session.reveal(node)
    page.detail.settled.connect(lambda: _leave_when_shown(page, node, loop))
    loop.exec()
    return 0


def _leave_when_shown(page: DocumentPage, node: int, loop: QEventLoop) -> None:
    if node < 0 or page.session.facts.get("row") == node:
        loop.quit()


def _node_of(page: DocumentPage, select: str | None, loop: QEventLoop) -> int:
    session = page.session
    if select is None:
        return _largest(page)
    found: list[int] = []

    def answered(body: object, buffers: object) -> None:
        rows = body["rows"]  # type: ignore[index]
        found.extend(int(node) for node, key in rows if key == select)
        loop.quit()

    session.ask("find", {"text": select, "limit": 10_000}, answered)
    loop.exec()
    if not found:
        raise UsageError(f"there is no tensor {select!r}", path=session.path)
    return found[0]


def _largest(page: DocumentPage) -> int:
    """The largest tensor with two dimensions, else the largest of all, else the first row."""
    sheet = page.session.sheet
    if sheet is None or not len(sheet):
        return -1
    params = sheet.columns["params"]
    kinds = {kind: [n for n in range(len(sheet)) if sheet.kind(n) == kind] for kind in ("tensor", "vector", "scalar")}
    flat = [node for node in kinds["tensor"] if sheet.shape(node).count("×") == 1]
    for nodes in (flat, kinds["tensor"], kinds["vector"], kinds["scalar"]):
        if nodes:
            return max(nodes, key=lambda node: (params[node], -node))
    return 0
