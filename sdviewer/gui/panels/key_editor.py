"""Editing a key in place: a field over its row, what is in the way below it while somebody types."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QKeyEvent
from PySide6.QtWidgets import QLabel, QLineEdit, QWidget

from sdviewer.core import text
from sdviewer.errors import SDViewerError
from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.step_dialog import TYPING_PAUSE
from sdviewer.gui.jobs import Body
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step
from sdviewer.repair.operations import Operation, Rename, ReplacePrefix
from sdviewer.repair.patterns import literal_rule

NARROWEST = 260
"""Pixels that the field has at least."""


class KeyEditor(QLineEdit):
    """The whole key, its last part selected. Return renames, Esc leaves it; a click elsewhere takes what is right."""

    closed = Signal()

    def __init__(self, parent: QWidget, session: Session, key: str, *, module: bool) -> None:
        super().__init__(key.rstrip(".") if module else key, parent)
        self._session = session
        self._key = key
        self._module = module
        self._step: Step | None = None
        self._wants = False
        self._over = False
        self.setProperty("mono", True)
        self.setAccessibleName("New path of the module" if module else "New key")
        self.says = QLabel(parent)
        self.says.setTextFormat(Qt.TextFormat.PlainText)
        self.says.setProperty("role", "balloon")
        self.says.setWordWrap(True)
        self.says.hide()
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        self.textChanged.connect(self._typed)
        last = self.text().rpartition(".")[2]
        self.setSelection(len(self.text()) - len(last), len(last))

    def show_over(self, row: QRect, left: int, inside: QRect) -> None:
        """Stand over a row, from `left` to where the view ends."""
        wide = max(inside.right() - left - 4, min(NARROWEST, inside.width() - 8))
        self.setGeometry(inside.right() - 4 - wide, row.top() - 1, wide, row.height() + 2)
        self.setTextMargins(0, 0, 0, 0)
        self._place_words()
        self.show()
        self.setFocus(Qt.FocusReason.OtherFocusReason)

    def step(self) -> Operation | None:
        """What is typed as a step, None where nothing changes.

        Raises:
            UsageError: it is no key.
        """
        typed = self.text()
        if self._module:
            return ReplacePrefix(old=self._key, new=f"{typed.rstrip('.')}." if typed else "") if self._new() else None
        return Rename(rules=(literal_rule(self._key, typed),)) if self._new() else None

    def _new(self) -> bool:
        return self.text() != (self._key.rstrip(".") if self._module else self._key)

    def _typed(self) -> None:
        self._step, self._wants = None, False
        self._pause.start()

    def _ask(self) -> None:
        self._pause.stop()
        try:
            if not self.text() and not self._module:
                self._say("A key cannot be empty.")
                return
            operation = self.step()
        except SDViewerError as error:
            self._say(f"{error.message}. {error.remedy}".strip())
            return
        if operation is None:
            self._session.jobs.drop("preview")
            self._say("")
            if self._wants:
                self._close()
            return
        self._session.preview(operation, 1, lambda preview: self._show(Step.of(operation), preview))

    def _show(self, step: Step, preview: Body) -> None:
        if self._pause.isActive() or self._over:
            return
        problems = [*([preview["error"]] if preview.get("error") else []), *preview["problems"]]
        self._say(str(problems[0]) if problems else "")
        if problems:
            self._wants = False
            return
        self._step = step
        if self._wants:
            self._commit()

    def _say(self, words: str) -> None:
        widgets.set_property(self, "wrong", bool(words))
        self.says.setText(text.visible(words, 300))
        self.setAccessibleDescription(words)
        self.says.setVisible(bool(words))
        self._place_words()

    def _place_words(self) -> None:
        if self.says.text():
            metrics = QFontMetrics(resources.font(resources.NOTE))
            room = QRect(0, 0, self.width() - 16, 400)
            high = metrics.boundingRect(room, int(Qt.TextFlag.TextWordWrap), self.says.text()).height() + 12
            parent = self.says.parentWidget()
            assert parent is not None
            below = self.geometry().bottom() + 2
            top = below if below + high < parent.height() else self.geometry().top() - high - 2
            self.says.setGeometry(self.geometry().left(), top, self.width(), high)
            self.says.raise_()

    def _commit(self) -> None:
        step = self._step
        self._close()
        if step is not None:
            self._session.apply(step)

    def close_now(self) -> None:
        """Leave everything as it is: the rows below have changed."""
        self._close()

    def _close(self) -> None:
        if self._over:
            return
        self._over = True
        self._pause.stop()
        self._session.jobs.drop("preview")
        self.says.hide()
        self.hide()
        self.says.deleteLater()
        self.deleteLater()
        self.closed.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._close()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._wants = True
            if self._step is not None:
                self._commit()
            else:
                self._ask()
        else:
            super().keyPressEvent(event)
        event.accept()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        # A menu of the field itself gives the focus back.
        if event.reason() not in (Qt.FocusReason.PopupFocusReason, Qt.FocusReason.ActiveWindowFocusReason):
            self._commit()
