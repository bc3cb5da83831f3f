"""What the program proposes, a card each: what it does, to how many keys, how surely. The chosen one is previewed.

Up and Down choose, Return accepts, Backspace dismisses, Esc ends the preview, Ctrl+Return accepts all that are safe.
"""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.widgets import Card, Chip, Elided, IconLabel, KeyHint
from sdviewer.gui.workbench import WorkbenchSession

MOST: Final = 40
"""Cards that are made; more follow when some of these are accepted."""
EVIDENCE: Final = {
    "proved": ("checkc", "ok", "fits", "Proved: nothing else can be meant"),
    "likely": ("checkc", "ok", "fits", "Likely: names and order say so"),
    "ambiguous": ("warn", "warn", "unsure", "Ambiguous: others could be meant as well"),
}
"""Icon, its token, the role of the words, and the words."""
EFFECTS: Final = {
    "unwrap": "the weights become the top of the file",
    "extract": "the weights become the top of the file",
    "take": "its tensors stand beside those of the file",
    "merge_lora": "values change, and no key",
}
"""What operations do where no key matches that did not."""
OWN_KEYS: Final = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Backspace)


class SuggestionCard(Card):
    """One suggestion, short or, where it is chosen, with what speaks for it and what can be done."""

    clicked = Signal()
    accepted = Signal()
    edited = Signal()
    dismissed = Signal()
    mended = Signal(int)  # accepted, with the remedy of this caution

    def __init__(self, told: Body, number: int) -> None:
        super().__init__()
        self.told, self._number = told, number
        self._expanded = False
        self.setProperty("tone", "start")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        icon, token, _, said = EVIDENCE[str(told["evidence"])]
        self._spark = IconLabel("spark", 16, "accent")
        self._spark.hide()
        verb = widgets.label(str(told["verb"]), "strong")
        self.keys = widgets.label(text.plural(int(told["n"]), "key"), "note")
        quick = widgets.icon_button("check", "Accept", 16)
        quick.setIcon(icons.icon("check", "ok") if told["safe"] else icons.icon("warn", "warn"))
        quick.setAccessibleName(f"Accept suggestion {number}")
        quick.setToolTip(f"Accept. {said}")
        quick.clicked.connect(self.accepted)
        self._quick = quick
        head = QHBoxLayout()
        head.setSpacing(6)
        head.addWidget(self._spark)
        head.addWidget(verb)
        head.addStretch(1)
        head.addWidget(self.keys)
        self._short = Elided(str(told["short"]), "monoNote", Qt.TextElideMode.ElideMiddle)
        words = QVBoxLayout()
        words.setSpacing(3)
        words.addLayout(head)
        words.addWidget(self._short)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addLayout(words, 1)
        top.addWidget(quick)
        self.column.setContentsMargins(11, 7, 8, 8)
        self.column.setSpacing(5)
        self.column.addLayout(top)
        self._more: QWidget | None = None
        self.effect: Elided | None = None
        self._effect_icon = IconLabel(icon, 15, token)
        self._effect_icon.hide()
        self.setAccessibleName(self.sentence)

    @property
    def sentence(self) -> str:
        """All of it in words."""
        told = self.told
        cautions = [str(message) for _, message, _ in told["cautions"]]
        parts = [f"Suggestion {self._number}: {told['text']}", text.plural(int(told["n"]), "key")]
        return ", ".join([*parts, EVIDENCE[str(told["evidence"])][3], *told["asks"], *cautions])

    def expand(self, on: bool) -> None:
        """Show all of it, or the short form."""
        if on == self._expanded:
            return
        self._expanded = on
        widgets.set_property(self, "chosen", on or None)
        self._spark.setVisible(on)
        self._short.setVisible(not on)
        self._quick.setVisible(not on)
        if on and self._more is None:
            self._more = self._make_more()
            self.column.addWidget(self._more)
        if self._more is not None:
            self._more.setVisible(on)

    def _make_more(self) -> QWidget:
        told = self.told
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        for line in told["lines"]:
            column.addWidget(Elided(str(line), "monoNote", Qt.TextElideMode.ElideMiddle))
        icon, token, role, said = EVIDENCE[str(told["evidence"])]
        self.effect = Elided(said, role)
        column.addLayout(_line(IconLabel(icon, 15, token), self.effect))
        for reason in told["reasons"][:2]:
            words = widgets.label(str(reason), "note")
            words.setWordWrap(True)
            column.addLayout(_line(IconLabel("info", 15, "text2"), words))
        guesses = [(f"{guess}: state another with Edit…", "") for guess in told["asks"]]
        for at, (message, remedy) in enumerate([*[one[1:] for one in told["cautions"]], *guesses]):
            words = widgets.label(str(message), "unsure")
            words.setWordWrap(True)
            column.addLayout(_line(IconLabel("warn", 15, "warn"), words))
            if remedy:
                mend = widgets.button(f"Accept, then {remedy[:1].lower()}{remedy[1:]}", link=True)
                mend.clicked.connect(lambda _=False, at=at: self.mended.emit(at))
                column.addWidget(mend, 0, Qt.AlignmentFlag.AlignLeft)
        accept = widgets.button("Accept", "check", primary=True)
        edit = widgets.button("Edit…")
        dismiss = widgets.button("Dismiss")
        for button, signal, tip in (
            (accept, self.accepted, "Put it into the recipe (Enter)"),
            (edit, self.edited, "Change it before it goes into the recipe"),
            (dismiss, self.dismissed, "Do not propose it any more (Backspace)"),
        ):
            button.clicked.connect(signal)
            button.setToolTip(tip)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            widgets.set_property(button, "small", True)
        row = QHBoxLayout()
        row.setSpacing(6)
        for button in (accept, edit, dismiss):
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(KeyHint("Enter"))
        column.addLayout(row)
        return made

    def show_effect(self, words: str, wrong: bool) -> None:
        """What accepting it would give, as the preview found."""
        if self.effect is not None:
            self.effect.setText(words)
            widgets.set_property(self.effect, "role", "error" if wrong else EVIDENCE[str(self.told["evidence"])][2])

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.clicked.emit()


