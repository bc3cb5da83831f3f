"""A frame keeps changes of what it holds from the window around it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from sdviewer.gui.widgets import Frame


class LayoutRequests(QObject):
    """Counts how often a widget is asked to lay itself out."""

    def __init__(self, watched: QWidget) -> None:
        super().__init__(watched)
        self.count = 0
        watched.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        self.count += event.type() == QEvent.Type.LayoutRequest
        return False


def _settle() -> None:
    """Let each layout tell the one above it."""
    for _ in range(10):
        QApplication.processEvents()


def _framed(qtbot: QtBot) -> tuple[QWidget, Frame, QLabel]:
    window, held, words = QWidget(), QWidget(), QLabel("words")
    QVBoxLayout(held).addWidget(words)
    words.setMinimumWidth(10)
    frame = Frame(held)
    QVBoxLayout(window).addWidget(frame)
    qtbot.addWidget(window)
    window.resize(400, 300)
    window.show()
    _settle()
    return window, frame, words


def test_that_a_word_that_changes_does_not_lay_the_window_out(app: QApplication, qtbot: QtBot) -> None:
    window, frame, words = _framed(qtbot)
    around, inside = LayoutRequests(window), LayoutRequests(frame)
    words.setText("other words that are longer")
    qtbot.waitUntil(lambda: inside.count > 0)
    _settle()
    assert not around.count


def test_that_what_needs_more_room_gets_it(app: QApplication, qtbot: QtBot) -> None:
    window, frame, words = _framed(qtbot)
    words.setMinimumHeight(500)
    qtbot.waitUntil(lambda: window.height() > 500)
    assert frame.height() >= 500
    assert words.height() >= 500
