"""The widgets of a form's entries: each shows a field of a step's table and gives its value back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QCheckBox, QCompleter, QFileDialog, QHBoxLayout, QLineEdit, QPlainTextEdit, QWidget

from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.forms.form import Entry
from sdviewer.gui.widgets import Choice

ARROW: Final = " -> "
EQUALS: Final = " = "
NOTHING: Final = '""'
"""How an empty text is written in a list."""
_BETWEEN: Final = re.compile(r"[\s,;×x]+")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,30}")


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


class FileField(TextField):
    """The path of a file: typed, or chosen."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.browse = widgets.button("Browse…", "open")
        self.browse.setAccessibleName(f"Choose: {self.line.accessibleName()}")
        self.browse.clicked.connect(self._choose)
        self.widget = QWidget()
        self.widget.setFocusProxy(self.line)
        row = QHBoxLayout(self.widget)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.line, 1)
        row.addWidget(self.browse)

    def set_wrong(self, wrong: bool) -> None:
        widgets.set_property(self.line, "wrong", wrong)

    def _choose(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.widget, "Choose a checkpoint", self.line.text())
        if path:
            self.line.setText(path)


class NumberField(TextField):
    """A whole number, or nothing."""

    def value(self) -> Any:
        typed = self.line.text().strip().replace(",", "")
        # What is no number goes to the worker as it is, which says so.
        return _whole(typed) if typed else None

    def set_value(self, value: Any) -> None:
        self.line.setText("" if value is None else str(value))


class NumbersField(TextField):
    """Whole numbers with commas or blanks between, in brackets or not; "()" is a list of none."""

    def value(self) -> Any:
        typed = self.line.text().strip()
        inside = typed.strip("[]()").strip(" ,")
        if not inside:
            return [] if typed else None
        return [_whole(piece) for piece in _BETWEEN.split(inside)] if inside[0] in "+-0123456789" else inside

    def set_value(self, value: Any) -> None:
        if isinstance(value, list):
            self.line.setText(", ".join(map(str, value)) or "()")
        else:
            self.line.setText("" if value is None else str(value))


class DecimalField(NumberField):
    """Any number, or nothing."""

    def value(self) -> Any:
        typed = self.line.text().strip()
        return scalar(typed) if typed else None


class ValueField(TextField):
    """A plain value as Python writes it: true, 4, 0.1, None; anything else is a text, in quotes where it looks so."""

    def value(self) -> Any:
        return plain_value(self.line.text())

    def set_value(self, value: Any) -> None:
        self.line.setText(plain_text(value))


class ScalarField(TextField):
    """A number, or one of a few words."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        if entry.choices:
            words = QCompleter([word for word, _ in entry.choices], self.line)
            words.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
            self.line.setCompleter(words)

    def value(self) -> Any:
        typed = self.line.text().strip()
        return scalar(typed) if typed else None

    def set_value(self, value: Any) -> None:
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


class TemplatesField(LinesField):
    """A list of texts, one a line, an empty one as two quotes."""

    def value(self) -> Any:
        return [piece.replace(NOTHING, "") if piece.strip() == NOTHING else piece for piece in self._lines()] or None

    def set_value(self, value: Any) -> None:
        super().set_value([str(piece) or NOTHING for piece in value or ()])


class ScalarsField(LinesField):
    """Numbers, with commas or line breaks between."""

    def value(self) -> Any:
        pieces = [piece.strip() for piece in re.split(r"[,;\n]", self.text.toPlainText())]
        return [scalar(piece) for piece in pieces if piece] or None

    def set_value(self, value: Any) -> None:
        super().set_value([", ".join(map(str, value))] if value else None)


class RulesField(LinesField):
    """Pairs of texts, one pair a line with an arrow between."""

    def value(self) -> Any:
        cut = [line.partition(ARROW) for line in self._lines()]
        return [[left.strip(), right.strip()] for left, _, right in cut] or None

    def set_value(self, value: Any) -> None:
        self.text.setPlainText("\n".join(ARROW.join(rule) for rule in value or ()))


class PairsField(LinesField):
    """Texts by their names, one a line; what a line cannot hold stands in quotes, as JSON writes it."""

    def value(self) -> Any:
        pairs = [_pair(line) for line in self._lines()]
        return [[name, value] for name, value in pairs] or None

    def set_value(self, value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else value or ()
        lines = [_in_quotes(str(name)) + EQUALS + _in_quotes(str(inner)) for name, inner in pairs]
        self.text.setPlainText("\n".join(lines))


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
    "numbers": NumbersField,
    "decimal": DecimalField,
    "value": ValueField,
    "scalar": ScalarField,
    "scalars": ScalarsField,
    "lines": LinesField,
    "templates": TemplatesField,
    "rules": RulesField,
    "pairs": PairsField,
    "choice": ChoiceField,
    "flag": FlagField,
    "file": FileField,
}
"""The widget of each kind of entry."""


def make_field(entry: Entry) -> FieldWidget:
    """The widget of an entry."""
    return FIELDS[entry.kind](entry)


def plain_value(typed: str) -> Any:
    """What a person means who types a plain value, as a step's table has it."""
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


def plain_text(value: Any) -> str:
    """What `plain_value` reads as this; "" for nothing."""
    if isinstance(value, dict):
        return "None"
    if isinstance(value, str):
        return value if plain_value(value) == value else f'"{value}"'
    return "" if value is None else str(value)


def scalar(typed: str) -> Any:
    """One number as a step's table has it: what is not finite, complex or no number at all is a text there."""
    if typed in ("True", "False"):
        return typed == "True"
    found = _number(typed)
    return found if not isinstance(found, float) or math.isfinite(found) else typed


def _whole(typed: str) -> Any:
    return int(typed) if _WHOLE.fullmatch(typed) else typed


def _number(typed: str) -> Any:
    """A whole number where it is one, else a float, else the text."""
    if _WHOLE.fullmatch(typed):
        return int(typed)
    try:
        return float(typed)
    except ValueError:
        return typed


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(EQUALS) if EQUALS in line else line.partition("=")
    if line.startswith('"'):
        try:
            name, end = json.JSONDecoder().raw_decode(line)
            value = line[end:].strip().removeprefix("=")
        except ValueError:
            pass
    return name.strip(), _out_of_quotes(value.strip())


def _in_quotes(words: str) -> str:
    plain = words and words.isprintable() and words.strip() == words and words[0] != '"' and "=" not in words
    return words if plain else json.dumps(words, ensure_ascii=not words.isprintable())


def _out_of_quotes(words: str) -> str:
    if len(words) > 1 and words[0] == words[-1] == '"':
        try:
            found = json.loads(words)
        except ValueError:
            return words
        return found if isinstance(found, str) else words
    return words