def _line(icon: QWidget, words: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(6)
    row.addWidget(icon, 0, Qt.AlignmentFlag.AlignTop)
    row.addWidget(words, 1)
    return row


class SuggestionsPanel(QWidget):
    """`edited` tells the place of a suggestion that is to be changed before it is accepted."""

    edited = Signal(int)
    find_requested = Signal()
    emptied = Signal()  # the keyboard was here, and there is nothing left to work on

    def __init__(self, session: WorkbenchSession) -> None:
        super().__init__()
        self._session = session
        self._shown: list[Body] = []
        self.cards: list[SuggestionCard] = []
        self.count = Chip("0").only_says()
        self.accept_safe = widgets.button("Accept all safe", "check")
        self.accept_safe.setToolTip("Those that are proved or likely and have no caution (Ctrl+Enter)")
        self.accept_safe.clicked.connect(session.accept_safe)
        widgets.set_property(self.accept_safe, "small", True)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(widgets.label("Suggestions", "title"))
        head.addWidget(self.count)
        head.addStretch(1)
        head.addWidget(self.accept_safe)
        self.list = _CardList()
        self.list.moved.connect(self._move)
        self.list.accepted.connect(lambda: session.accept(session.chosen))
        self.list.accepted_safe.connect(session.accept_safe)
        self.list.dismissed.connect(lambda: session.dismiss(session.chosen))
        self.list.escaped.connect(lambda: session.preview(-1))
        self.empty = widgets.label("", "second")
        self.empty.setWordWrap(True)
        self.find_button = widgets.button("Find and replace…", "replace")
        self.find_button.clicked.connect(self.find_requested)
        self.cautions = widgets.label("", "unsure")
        self.cautions.setWordWrap(True)
        self._beside = QWidget()
        beside = _line(IconLabel("warn", 15, "warn"), self.cautions)
        beside.setContentsMargins(0, 0, 0, 0)
        self._beside.setLayout(beside)
        self.back = widgets.button("", link=True)
        self.back.clicked.connect(session.bring_back)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 12, 6)
        column.setSpacing(9)
        column.addLayout(head)
        column.addWidget(self.empty)
        column.addWidget(self.find_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.list, 1)
        column.addWidget(self._beside)
        column.addWidget(self.back, 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch()
        session.suggestions_changed.connect(self.show_suggestions)
        session.counts_changed.connect(self._show_preview)
        self.show_suggestions()

    def show_suggestions(self) -> None:
        """Show what is proposed now, and which of it is chosen."""
        session = self._session
        if session.suggestions != self._shown:
            self._shown = session.suggestions
            self._make_cards()
        for at, card in enumerate(self.cards):
            card.expand(at == session.chosen)
        widgets.set_property(self.list, "bare", session.chosen < 0 or None)
        if 0 <= session.chosen < len(self.cards):
            chosen = self.cards[session.chosen]
            self.list.setAccessibleDescription(chosen.sentence)
            self.list.bring(chosen)
        n = len(session.suggestions)
        self.count.setText(f"{n:,}")
        self.accept_safe.setEnabled(any(one["safe"] for one in session.suggestions))
        self.empty.setText(self._empty_words())
        self.empty.setVisible(not n)
        if not n and not session.looking and self.list.hasFocus():
            self.emptied.emit()
        self.list.setVisible(n > 0 or session.looking)
        nothing = not n and not session.looking and session.problems > 0 and session.state == "open"
        nothing = nothing and not session.told.get("failed")
        self.find_button.setVisible(nothing)
        self.cautions.setText("\n".join([sentence(message) for _, message, _ in session.cautions]))
        self._beside.setVisible(bool(session.cautions))
        self.back.setText(f"Bring back {text.plural(session.dismissed, 'dismissed suggestion')}")
        self.back.setVisible(session.dismissed > 0)

    def _empty_words(self) -> str:
        session = self._session
        if session.looking:
            return "Looking for what fits…"
        if session.told.get("failed"):
            return "A step of the recipe does not go through. What fits is looked for once it does."
        if not session.problems:
            return "Everything fits." if session.told else ""
        if session.dismissed:
            return "Nothing else is proposed."
        return (
            "No regular pattern found. Try Find & replace, or pair one key by hand; the rest is then guessed from it."
        )

    def _make_cards(self) -> None:
        for card in self.cards:
            card.hide()
            card.deleteLater()
        self.cards = []
        for at, told in enumerate(self._shown[:MOST]):
            card = SuggestionCard(told, at + 1)
            card.clicked.connect(lambda at=at: self._choose(at))
            card.accepted.connect(lambda at=at: self._session.accept(at))
            card.mended.connect(lambda caution, at=at: self._session.accept(at, caution))
            card.dismissed.connect(lambda at=at: self._session.dismiss(at))
            card.edited.connect(lambda at=at: self.edited.emit(at))
            widgets.polish(card)
            self.cards.append(card)
        self.list.set_cards(self.cards)

    def _show_preview(self) -> None:
        preview = self._session.told.get("preview")
        if preview and 0 <= int(preview["at"]) < len(self.cards):
            card = self.cards[int(preview["at"])]
            card.show_effect(effect_words(preview, card.told), bool(preview["error"]))
        self.empty.setText(self._empty_words())

    def _choose(self, at: int) -> None:
        self.list.setFocus()
        self._session.preview(-1 if at == self._session.chosen else at)

    def _move(self, by: int) -> None:
        count = len(self.cards)
        at = self._session.chosen + by if self._session.chosen >= 0 else 0
        if 0 <= at < count:
            self._session.preview(at)


class _CardList(QScrollArea):
    """The cards one below the other; it has the keyboard for all of them."""

    moved = Signal(int)
    accepted = Signal()
    accepted_safe = Signal()
    dismissed = Signal()
    escaped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("cards")
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Suggestions")
        inside = QWidget()
        inside.setObjectName("page")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 2, 0)
        self._column.setSpacing(10)
        self._column.addStretch(1)
        self.setWidget(inside)

    def set_cards(self, cards: list[SuggestionCard]) -> None:
        """Show others; those of before are deleted by who made them."""
        while self._column.count() > 1:
            self._column.takeAt(0)
        for at, card in enumerate(cards):
            self._column.insertWidget(at, card)

    def bring(self, card: QWidget) -> None:
        """Bring one into sight."""
        self.ensureWidgetVisible(card, 0, 4)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() in OWN_KEYS:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        if event.modifiers() & Qt.KeyboardModifier.AltModifier:
            super().keyPressEvent(event)
        elif key in (Qt.Key.Key_Down, Qt.Key.Key_Up):
            self.moved.emit(1 if key == Qt.Key.Key_Down else -1)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            safe = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
            (self.accepted_safe if safe else self.accepted).emit()
        elif key == Qt.Key.Key_Backspace:
            self.dismissed.emit()
        elif key == Qt.Key.Key_Escape:
            self.escaped.emit()
        else:
            super().keyPressEvent(event)


