"""The recipe so far: its steps in order, how many keys each changes, an eye to switch it off, a cross to remove it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip, Elided


class RecipePanel(QWidget):
    """There as soon as there is a step."""

    save_requested = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self._count = Chip("")
        self._count.setEnabled(False)
        self._summary = Elided("", "note")
        save = widgets.button("Save repaired as…", "save", primary=True)
        save.clicked.connect(self.save_requested)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(widgets.label("Recipe", "title"))
        head.addWidget(self._count)
        head.addWidget(self._summary, 1)
        head.addWidget(save)
        self._steps = QVBoxLayout()
        self._steps.setContentsMargins(0, 0, 0, 0)
        self._steps.setSpacing(0)
        self._steps.setAlignment(Qt.AlignmentFlag.AlignTop)
        inside = QWidget()
        inside.setLayout(self._steps)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        self._warnings = widgets.label("", "note")
        self._warnings.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 8)
        column.setSpacing(6)
        column.addLayout(head)
        column.addWidget(scroll, 1)
        column.addWidget(self._warnings)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self.setMinimumHeight(118)
        self.setMaximumHeight(320)
        self.hide()

    def show_recipe(self) -> None:
        """Show the session's recipe as the worker understood it."""
        widgets.clear_layout(self._steps)
        edit = self._session.edit
        steps = list(edit.get("steps") or ())
        self.setVisible(bool(steps))
        self._count.setText(text.plural(len(steps), "step"))
        parts = [f"{int(edit.get('renamed') or 0):,} renamed", f"{int(edit.get('dropped') or 0):,} dropped"]
        if metadata := edit.get("metadata"):
            parts.append(f"{len(metadata):,} of metadata edited")
        self._summary.setText(", ".join(parts))
        for i, step in enumerate(steps):
            if i:
                self._steps.addWidget(widgets.line())
            self._steps.addWidget(self._step_row(i, step))
        warnings = [text.visible(str(message), 300) for _, message, _ in edit.get("warnings") or ()]
        self._warnings.setText("\n".join(warnings[:3]))
        self._warnings.setVisible(bool(warnings))

    def _step_row(self, i: int, step: Any) -> QWidget:
        enabled = bool(step["enabled"])
        row = QHBoxLayout()
        row.setContentsMargins(2, 2, 0, 2)
        row.setSpacing(8)
        number = widgets.label(str(i + 1), "strong" if enabled else "hint")
        number.setFixedWidth(18)
        words = Elided(text.visible(str(step["text"]), 300), "" if enabled else "hint", Qt.TextElideMode.ElideMiddle)
        count = widgets.label(text.count(int(step["changed"])) if enabled else "off", "note")
        count.setToolTip(text.plural(int(step["changed"]), "key") + " changed by this step")
        eye = widgets.icon_button("eye" if enabled else "eyeoff", "Switch off" if enabled else "Switch on", 15)
        eye.clicked.connect(lambda: self._session.toggle_step(i))
        remove = widgets.icon_button("x", "Take this step out", 13)
        remove.clicked.connect(lambda: self._session.remove_step(i))
        row.addWidget(number)
        row.addWidget(words, 1)
        row.addWidget(count)
        row.addWidget(eye)
        row.addWidget(remove)
        made = QWidget()
        made.setLayout(row)
        made.setFixedHeight(30)
        return made
