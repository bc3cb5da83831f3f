"""A tensor dragged out of the window."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QDragEnterEvent
from pytestqt.qtbot import QtBot

from sdviewer.gui.dragged import FILES, ROWS_MIME, DraggedRows
from sdviewer.gui.main_window import MainWindow
from tests.gui.conftest import Opened, front, sheet_of


def row_of(window: MainWindow, shape: str) -> int:
    sheet = sheet_of(window)
    return next(row for row in range(len(sheet)) if sheet.shape(row) == shape)


def dragged(window: MainWindow, node: int) -> DraggedRows:
    page = front(window)
    return page.tree.view.dragged(node)


def test_that_a_dragged_tensor_is_a_numpy_file_for_who_takes_it(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    node = row_of(window, "3×4")
    with qtbot.waitSignal(session.facts_changed, timeout=30_000):
        session.reveal(node)
    data = dragged(window, node)
    assert data.hasFormat(ROWS_MIME)
    assert data.hasUrls()
    (url,) = data.urls()
    path = Path(url.toLocalFile())
    assert path.name == "module.head.weight.npy"
    assert np.array_equal(np.load(path), np.arange(12, dtype=np.float32).reshape(3, 4))
    assert data.urls() == [url]
    FILES.remove()
    assert not path.exists()


def test_that_what_a_killed_program_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, mine = tmp_path / f"sdviewer-dragged-{dead.pid}-x", tmp_path / f"sdviewer-dragged-{os.getpid()}-x"
    left.mkdir()
    mine.mkdir()
    FILES.remove()
    place = FILES.place("a.npy")
    assert place.parent.parent.parent == tmp_path
    assert not left.exists()
    assert mine.exists()
    FILES.remove()
    assert not place.parent.exists()


def test_that_nothing_is_written_before_somebody_takes_it(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    opened(checkpoint)
    FILES.remove()
    data = dragged(window, row_of(window, "3×4"))
    assert "text/uri-list" in data.formats()
    assert FILES.folder is None


def test_that_a_module_and_several_rows_are_for_the_tree_alone(
    window: MainWindow, opened: Opened, checkpoint: Path
) -> None:
    opened(checkpoint)
    for node in (0, -1):
        data = dragged(window, node)
        assert data.hasFormat(ROWS_MIME)
        assert not data.hasUrls()


def test_that_a_tensor_over_its_own_window_is_no_file_to_open(
    window: MainWindow, opened: Opened, checkpoint: Path
) -> None:
    opened(checkpoint)
    data = dragged(window, row_of(window, "3×4"))
    event = QDragEnterEvent(
        QPointF(5, 5).toPoint(),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.dragEnterEvent(event)
    assert not event.isAccepted()
    assert FILES.folder is None
