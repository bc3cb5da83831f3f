"""The statistics column: values, health, norms and storage of one tensor; every line can be copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QEnterEvent,
    QFocusEvent,
    QFontMetrics,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
)
from PySide6.QtWidgets import QFrame, QMenu, QScrollArea, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Card

Show = Callable[[Any], str]


def _number(value: Any) -> str:
    return value if isinstance(value, str) else text.value(value)


def _count(value: Any) -> str:
    return text.count(int(value))


def _exact(value: Any) -> str:
    """What is copied: plain ASCII, all digits."""
    return value if isinstance(value, str) else repr(value)


# (group, field, label, how it is shown); a field that the answer lacks has no line.
_NUMBERS: Final[tuple[tuple[str, str, str, Show], ...]] = (
    ("VALUES", "min", "min", _number),
    ("VALUES", "max", "max", _number),
    ("VALUES", "mean", "mean", _number),
    ("VALUES", "std", "std", _number),
    ("VALUES", "median", "median", _number),
    ("VALUES", "absmean", "mean |x|", _number),
    ("VALUES", "kurtosis", "kurtosis", _number),
    ("HEALTH", "nan", "NaN", _count),
    ("HEALTH", "inf", "±Inf", _count),
    ("HEALTH", "zeros", "exact zeros", _count),
    ("HEALTH", "tiny", "|x| < 1e−6", _count),
    ("HEALTH", "outliers", "outliers > 6σ", _count),
    ("NORMS", "l2", "L2 norm", _number),
)
# What a number is, where its name does not say it; all but the counts are over the finite values.
_MEANING: Final[Mapping[str, str]] = {
    "std": "The population's standard deviation σ",
    "median": "Of an even number of values the mean of the middle two",
    "kurtosis": "Excess kurtosis: 0 for a normal distribution, more for longer tails",
    "tiny": "Nearer to zero than 0.000001, exact zeros among them",
    "outliers": "Further than 6 standard deviations σ from the mean",
}
# What the spectrum tells, among the norms; it comes by itself or not at all.
_SPECTRUM: Final = (("spectral", "spectral"), ("stable_rank", "stable rank"), ("rank90", "rank for 90 %"))
_STORAGE: Final = (
    ("file", "file"),
    ("storage", "storage"),
    ("offset", "offset"),
    ("stride", "stride"),
    ("size", "size"),
    ("shared", "shared with"),
    ("device", "device"),
    ("grad", "requires grad"),
    ("crc", "CRC-32"),
)


_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)


class _Line(QWidget):
    """A label and a number that can be copied by click, key or menu. One widget that paints both: there are many.

    `pointed` tells its field when the pointer or the focus comes to it, and "" when it leaves.
    """

    pointed = Signal(str)

    all_wanted = Signal()

    def __init__(self, field: str, words: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._field = field
        self.words = words
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFixedHeight(QFontMetrics(resources.font(resources.NOTE)).height() + 4)
        self._shown = self._copied = ""

    def show_value(self, shown: str, copied: str, more: str = "") -> None:
        """The number as it is shown, as it is copied, and what the tooltip adds."""
        self._shown, self._copied = shown, copied
        self.setToolTip(plain_tip(more or copied))
        self.setAccessibleName(f"{self.words} {shown}")
        self.show()
        self.update()

    @property
    def copied(self) -> str:
        """The exact value."""
        return self._copied

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(resources.font(resources.NOTE))
        painter.setPen(resources.colour("text2"))
        painter.drawText(self.rect(), _LEFT, self.words)
        left = painter.fontMetrics().horizontalAdvance(self.words) + 8
        painter.setFont(resources.font(resources.NOTE, mono=True))
        painter.setPen(resources.colour("text"))
        shown = painter.fontMetrics().elidedText(self._shown, Qt.TextElideMode.ElideMiddle, self.width() - left)
        painter.drawText(self.rect(), _RIGHT, shown)
        if self.hasFocus():
            painter.setPen(resources.colour("accent"))
            painter.drawRoundedRect(self.rect().adjusted(0, 0, -1, -1), 3, 3)

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.pointed.emit(self._field)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.pointed.emit(self._field if self.hasFocus() else "")

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.pointed.emit(self._field)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.pointed.emit("")

    def copy(self) -> None:
        """Put the exact value on the clipboard."""
        widgets.copy_text(self._copied)

    def event(self, event: QEvent) -> bool:
        return widgets.takes_copy(event) or super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
            return
        super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.copy()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        menu.addAction(f"Copy {self.words}", self.copy)
        menu.addAction("Copy all", self.all_wanted.emit)
        menu.exec(event.globalPos())


class Statistics(QScrollArea):
    """Numbers of one tensor in four groups; empty groups are not there.

    `hovered` tells the field of the line that somebody points at, "" for none.
    """

    hovered = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Statistics")
        self.setFixedWidth(214)
        self._lines: dict[str, _Line] = {}
        self._groups: dict[str, tuple[QWidget, list[str]]] = {}
        card = Card()
        card.column.setSpacing(0)
        card.column.setContentsMargins(14, 12, 14, 12)
        for group in ("VALUES", "HEALTH", "NORMS", "STORAGE"):
            self._add_group(card, group)
        self._note = widgets.label("", "hint")
        self._note.setWordWrap(True)
        self._note.hide()
        card.column.addWidget(self._note)
        card.column.addStretch(1)
        self.setWidget(card)

    def _add_group(self, card: Card, group: str) -> None:
        column = card.column
        head = QWidget(card)
        inside = QVBoxLayout(head)
        inside.setContentsMargins(0, 0 if group == "VALUES" else 10, 0, 4)
        inside.setSpacing(12)
        if group != "VALUES":
            inside.addWidget(widgets.line())
        inside.addWidget(widgets.label(group, "group"))
        column.addWidget(head)
        entries = (
            [(f"s:{field}", words) for field, words in _STORAGE]
            if group == "STORAGE"
            else [(field, words) for where, field, words, _ in _NUMBERS if where == group]
        )
        entries += _SPECTRUM if group == "NORMS" else ()
        for field, words in entries:
            line = _Line(field, words, card)
            line.hide()
            # Not through a function: a line that loses the focus while all of this is taken apart would still call it.
            line.pointed.connect(self.hovered)
            line.all_wanted.connect(self.copy_all)
            self._lines[field] = line
            column.addWidget(line)
        head.hide()
        self._groups[group] = (head, [field for field, _ in entries])

    def copy_all(self) -> None:
        """All numbers that are shown, a line each, with all their digits."""
        shown = [line for line in self._lines.values() if not line.isHidden()]
        widgets.copy_text("\n".join(f"{line.words}\t{line.copied}" for line in shown))

    def clear(self) -> None:
        """Show nothing."""
        for line in self._lines.values():
            line.hide()
        self.say("")
        self._show_heads()

    def say(self, words: str) -> None:
        """A line below the numbers, such as why there are none."""
        self._note.setText(words)
        self._note.setVisible(bool(words))

    def show_facts(self, facts: Mapping[str, Any]) -> None:
        """What the header says: storage, stride, sharing. The numbers of the values stay until theirs come."""
        self.show_spectrum({})
        storage = facts.get("storage") or {}
        shown: dict[str, tuple[str, str, str]] = {}
        if storage:
            shown["storage"] = (text.visible(str(storage["id"]), 40), str(storage["id"]), "")
            if storage.get("byte_offset") is not None:
                offset = int(storage["byte_offset"])
                shown["offset"] = (text.count(offset), str(offset), f"{offset:,} bytes into the file")
            shown["size"] = (text.size(int(storage["nbytes"])), str(storage["nbytes"]), f"{storage['nbytes']:,} bytes")
            shown["shared"] = self._shared(storage)
            if storage.get("crc") is not None:
                crc = f"{int(storage['crc']):08x}"
                shown["crc"] = (crc, crc, "The checksum the container states")
        files = facts.get("files") or []
        if files:
            words = str(files[0]) if len(files) == 1 else text.plural(len(files), "file")
            listed = ", ".join(str(name) for name in files)
            shown["file"] = (words, listed, "" if len(files) == 1 else text.visible(listed, 800))
        if facts.get("stride") is not None:
            stride = str(tuple(facts["stride"]))
            shown["stride"] = (stride, stride, "in elements")
        if facts.get("location"):
            location = text.visible(str(facts["location"]), 40)
            shown["device"] = (location, location, "")
        if facts.get("requires_grad") is not None:
            grad = "yes" if facts["requires_grad"] else "no"
            shown["grad"] = (grad, str(bool(facts["requires_grad"])), "")
        for field, _ in _STORAGE:
            line = self._lines[f"s:{field}"]
            if field in shown:
                line.show_value(*shown[field])
            else:
                line.hide()
        self._show_heads()

    def _shared(self, storage: Mapping[str, Any]) -> tuple[str, str, str]:
        names = [text.visible(str(name), 120) for name in storage.get("shared_with") or ()]
        n = int(storage.get("shared_count") or len(names))
        if not n:
            return "none", "none", "No other tensor looks into this storage"
        return (names[0] if n == 1 and names else text.count(n)), ", ".join(names), "\n".join(names)

    def show_numbers(self, body: Mapping[str, Any]) -> None:
        """What a pass over the values found."""
        fields = dict(body)
        infinities = [fields[name] for name in ("posinf", "neginf") if fields.get(name) is not None]
        if infinities:
            fields["inf"] = sum(infinities)
        approximate = set(fields.get("approximate") or ())
        for _, field, _, show in _NUMBERS:
            line = self._lines[field]
            value = fields.get(field)
            if value is None:
                line.hide()
                continue
            shown, more = show(value), [_exact(value)]
            if field in approximate:
                shown = f"≈ {shown}"
                more = [f"from {int(fields.get('sampled') or 0):,} of {int(fields.get('count') or 0):,} values"]
            if field in _MEANING:
                more.append(_MEANING[field])
            line.show_value(shown, _exact(value), "\n".join(more))
        self.say("")
        self._show_heads()

    def show_spectrum(self, body: Mapping[str, Any]) -> None:
        """What the singular values say (`stats.Spectrum`), {} for nothing."""
        known = int(body.get("known") or 0)
        randomised = body.get("kind") == "randomised"
        for field, _ in _SPECTRUM:
            value = body.get(field)
            line = self._lines[field]
            if value is None and not (field == "rank90" and randomised):
                line.hide()
            elif value is None:
                line.show_value(
                    f"> {text.count(known)}",
                    f">{known}",
                    f"The first {known:,} hold less than 90 %, as far as is known",
                )
            else:
                shown = _count(value) if field == "rank90" else _number(float(value))
                more = f"from {known:,} randomised singular values" if randomised else ""
                line.show_value(f"≈ {shown}" if randomised else shown, _exact(value), more)
        self._show_heads()

    def forget_numbers(self, words: str) -> None:
        """No numbers: say why."""
        for _, field, _, _ in _NUMBERS:
            self._lines[field].hide()
        self.say(words)
        self._show_heads()

    def _show_heads(self) -> None:
        for head, fields in self._groups.values():
            there = any(not self._lines[field].isHidden() for field in fields)
            head.setVisible(there)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.viewport().update()
