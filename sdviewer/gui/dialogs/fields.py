"""The widgets of a form's entries: each shows a field of a step's table and gives its value back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QCheckBox, QLineEdit, QPlainTextEdit, QWidget

from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.forms.form import Entry
from sdviewer.gui.widgets import Choice

ARROW: Final = " -> "


class FieldWidget(QObject):
    """One entry on the screen. `value` is None for what is left out of the table."""

    changed = Signal()

    def __init__(self, entry: Entry, widget: QWidget) -> None:
        super().__init__(widget)
        self.entry = entry
        self.widget = widget
        widget.setAccessibleName(entry.label.replace("&", ""))

    def value(self) -> Any:
        """What is filled in, as a step's table has it."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Fill in what a table has; None: nothing."""
        raise NotImplementedError

    def set_wrong(self, wrong: bool) -> None:
        """Mark it as what is wrong."""
        widgets.set_property(self.widget, "wrong", wrong)


class TextField(FieldWidget):
    """One line."""

    def __init__(self, entry: Entry) -> None:
        self.line = QLineEdit()
        self.line.setPlaceholderText(entry.placeholder)
        self.line.setProperty("mono", entry.name != "why")
        self.line.setMinimumHeight(30)
        super().__init__(entry, self.line)
        self.line.textChanged.connect(self.changed)

    def value(self) -> Any:
        return self.line.text() or ("" if self.entry.needed else None)

    def set_value(self, value: Any) -> None:
        self.line.setText(str(value or ""))


class NumberField(TextField):
    """A whole number, or nothing."""

    def value(self) -> Any:
        typed = self.line.text().strip().replace(",", "")
        # What is no number goes to the worker as it is, which says so.
        return (int(typed) if typed.isascii() and typed.isdigit() else typed) if typed else None

    def set_value(self, value: Any) -> None:
        self.line.setText("" if value is None else str(value))


class ValueField(TextField):
    """A plain value as Python writes it: true, 4, 0.1, None; anything else is a text, in quotes where it looks so."""

    def value(self) -> Any:
        typed = self.line.text()
        words = {"true": True, "false": False, "none": {"repr": "None"}}
        if typed.strip().lower() in words:
            return words[typed.strip().lower()]
        for read in (int, float):
            try:
                return read(typed)
            except ValueError:
                continue
        quoted = len(typed) > 1 and typed[0] == typed[-1] and typed[0] in "\"'"
        return typed[1:-1] if quoted else typed

    def set_value(self, value: Any) -> None:
        if isinstance(value, dict):
            self.line.setText("None")
        elif isinstance(value, str):
            self.line.setText(value)
            if self.value() != value:
                self.line.setText(f'"{value}"')
        else:
            self.line.setText("" if value is None else str(value))


class LinesField(FieldWidget):
    """A list of texts, one a line."""

    def __init__(self, entry: Entry) -> None:
        self.text = QPlainTextEdit()
        self.text.setPlaceholderText(entry.placeholder)
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setFont(resources.font(resources.NOTE, mono=True))
        self.text.setFixedHeight(QFontMetrics(self.text.font()).lineSpacing() * 4 + 16)
        super().__init__(entry, self.text)
        self.text.textChanged.connect(self.changed)

    def value(self) -> Any:
        return self._lines() or None

    def set_value(self, value: Any) -> None:
        self.text.setPlainText("\n".join([value] if isinstance(value, str) else map(str, value or ())))

    def _lines(self) -> list[str]:
        return [line for line in self.text.toPlainText().split("\n") if line.strip()]


class RulesField(LinesField):
    """Pairs of texts, one pair a line with an arrow between."""

    def value(self) -> Any:
        cut = [line.partition(ARROW) for line in self._lines()]
        return [[old.strip(), new.strip()] for old, _, new in cut] or None

    def set_value(self, value: Any) -> None:
        self.text.setPlainText("\n".join(ARROW.join(rule) for rule in value or ()))


class ChoiceField(FieldWidget):
    """One of a few."""

    def __init__(self, entry: Entry) -> None:
        self.box = Choice(entry.label)
        for value, words in entry.choices:
            self.box.addItem(words, value)
        super().__init__(entry, self.box)
        self.box.currentIndexChanged.connect(lambda _: self.changed.emit())

    def value(self) -> Any:
        chosen = self.box.currentData()
        return None if self.box.currentIndex() == 0 and not self.entry.needed else chosen

    def set_value(self, value: Any) -> None:
        at = self.box.findData(value) if value is not None else 0
        if at < 0:
            self.box.addItem(str(value), value)  # what a recipe may say and the form does not offer
            at = self.box.count() - 1
        self.box.setCurrentIndex(at)


class FlagField(FieldWidget):
    """Yes or no."""

    def __init__(self, entry: Entry) -> None:
        self.box = QCheckBox(entry.label)
        super().__init__(entry, self.box)
        self.box.toggled.connect(lambda _: self.changed.emit())

    def value(self) -> Any:
        return True if self.box.isChecked() else None

    def set_value(self, value: Any) -> None:
        self.box.setChecked(bool(value))


FIELDS: Final[dict[str, Callable[[Entry], FieldWidget]]] = {
    "text": TextField,
    "number": NumberField,
    "value": ValueField,
    "lines": LinesField,
    "rules": RulesField,
    "choice": ChoiceField,
    "flag": FlagField,
}
"""The widget of each kind of entry."""


def make_field(entry: Entry) -> FieldWidget:
    """The widget of an entry."""
    return FIELDS[entry.kind](entry)
