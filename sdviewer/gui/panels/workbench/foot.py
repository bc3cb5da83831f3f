"""The foot of a workbench: undo, what never happens, how much is left, and how it is kept."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.widgets import Elided
from sdviewer.gui.workbench import WorkbenchSession, left_words


class WorkbenchFoot(QWidget):
    """One row."""

    undo_requested = Signal()
    script_requested = Signal()
    save_requested = Signal()
    collisions_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.undo = widgets.button("Undo", "undo", link=True)
        self.undo.clicked.connect(self.undo_requested)
        self.note = Elided("", "note")
        self.left = widgets.label("", "second")
        self.script = widgets.button("Export script…", "script")
        self.script.clicked.connect(self.script_requested)
        self.save = widgets.button("Save repaired as…", "save")
        self.save.clicked.connect(self._save)
        self.note.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(18, 8, 14, 8)
        row.setSpacing(12)
        row.addWidget(self.undo)
        row.addWidget(self.note, 1)
        row.addWidget(self.left)
        row.addWidget(self.script)
        row.addWidget(self.save)
        self.setFixedHeight(50)
        self._collide = False

    def _save(self) -> None:
        (self.collisions_requested if self._collide else self.save_requested).emit()

    def show_state(self, session: WorkbenchSession) -> None:
        """What can be undone, what is left, what can be saved."""
        document = session.document
        label = document.history.undo_label
        self.undo.setVisible(bool(label))
        self.undo.setText(f"Undo {text.visible(label, 60)}".replace("&", "&&"))
        words = session.job[0]
        self.note.setText(f"{words}…" if words else "Original file is never changed")
        opened = session.state == "open"
        self.left.setText(left_words(session.problems, session.left_beside) if opened else "")
        edited = any(step.enabled for step in document.recipe.steps)
        fails = document.failed_step is not None
        self.script.setEnabled(edited and not fails)
        self._collide = opened and session.collisions > 0
        self.save.setEnabled(opened and edited and (self._collide or not fails))
        done = session.is_done and edited
        widgets.set_property(self.save, "primary", done or None)
        self.save.setIcon(icons.icon("save", "accentT" if done else "text2"))
        why = "A step of the recipe does not go through." if fails else "" if edited else "Nothing was changed yet."
        why = "No copy can be saved while keys would have one name: go to them." if self._collide else why
        self.save.setToolTip(why or "Write a copy with the recipe carried out (Ctrl+Shift+S)")
