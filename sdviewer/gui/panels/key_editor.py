"""Editing in place, a key or a value: a field over its row, what is in the way below it while somebody types."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QRect, Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QKeyEvent
from PySide6.QtWidgets import QLabel, QLineEdit, QWidget

from sdviewer.core import text
from sdviewer.errors import SDViewerError, UsageError
from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.fields import plain_text, plain_value
from sdviewer.gui.dialogs.step_dialog import TYPING_PAUSE
from sdviewer.gui.jobs import Body
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step
from sdviewer.repair.operations import Operation, Rename, ReplacePrefix, SetValue
from sdviewer.repair.patterns import literal_rule

NARROWEST = 260
"""Pixels that the field has at least."""


class InPlace(QLineEdit):
    """A field over what it edits. Return takes what is typed, Esc leaves it; a click elsewhere takes what is right.

    What needs a second thought is said first: then Return once more takes it, and a click elsewhere does not.
    """

    closed = Signal()

    def __init__(self, parent: QWidget, session: Session, shown: str, name: str) -> None:
        super().__init__(shown, parent)
        self._session = session
        self.state_dict = ""
        """What is edited, where that is not told by what is selected in the session."""
        self._shown = shown
        self._step: Step | None = None
        self._warning = ""
        self._wants = False
        self._leaves = False
        self._over = False
        self.setProperty("mono", True)
        self.setAccessibleName(name)
        self.says = QLabel(parent)
        self.says.setTextFormat(Qt.TextFormat.PlainText)
        self.says.setProperty("role", "balloon")
        self.says.setWordWrap(True)
        self.says.hide()
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        self.textChanged.connect(self._typed)
        self.selectAll()

    def show_over(self, row: QRect, left: int, inside: QRect) -> None:
        """Stand over a row, from `left` to where the view ends."""
        wide = max(inside.right() - left - 4, min(NARROWEST, inside.width() - 8))
        self.setGeometry(inside.right() - 4 - wide, row.top() - 1, wide, row.height() + 2)
        self.place()

    def place(self) -> None:
        """Be seen where the geometry says."""
        self.setTextMargins(0, 0, 0, 0)
        self._place_words()
        self.show()
        self.setFocus(Qt.FocusReason.OtherFocusReason)

    def look(self, typed: str) -> None:
        """Find out what is typed means, and tell `found`.

        Raises:
            SDViewerError: it means nothing.
        """
        raise NotImplementedError

    def _typed(self) -> None:
        self._step, self._wants, self._warning = None, False, ""
        self._pause.start()

    def _ask(self) -> None:
        self._pause.stop()
        if self.text() == self._shown:
            self._session.jobs.drop("preview")
            self._say("")
            if self._wants:
                self._close()
            return
        try:
            self.look(self.text())
        except SDViewerError as error:
            self._say(f"{error.message}. {error.remedy}".strip())
            if self._leaves:
                self._close()

    def found(self, step: Step | None, problem: str, warning: str = "") -> None:
        """What is typed means this step, or something is in its way."""
        if self._pause.isActive() or self._over:
            return
        if self._leaves and (problem or warning):
            self._close()
            return
        self._say(problem or (f"{warning} Return once more takes it." if warning else ""), wrong=bool(problem))
        if problem:
            self._wants = False
            return
        self._step, self._warning = step, warning
        if warning:
            self._wants = False
        elif self._wants:
            self._commit()

    def preview(self, operation: Operation) -> None:
        """Ask what a step would do, and tell `found`."""
        step = Step.of(operation)
        self._session.preview(operation, 1, lambda preview: self._previewed(step, preview), state_dict=self.state_dict)

    def _previewed(self, step: Step, preview: Body) -> None:
        problems = [*([preview["error"]] if preview.get("error") else []), *preview["problems"]]
        warnings = [str(warning) for warning in preview.get("warnings") or ()]
        self.found(step, str(problems[0]) if problems else "", f"{warnings[0]}." if warnings else "")

    def _say(self, words: str, *, wrong: bool = True) -> None:
        widgets.set_property(self, "wrong", wrong and bool(words))
        widgets.set_property(self.says, "role", "balloon" if wrong else "caution")
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
        if self._over:
            return  # hiding it takes its focus away, which commits too
        step = self._step
        self._close()
        if step is not None:
            self.take(step)

    def take(self, step: Step) -> None:
        """Put what was typed into the recipe."""
        self._session.apply(step, self.state_dict)

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
            if self._warning or self.property("wrong"):
                self._close()
            elif self._step is not None:
                self._commit()
            elif not self._over:
                # What was typed last is not looked at yet: it is taken if nothing stands against it.
                self._wants = self._leaves = True
                self._ask()


class KeyEditor(InPlace):
    """The whole key, or path of a module; its last part is selected."""

    def __init__(self, parent: QWidget, session: Session, key: str, *, module: bool) -> None:
        shown = key.rstrip(".") if module else key
        super().__init__(parent, session, shown, "New path of the module" if module else "New key")
        self._key = key
        self._module = module
        last = shown.rpartition(".")[2]
        self.setSelection(len(shown) - len(last), len(last))

    def look(self, typed: str) -> None:
        if self._module:
            self.preview(ReplacePrefix(old=self._key, new=f"{typed.rstrip('.')}." if typed else ""))
        elif typed:
            self.preview(Rename(rules=(literal_rule(self._key, typed),)))
        else:
            raise UsageError("a key cannot be empty")


class ValueEditor(InPlace):
    """A plain value as Python writes it. It keeps its type where it can: a text is a text whatever it looks like."""

    def __init__(self, parent: QWidget, session: Session, plain: Body) -> None:
        self._plain = plain
        value = plain["value"]
        shown = str(value) if plain["type"] == "str" else plain_text(value)
        super().__init__(parent, session, shown, f"New value of {text.visible(str(plain['path']), 80)}")

    def look(self, typed: str) -> None:
        value: Any = typed if self._plain["type"] == "str" else plain_value(typed)
        if self._plain["type"] == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        self.preview(SetValue(path=str(self._plain["path"]), value=None if isinstance(value, dict) else value))
