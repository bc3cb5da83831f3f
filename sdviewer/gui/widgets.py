"""The small widgets everything is made of: labels, cards, chips, segments, key hints.

Text of a file reaches a widget only through `label` and `Elided`, which show plain text and never rich text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QAction,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from sdviewer.gui import icons, resources
from sdviewer.gui.plain import plain_tip


def label(text: str = "", role: str = "") -> QLabel:
    """A label of plain text in one of the style sheet's roles."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
    return made


def line() -> QFrame:
    """A thin horizontal rule."""
    made = QFrame()
    made.setProperty("role", "line")
    return made


def set_property(widget: QWidget, name: str, value: object) -> None:
    """Set a dynamic property and let the style sheet see it."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)
        widget.update()


def polish(widget: QWidget) -> None:
    """Let the style sheet have its say before a widget goes into the window: there it would take five times as long."""
    for inner in (widget, *widget.findChildren(QWidget)):
        inner.ensurePolished()


def button(text: str, icon_name: str = "", *, primary: bool = False, link: bool = False) -> QPushButton:
    """A push button; a primary one is filled with the accent."""
    made = QPushButton(text)
    if icon_name:
        made.setIcon(icons.icon(icon_name, "accentT" if primary else "text2"))
        made.setIconSize(QSize(14, 14))
    if primary:
        made.setProperty("primary", True)
    if link:
        made.setProperty("link", True)
        made.setCursor(Qt.CursorShape.PointingHandCursor)
    return made


def icon_button(icon_name: str, name: str, size: int = 16) -> QToolButton:
    """A button that is only an icon; `name` is its tooltip and its accessible name."""
    made = QToolButton()
    made.setIcon(icons.icon(icon_name))
    made.setIconSize(QSize(size, size))
    made.setToolTip(name)
    made.setAccessibleName(name)
    made.setAutoRaise(True)
    return made


def copy_text(text: str) -> None:
    """Put plain text on the clipboard."""
    QGuiApplication.clipboard().setText(text)


def describe(widget: QWidget, words: str) -> None:
    """Say of a widget where the keyboard is in it, also to who cannot see it and is there already."""
    widget.setAccessibleDescription(words)
    QAccessible.updateAccessibility(QAccessibleEvent(widget, QAccessible.Event.DescriptionChanged))


def takes_copy(event: QEvent) -> bool:
    """Whether Ctrl+C is offered to a widget before the window's own act for it; it is taken then."""
    if event.type() != QEvent.Type.ShortcutOverride or not isinstance(event, QKeyEvent):
        return False
    taken = event.matches(QKeySequence.StandardKey.Copy)
    if taken:
        event.accept()
    return taken


