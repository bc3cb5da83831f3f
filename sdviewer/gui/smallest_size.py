"""The smallest size of a window, which no screen is too small for."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QObject, QSize
from PySide6.QtGui import QGuiApplication, QScreen
from PySide6.QtWidgets import QWidget

FRAME: Final = QSize(16, 40)
"""What a frame takes at the most; how much it does is known only when the window has been shown for a while."""


def room_on(screen: QScreen) -> QSize:
    """How large a window with a frame can be."""
    return screen.availableSize() - FRAME


class SmallestSize(QObject):
    """Keeps it at what a window wants, or at what its screen has for windows where that is less.

    A screen of 1440×900 at 150 % has 960×600 of the pixels that windows count, without panels and the frame.
    """

    def __init__(self, window: QWidget, wanted: QSize) -> None:
        super().__init__(window)
        self._window = window
        self._wanted = wanted
        self._followed: QObject | None = None
        for screen in QGuiApplication.screens():
            self._watch(screen)
        app = QGuiApplication.instance()
        assert isinstance(app, QGuiApplication)
        app.screenAdded.connect(self._watch)
        self._adapt()

    def follow(self) -> None:
        """From now on also when the window, which is shown, goes to another screen."""
        handle = self._window.windowHandle()
        if handle is not None and handle is not self._followed:
            self._followed = handle
            handle.screenChanged.connect(self._adapt)
        self._adapt()

    def _watch(self, screen: QScreen) -> None:
        screen.availableGeometryChanged.connect(self._adapt)

    def _adapt(self) -> None:
        self._window.setMinimumSize(self._wanted.boundedTo(room_on(self._window.screen())))
