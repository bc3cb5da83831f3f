"""A picture of the window with a file in it, drawn offscreen, without waiting for a clock."""

from __future__ import annotations

import os
import sys

from PySide6.QtCore import QEventLoop, QSize, QTimer

from sdviewer.engine.client import NumbersPool
from sdviewer.errors import SaveError, UsageError
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.plots.library import library

LONGEST = 120_000
"""Milliseconds after which a file that does not come is given up."""


def screenshot(
    out: str, path: str | None, *, theme: str = "light", select: str | None = None, size: tuple[int, int] = (1440, 900)
) -> int:
    """Draw the window with the file at `path` (none: the start page) into a PNG at `out`; the exit code.

    `select` is a key; without it the largest tensor with two dimensions is shown. `size` is in pixels.

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
        code = _show_file(window, path, select) if path is not None else 0
        app.processEvents()
        picture = window.grab()
        if not picture.save(out, "PNG"):
            raise SaveError("the picture could not be written", path=out, remedy="Choose another folder.")
    finally:
        window.close()
        pool.stop()
    return code


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
    if session.state != "open":
        sys.stderr.write(f"sdviewer: {path}: {session.failure.get('message', 'it could not be opened')}.\n")
        return 3
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