class Elided(QLabel):
    """A label of one line that ends in an ellipsis where room is short, and then tells the whole text as tooltip.

    It elides while it paints: a QLabel that is told a shorter text lays everything around it out again.
    """

    def __init__(self, text: str = "", role: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        if role:
            self.setProperty("role", role)
        self._mode = mode
        self._text = self._tip = self._hint = ""
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setText(text)

    def setText(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self.setAccessibleName(text)
            self.updateGeometry()
            self.update()

    def set_hint(self, hint: str) -> None:
        """What more its tooltip tells, below the text where that is cut."""
        if hint != self._hint:
            self._hint = hint
            self.setAccessibleDescription(hint)
            self.update()

    def text(self) -> str:
        return self._text

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self._text) + 2, metrics.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(min(24, self.sizeHint().width()), self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        shown = painter.fontMetrics().elidedText(self._text, self._mode, self.width())
        tip = "\n".join(part for part in (self._text if shown != self._text else "", self._hint) if part)
        if tip != self._tip:
            self._tip = tip
            self.setToolTip(plain_tip(tip))
        painter.drawText(self.rect(), int(self.alignment()) | int(Qt.TextFlag.TextSingleLine), shown)


class LinkLabel(Elided):
    """A line of text that can be clicked; with the keyboard too."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._says = ""

    def set_link(self, on: bool, says: str) -> None:
        """Whether it leads anywhere now, and where."""
        self._says = says if on else ""
        self.setCursor(Qt.CursorShape.PointingHandCursor if on else Qt.CursorShape.ArrowCursor)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus if on else Qt.FocusPolicy.NoFocus)
        self.setAccessibleDescription(self._says)
        self.setStatusTip("")

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._says and not self.toolTip():
            self.setToolTip(self._says)
        if self.hasFocus():
            painter = QPainter(self)
            painter.setPen(resources.colour("accent"))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        inside = self.rect().contains(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and inside and self._says:
            self.clicked.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._says and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.clicked.emit()
            return
        super().keyPressEvent(event)


class Card(QFrame):
    """A rounded panel with a title, a subtitle right behind it, controls at the right, and a body."""

    def __init__(self, title: str = "", subtitle: str = "") -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(12, 10, 12, 12)
        self.column.setSpacing(6)
        self.head = QHBoxLayout()
        self.head.setSpacing(8)
        self.title_label = label(title, "strong")
        self.subtitle = Elided(subtitle, "note")
        self.head.addWidget(self.title_label)
        self.head.addWidget(self.subtitle, 1)
        if title:
            self.column.addLayout(self.head)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def add_control(self, widget: QWidget) -> None:
        """Put a control at the right end of the head."""
        self.head.addWidget(widget)

    def set_body(self, widget: QWidget) -> None:
        """Add the widget below the head, taking the room that is left."""
        self.column.addWidget(widget, 1)


class Chip(QPushButton):
    """A small pill with a word and a number; checkable where it filters."""

    def __init__(self, text: str, tone: str = "", icon_name: str = "") -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.dress(text, tone, icon_name)

    def only_says(self) -> Chip:
        """Make it a note that cannot be pressed, in its full colours."""
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        return self

    def dress(self, text: str, tone: str, icon_name: str) -> None:
        """Say something else, in another tone."""
        self.setText(text)
        set_property(self, "tone", tone or None)
        if icon_name:
            token = {"warn": "warn", "shape": "S", "ok": "ok", "a": "A", "b": "B"}.get(tone, "text2")
            self.setIcon(icons.icon(icon_name, token))
            self.setIconSize(QSize(13, 13))


class KeyHint(QLabel):
    """A shortcut, drawn like a key."""

    def __init__(self, sequence: str | QKeySequence) -> None:
        text = sequence if isinstance(sequence, str) else sequence.toString(QKeySequence.SequenceFormat.NativeText)
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)


class Segments(QFrame):
    """One of a few: a row of buttons in a sunk track."""

    chosen = Signal(str)

    def __init__(self, entries: Sequence[tuple[str, str, str]] = (), name: str = "") -> None:
        """`entries` are (id, text, icon name or "")."""
        super().__init__()
        self.setAccessibleName(name)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(2, 2, 2, 2)
        self._row.setSpacing(1)
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._buttons: dict[str, QPushButton] = {}
        for key, text, icon_name in entries:
            self._add(key, text, icon_name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def _add(self, key: str, text: str, icon_name: str) -> None:
        words = text.replace("&", "&&")  # an ampersand, no mnemonic
        made = QPushButton(f" {words}" if icon_name else words)
        made.setCheckable(True)
        if icon_name:
            made.setIcon(icons.icon(icon_name))
            made.setIconSize(QSize(14, 14))
        made.clicked.connect(lambda: self.chosen.emit(key))
        self._group.addButton(made)
        self._buttons[key] = made
        self._row.addWidget(made)

    def buttons(self) -> tuple[QPushButton, ...]:
        """Its buttons, from the left."""
        return tuple(self._buttons.values())

    def choose(self, key: str) -> None:
        """Mark one as chosen without telling anybody."""
        self._buttons[key].setChecked(True)

    def set_text(self, key: str, text: str) -> None:
        """Call one otherwise."""
        self._buttons[key].setText(text.replace("&", "&&"))

    def offer(self, keys: Sequence[str]) -> None:
        """Show only these, in this order."""
        for place, key in enumerate(keys):
            self._row.insertWidget(place, self._buttons[key])
        for key, made in self._buttons.items():
            made.setVisible(key in keys)
        self.adjustSize()

    def set_tooltip(self, key: str, text: str) -> None:
        """Say more about one."""
        self._buttons[key].setToolTip(text)


class Choice(QComboBox):
    """One of a few, in a list that opens; its arrow is drawn here, where it follows the theme."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setMinimumHeight(30)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        icons.paint(QPainter(self), "chevd", self.width() - 22, (self.height() - 12) // 2, 12, "text2")


class Field(QLineEdit):
    """A line edit with an icon at the left, a key hint at the right while it is empty, a note there when it is not."""

    escaped = Signal()
    left_downwards = Signal()
    CLEAR_WIDTH: Final = 28
    """Pixels that the style's own clear button takes."""

    def __init__(self, placeholder: str, icon_name: str, hint: str = "") -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(placeholder)
        action = QAction(icons.icon(icon_name, "text3"), "", self)
        self.addAction(action, QLineEdit.ActionPosition.LeadingPosition)
        self._hint = KeyHint(hint) if hint else None
        self._note = label("", "second")
        self._note.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 6, 0)
        self._row.addStretch(1)
        self._row.addWidget(self._note)
        if self._hint is not None:
            self._row.addWidget(self._hint)
        self.textChanged.connect(self._make_room)
        self._make_room()
        self.setFixedHeight(30)

    def say(self, words: str) -> None:
        """A short note behind the text, such as how much it finds."""
        self._note.setText(words)
        self._make_room()

    def _make_room(self) -> None:
        filled = bool(self.text())
        if self._hint is not None:
            self._hint.setVisible(not filled)
        self.setClearButtonEnabled(filled)
        self._note.setVisible(filled and bool(self._note.text()))
        self._row.setContentsMargins(0, 0, self.CLEAR_WIDTH if filled else 6, 0)
        behind = self._note if filled else self._hint
        self.setTextMargins(0, 0, 0 if behind is None else behind.sizeHint().width() + 8, 0)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.escaped.emit()
            return
        if event.key() == Qt.Key.Key_Down:
            self.left_downwards.emit()
            return
        super().keyPressEvent(event)


class DashedFrame(QFrame):
    """A rounded frame with a dashed outline: where something can be dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._over = False

    def set_over(self, over: bool) -> None:
        """Light up while a file hovers above."""
        self._over = over
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(resources.colour("accent" if self._over else "border2"), 1.5)
        pen.setDashPattern([5, 3.5])
        painter.setPen(pen)
        painter.setBrush(resources.colour("accentSoft" if self._over else "panel"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 12, 12)


class IconLabel(QWidget):
    """An icon that is no button, in the colour of a token."""

    def __init__(self, name: str, size: int = 16, token: str = "text2") -> None:
        super().__init__()
        self._name, self._size, self._token = name, size, token
        self.setFixedSize(size, size)

    def set_icon(self, name: str, token: str) -> None:
        """Show another one."""
        self._name, self._token = name, token
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        icons.paint(QPainter(self), self._name, 0, 0, self._size, self._token)


class CodeBlock(QPlainTextEdit):
    """Text in the fixed font to read and to copy."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setReadOnly(True)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setTabChangesFocus(True)


class Frame(QWidget):
    """Holds one widget and fills with it; what it holds may change without the window being laid out anew.

    A layout tells the one above it of each change, up to the window, which then paints all that it shows: for another
    word in a label. This tells it only of another least size.
    """

    def __init__(self, held: QWidget) -> None:
        super().__init__()
        self._held = held
        held.setParent(self)
        self._least = self.minimumSizeHint()

    def sizeHint(self) -> QSize:
        return self._held.sizeHint()

    def minimumSizeHint(self) -> QSize:
        return self._held.minimumSizeHint().expandedTo(self._held.minimumSize())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._held.setGeometry(self.rect())

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest and self.minimumSizeHint() != self._least:
            self._least = self.minimumSizeHint()
            self.updateGeometry()
        return super().event(event)


class ClickCard(Card):
    """A card that is one large button."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("tone", "start")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.clicked.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.clicked.emit()
            return
        super().keyPressEvent(event)


def clear_layout(layout: QHBoxLayout | QVBoxLayout) -> None:
    """Take every widget and spacer out of a layout and delete them."""
    while (item := layout.takeAt(0)) is not None:
        widget = item.widget()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