def effect_words(preview: Body, told: Body) -> str:
    """What a preview found, in one line."""
    if preview["error"]:
        return str(preview["error"])
    gain, drops, worse, first, lost = (int(preview[name]) for name in ("gain", "drops", "worse", "first", "lost"))
    parts = []
    if gain > 0:
        parts.append(f"{text.plural(gain, 'key')} match{'es' if gain == 1 else ''}")
    if gain < 0:
        parts.append(f"{text.plural(-gain, 'key')} would not match any more")
    if drops > 0:
        parts.append(f"{text.plural(drops, 'key')} dropped")
    if worse:
        parts.append(f"{text.plural(worse, 'shape')} differ{'s' if worse == 1 else ''}")
    elif gain > 0:
        unknown = int(preview["unknown"])
        agree = "the shapes are not known" if unknown == gain else f"{text.plural(unknown, 'shape')} not known"
        parts.append(agree if unknown else "all shapes agree")
    if lost > 0:
        parts.append(f"{text.plural(lost, 'target key')} missing then")
    if not parts:
        parts.append(EFFECTS.get(str(told["step"]["op"]), "keys change, none matches yet"))
    parts.append("no collisions")
    if first:
        parts.append(f"together with the {first:,} before it" if first > 1 else "together with the one before it")
    if told["evidence"] == "ambiguous":
        parts.insert(0, "ambiguous")
    words = ", ".join(parts)
    return words[:1].upper() + words[1:]
