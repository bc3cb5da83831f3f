"""Asking for one step of the recipe: its form at the top, what it would change below, live. Returns a Step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDialog, QGridLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog, field_grid
from sdviewer.gui.dialogs.fields import FieldWidget, FlagField, make_field
from sdviewer.gui.dialogs.forms import Form
from sdviewer.gui.dialogs.forms.form import ASKED, COMMON, Entry
from sdviewer.gui.dialogs.preview import LIMIT, PreviewTable
from sdviewer.gui.jobs import Body
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step

_NOTHING = "No key changes."
TYPING_PAUSE = 120
"""Milliseconds without a key before the preview is asked for."""


class StepDialog(AskingDialog):
    """One step: a new one, with some fields filled in, or that at `at` of the recipe."""

    def __init__(
        self,
        parent: QWidget,
        session: Session,
        form: Form,
        values: Mapping[str, Any],
        at: int = -1,
        state_dict: str = "",
    ) -> None:
        """`state_dict` is the one that a first step is for, "" for the one that the selection is in."""
        title = form.title.replace("&", "").rstrip("…")
        super().__init__(parent, title)
        self.resize(860, 560 if form.group != "file" else 300)
        self._session = session
        self._form = form
        self._at = at
        self._state_dict = state_dict
        self._enabled = bool(values.get("enabled", True))
        self.step: Step | None = None
        self.fields: dict[str, FieldWidget] = {}
        self._rows: list[tuple[Entry, tuple[QWidget, ...]]] = []
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        noun, listed = "key" if form.group == "keys" else "tensor", form.group != "file"
        self.preview = PreviewTable(session, form.effect, noun, listed=listed)
        self.add = widgets.button("Add step" if at < 0 else "Change step", "check", primary=True)
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        self._common = QWidget()
        self._lay_out(title)
        self._fill(values)
        first = next(iter(self.fields.values()), None)
        if first is not None:
            first.widget.setFocus()
        self._ask()

    def _lay_out(self, title: str) -> None:
        own = {entry.name for entry in self._form.asked}
        more = [entry for entry in COMMON if entry.name not in own and (entry.name != "keys" or self._form.any_key)]
        grid, common = field_grid(8), field_grid(8)
        for entries, where in ((self._form.asked, grid), (more, common)):
            for row, entry in enumerate(entries):
                if not _is_told(entry):
                    self._lay_out_entry(entry, where, row)
        self._common.setLayout(common)
        common.setContentsMargins(0, 0, 0, 0)
        self._common.hide()
        some = "some keys only, a note" if self._form.any_key and "keys" not in own else "a note"
        self.more = widgets.button(f"&More: {some}, what to expect", "chev", link=True)
        self.more.setCheckable(True)
        self.more.toggled.connect(self._show_more)
        hint = widgets.label(self._form.hint, "hint")
        hint.setWordWrap(True)
        hint.setVisible(bool(self._form.hint))
        self.add.setEnabled(False)
        column = self.make_column(widgets.label(title, "path"))
        column.addLayout(grid)
        column.addWidget(hint)
        column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._common)
        column.addWidget(self.preview, 1)
        column.addLayout(self.make_foot(self.add, self._wrong))

    def _lay_out_entry(self, entry: Entry, where: QGridLayout, row: int) -> None:
        field = self.fields[entry.name] = make_field(entry)
        field.changed.connect(self._typed)
        parts = [field.widget]
        where.addWidget(field.widget, row, 1)
        if not isinstance(field, FlagField):
            name = widgets.label(entry.label, "second")
            name.setBuddy(field.widget)
            where.addWidget(name, row, 0)
            parts.append(name)
        self._rows.append((entry, tuple(parts)))

    def _is_asked(self, entry: Entry) -> bool:
        """Whether an entry belongs to what is chosen above it."""
        return not entry.when or self.fields[entry.when[0]].value() in entry.when[1:]

    def _show_asked(self) -> None:
        for entry, parts in self._rows:
            for part in parts:
                part.setVisible(self._is_asked(entry))

    def _show_more(self, shown: bool) -> None:
        self._common.setVisible(shown)
        self.more.setIcon(icons.icon("chevd" if shown else "chev", "text2"))
        high = self._common.sizeHint().height()
        self.resize(self.width(), max(self.height() + (high if shown else -high), 260))

    def _fill(self, values: Mapping[str, Any]) -> None:
        for name, field in self.fields.items():
            table, _, inner = name.rpartition(".")
            found = values.get(table) or {} if table else values
            field.set_value(_chosen(field.entry, values) if table == "" and name[:1] == ASKED else found.get(inner))
        self._show_asked()
        said = [name for name in self.fields if name not in {entry.name for entry in self._form.asked}]
        self.more.setChecked(any(self.fields[name].value() is not None for name in said))

    def _table(self) -> dict[str, Any]:
        """The step's table from what is filled in."""
        table: dict[str, Any] = {"op": self._form.op}
        for name, field in self.fields.items():
            value = field.value()
            if value is None or name[:1] == ASKED or not self._is_asked(field.entry):
                continue
            outer, _, inner = name.rpartition(".")
            if outer:
                table.setdefault(outer, {})[inner] = value
            else:
                table[name] = value
        table |= {entry.name: True for entry in self._form.entries if _is_told(entry) and self._is_asked(entry)}
        return table if self._enabled else {**table, "enabled": False}

    def _typed(self) -> None:
        self._show_asked()
        self.add.setEnabled(False)
        self._pause.start()

    def _ask(self) -> None:
        self.step = None
        table = self._table()
        filled = any(
            table.get(entry.name) not in (None, "", []) for entry in self._form.entries if entry.kind != "choice"
        )
        if self._form.entries and not filled and not self._form.at_once:
            self._say("")
            self.preview.show_preview(None)
            return
        step = Step(table, "")
        self._session.preview(step, LIMIT, self._show, at=self._at, state_dict=self._state_dict)

    def _show(self, preview: Body) -> None:
        if self._pause.isActive():
            return  # of what was there before somebody typed on
        self.preview.show_preview(preview)
        problems = list(preview.get("problems") or ())
        error = str(preview.get("error") or "")
        changes = int(preview["changed"]) + int(preview["dropped"])
        # A step on the whole file changes no key.
        for_file = preview.get("matched") is not None
        if (changes or for_file or self._at >= 0) and not problems and not error:
            self.step = Step(preview["step"], str(preview["label"]))
        self.add.setEnabled(self.step is not None)
        if error or problems:
            self._say(error or str(problems[0]), wrong=True)
        elif not changes and not for_file:
            self._say(_NOTHING)
        else:
            self._say(f"{preview['warnings'][0]}." if preview.get("warnings") else "")

    def _say(self, words: str, *, wrong: bool = False) -> None:
        self._wrong.setText(text.visible(f"{words[:1].upper()}{words[1:]}", 400))
        widgets.set_property(self._wrong, "role", "error" if wrong else "hint")
        for entry in self._form.entries[:1]:
            if entry.kind != "choice":
                self.fields[entry.name].set_wrong(wrong)

    def accept(self) -> None:
        if self.step is not None:
            super().accept()

    def done(self, result: int) -> None:
        # An answer that is on its way finds nobody here any more.
        self._pause.stop()
        self._session.jobs.drop("preview")
        self._session.jobs.drop("preview more")
        super().done(result)


def _is_told(entry: Entry) -> bool:
    """Whether an entry is true once it is chosen, so that nothing is left to ask."""
    return entry.kind == "flag" and bool(entry.when)


def _chosen(entry: Entry, values: Mapping[str, Any]) -> str | None:
    """Which of the fields that an entry chooses from a step has."""
    return next((value for value, _ in entry.choices if value in values), None)


def run(dialog: StepDialog) -> Step | None:
    """Ask, and give what was asked for, or None."""
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    step = dialog.step if accepted else None
    dialog.deleteLater()
    return step
