"""The head of a workbench: which file is repaired to fit what, and how far that is."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.badge import Badge
from sdviewer.gui.hatching import Hatching
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.workbench.alike import AlikeBar
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Card, Chip, Elided, IconLabel

BAR: Final = 8
ARROW: Final = "\N{RIGHTWARDS ARROW}"
CHIPS: Final = (
    ("collision", "Collide", "shape", "warn"),
    ("missing", "Missing", "b", "onlyB"),
    ("unexpected", "Unexpected", "a", "onlyA"),
    ("shape", "Shape differs", "shape", "shape"),
    ("dropped", "Dropped", "", "trash"),
)
KINDS: Final = {
    "checkpoint": "{keys} from the checkpoint",
    "config": "{keys} from the config, built on the meta device",
    "keys": "{keys} from a list",
    "message": "{keys} from the text of the error",
    "class": "{keys} from the class, built on the meta device",
}
"""Where the keys of a target come from."""


class SideCard(Card):
    """One side: a word, a name, a note, a button that changes it."""

    def __init__(self, letter: str, verb: str, change: str) -> None:
        super().__init__()
        self.letter, self._verb = letter, verb
        self.name = Elided("", "title", Qt.TextElideMode.ElideMiddle)
        self.about = Elided("", "note")
        self.change = widgets.button(change)
        widgets.set_property(self.change, "small", True)
        title = QHBoxLayout()
        title.setSpacing(8)
        title.addWidget(widgets.label(verb, "note"))
        title.addWidget(self.name, 1)
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addLayout(title)
        words.addWidget(self.about)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(Badge(letter))
        row.addLayout(words, 1)
        row.addWidget(self.change)
        self.column.setContentsMargins(12, 4, 8, 4)
        self.column.addLayout(row)
        self.setFixedHeight(48)

    def show_side(self, name: str, about: str, tip: str) -> None:
        """Tell a file or a target."""
        self.name.setText(name)
        self.about.setText(about)
        self.setToolTip(plain_tip(tip))
        self.setAccessibleName(f"{self._verb} {name}, {about}")


class FitBar(QWidget):
    """How much of the target is filled; what a preview would add is hatched."""

    def __init__(self) -> None:
        super().__init__()
        self._filled = self._added = 0.0
        self._hatching = Hatching()
        self.setFixedHeight(BAR)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Target keys matched")

    def show_shares(self, filled: float, added: float, words: str) -> None:
        """Shares of the whole, from 0 to 1, and the same in words."""
        self._filled, self._added = filled, max(added, 0.0)
        self.setAccessibleDescription(words)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(400, BAR)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = QPainterPath()
        track.addRoundedRect(QRectF(self.rect()), BAR / 2, BAR / 2)
        painter.fillPath(track, resources.colour("sunk"))
        painter.setClipPath(track)
        width = self.width()
        filled, end = round(width * self._filled), round(width * min(self._filled + self._added, 1.0))
        painter.fillRect(0, 0, filled, BAR, resources.colour("ok"))
        if end > filled:
            painter.fillRect(filled, 0, end - filled, BAR, resources.colour("tok"))
            self._hatching.fill(painter, QRect(filled, 0, end - filled, BAR), "ok", 0.9)


class WorkbenchHead(QWidget):
    """Both cards, the bar, the chips. `chip_clicked` tells a status."""

    chip_clicked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.a = SideCard("A", "Repair", "Change…")
        self.b = SideCard("B", "to fit", "Change target…")
        self.count = widgets.label("", "heading")
        self.of = widgets.label("", "second")
        self.preview = widgets.label("", "gain")
        self.bar = FitBar()
        self.chips: dict[str, Chip] = {}
        self.alike = AlikeBar(self.b.change)
        self._lay_out()

    def _lay_out(self) -> None:
        sides = QHBoxLayout()
        sides.setSpacing(12)
        sides.addWidget(self.a, 1)
        sides.addWidget(IconLabel("arrow", 18, "text2"))
        sides.addWidget(self.b, 1)
        said = QHBoxLayout()
        said.setSpacing(8)
        said.addWidget(self.count)
        said.addWidget(self.of, 0, Qt.AlignmentFlag.AlignBottom)
        said.addSpacing(8)
        said.addWidget(self.preview, 0, Qt.AlignmentFlag.AlignBottom)
        said.addStretch(1)
        left = QVBoxLayout()
        left.setSpacing(5)
        left.addLayout(said)
        left.addWidget(self.bar)
        right = QHBoxLayout()
        right.setSpacing(8)
        for status, title, tone, icon in CHIPS:
            chip = self.chips[status] = Chip(title, tone, icon)
            chip.setToolTip(f"Go to the first: {title.lower()}")
            chip.clicked.connect(lambda _=False, status=status: self.chip_clicked.emit(status))
            right.addWidget(chip)
        progress = Card()
        progress.column.setContentsMargins(14, 8, 14, 10)
        row = QHBoxLayout()
        row.setSpacing(26)
        row.addLayout(left, 1)
        row.addLayout(right)
        progress.column.addLayout(row)
        progress.setFixedHeight(60)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(10)
        column.addLayout(sides)
        column.addWidget(self.alike)
        column.addWidget(progress)

    def show_sides(self, a: Body, b: Body, tip: str) -> None:
        """Tell file and target (CARD_A and CARD_B of engine.workbench)."""
        parts = [text.plural(int(a["tensors"]), "tensor")]
        if a["state_dict"]:
            parts[0] += f" under {a['state_dict']}"
        if a["begins"]:
            parts.append(f"keys start with {a['begins']}")
        self.a.show_side(str(a["name"]), ", ".join(parts), tip)
        keys = text.plural(int(b["keys"]), "key")
        about = KINDS.get(str(b["kind"]), "{keys}").format(keys=keys)
        notes = [str(note) for note in b["notes"]]
        if b["incomplete"]:
            about += ", the text was cut: there are more"
        elif b["approximate"]:
            about += ", some of them guessed"
        elif notes:
            about += f". {notes[0]}"
        self.b.show_side(str(b["name"]), about, "\n".join([about, *notes]))

    def show_counts(self, told: Body, preview_name: str) -> None:
        """How far it is (SHEET of engine.workbench); `preview_name` is what the previewed suggestion is called."""
        then = told["counts"]
        now = told["before"] or then
        keys = max(int(told["keys"]), 1)
        self.alike.show_alike(told["alike"], int(told["keys"]))
        matched, matched_then = int(now["match"]), int(then["match"])
        self.count.setText(f"{matched:,}")
        of = f"of {text.plural(int(told['keys']), 'target key')} matched"
        self.of.setText(of)
        previews = told["before"] is not None and matched_then != matched
        self.preview.setText(f"{matched_then:,} with {preview_name}" if previews else "")
        words = f"{matched:,} {of}" + (f", {matched_then:,} with {preview_name}" if previews else "")
        self.bar.show_shares(matched / keys, (matched_then - matched) / keys, words)
        for status, title, _, _ in CHIPS:
            before, after = int(now[status]), int(then[status])
            number = f"{before:,}" if before == after else f"{before:,} {ARROW} {after:,}"
            chip = self.chips[status]
            chip.setText(f"{title}  {number}")
            chip.setAccessibleName(f"{title}: {number.replace(ARROW, 'to')}")
            chip.setVisible(bool(before or after) or status in ("missing", "unexpected"))
