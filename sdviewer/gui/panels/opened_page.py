"""A tab whose contents come after a wait; or that they are being read, or why they could not be."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Protocol

from PySide6.QtCore import Qt, QTimer, Signal, SignalInstance
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.details import Details
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.status_bar import BAR_AFTER, SAY_AFTER
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.widgets import IconLabel

WORDS: Final = 720
"""Pixels of the lines of why a file could not be opened."""
DETAILS: Final = 180
"""Pixels of what somebody's code printed."""


class Opens(Protocol):
    """A session that opens something."""

    @property
    def name(self) -> str: ...
    @property
    def opening_progressed(self) -> SignalInstance: ...
    def open(self) -> None: ...
    def cancel_opening(self) -> None: ...


class OpenedPage(QWidget):
    """One tab. What is opened is added to `_stack`, in front of which is at first that it is being opened."""

    close_requested = Signal()
    series_requested = Signal()

    def __init__(self, session: Opens) -> None:
        super().__init__()
        self.setObjectName("page")
        self._opens = session
        self._opening = OpeningPage(session.name)
        self._opening.cancel.clicked.connect(session.cancel_opening)
        session.opening_progressed.connect(self._opening.show_progress)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._opening)

    @cached_property
    def failed(self) -> FailedPage:
        """Why nothing could be opened."""
        made = FailedPage()
        self._stack.addWidget(made)
        made.again.clicked.connect(self._open_again)
        made.close_tab.clicked.connect(self.close_requested)
        made.series.clicked.connect(self.series_requested)
        return made

    def _open_again(self) -> None:
        self._opening.begin()
        self._stack.setCurrentWidget(self._opening)
        self._opens.open()

    def tell_failure(self, name: str, path: str, failure: Body) -> None:
        """Say why it could not be opened; the act that helps has the focus."""
        self._opening.end()
        self.failed.show_failure(name, path, failure)
        self._stack.setCurrentWidget(self.failed)
        self.failed.take_focus()


class OpeningPage(QWidget):
    """Nothing at first, then words, then a bar and Cancel."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._words = widgets.label(f"Opening {name}…", "second")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, 0)
        self._bar.setFixedWidth(260)
        self.cancel = widgets.button("Cancel")
        self.printed = Details(self, "What its code printed")
        self.printed.block.setFixedSize(WORDS, DETAILS)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.printed.button)
        buttons.addWidget(self.cancel)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setSpacing(14)
        column.addStretch(2)
        for part in (self._words, self._bar, self.printed.block):
            column.addWidget(part, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addLayout(buttons)
        column.addStretch(3)
        self._say = QTimer(self, interval=SAY_AFTER, singleShot=True)
        self._say.timeout.connect(self._words.show)
        self._more = QTimer(self, interval=BAR_AFTER, singleShot=True)
        self._more.timeout.connect(self._show_bar)
        self.begin()

    def begin(self) -> None:
        """Start to wait."""
        self.printed.tell("")
        for part in (self._words, self._bar, self.cancel):
            part.hide()
        self._say.start()
        self._more.start()

    def say(self, words: str) -> None:
        """What is waited for, where it is more than a file."""
        self._words.setText(words)

    def end(self) -> None:
        """There is an answer."""
        self._say.stop()
        self._more.stop()

    def _show_bar(self) -> None:
        self._bar.show()
        self.cancel.show()

    def show_progress(self, fraction: float) -> None:
        """How far it is, -1 for unknown."""
        self._bar.setRange(0, 0 if fraction < 0 else 1000)
        if fraction >= 0:
            self._bar.setValue(round(fraction * 1000))


class FailedPage(QWidget):
    """Why a file could not be opened and what to do about it."""

    def __init__(self) -> None:
        super().__init__()
        self._what = widgets.label("", "heading")
        self._path = widgets.label("", "hint")
        self._why = widgets.label("", "second")
        self._remedy = widgets.label("")
        for words in (self._what, self._path, self._why, self._remedy):
            words.setWordWrap(True)
            words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.again = widgets.button("Try again", "refresh")
        self.close_tab = widgets.button("Close tab")
        self.series = widgets.button("Open as a series", "history", primary=True)
        self.other = widgets.button("")
        self.other.hide()
        self.details = Details(self)
        self.details.block.setFixedHeight(DETAILS)
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addStretch(2)
        column.addWidget(IconLabel("warn", 40, "S"), 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(6)
        # Of a width of its own: a layout asks words that wrap for the height that they have in all of its width.
        told = QWidget()
        told.setFixedWidth(WORDS)
        inside = QVBoxLayout(told)
        inside.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(told)
        row.addStretch(1)
        for words in (self._what, self._why, self._remedy, self._path):
            inside.addWidget(words)
        inside.addWidget(self.details.block)
        column.addLayout(row)
        column.addSpacing(8)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.series)
        buttons.addWidget(self.other)
        buttons.addWidget(self.again)
        buttons.addWidget(self.details.button)
        buttons.addWidget(self.close_tab)
        buttons.addStretch(1)
        column.addLayout(buttons)
        column.addStretch(3)

    def show_failure(self, name: str, path: str, failure: Body) -> None:
        """Tell an opening that did not succeed."""
        if failure.get("code") == "cancelled":
            self._what.setText(f"{name} was not opened")
            self._why.setText("You stopped it.")
            self._remedy.setText("")
        else:
            what, why = failure_words(failure)
            several = failure.get("code") == "several_checkpoints"
            self._what.setText(f"{name} holds several checkpoints" if several else f"Could not read {name}")
            self._why.setText(what)
            self._remedy.setText(why if not several else "Open one of them, or all of one run as a series.")
        self._remedy.setVisible(bool(self._remedy.text()))
        self.series.setVisible(failure.get("code") == "several_checkpoints")
        self._path.setText(text.visible(path, 400))
        self.details.tell(str(failure.get("details") or ""))

    def offer(self, words: str) -> None:
        """Another act that helps (`other`), "" for none."""
        self.other.setText(words)
        self.other.setVisible(bool(words))

    def take_focus(self) -> None:
        """To what helps most: Space does it."""
        (self.again if self.series.isHidden() else self.series).setFocus()

    def words(self) -> str:
        """What is said, in one line."""
        return " ".join(part.text() for part in (self._what, self._why, self._remedy))
