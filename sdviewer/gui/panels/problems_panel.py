"""The Problems view: what is odd or damaged in the file, where, and what follows from it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.panels.file_view import PAGE, FileView, RowsTable
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.session import CLEANABLE, Session
from sdviewer.gui.widgets import Card

TWO_LINES = 44
"""Pixels of a row: most sentences need two lines."""

CONSEQUENCES = {
    "truncated": "What came before is shown. Copy or download the file again.",
    "too_deep": "What lies deeper is not shown; a save keeps it.",
    "too_large": "It is not read further.",
    "tensor_unreadable": "This tensor has no numbers here; all others do.",
    "duplicate_key": "Loaders keep the last; both are shown.",
    "checksum": "Its numbers are shown as they stand there. Copy or download the file again.",
    "trailing_bytes": "Loaders pass over them; they are kept.",
    "metadata": "They are shown as they are, and not used.",
    "repeated": "It is told once; nothing is lost.",
    "storage_size": "torch refuses to load it; what fits is shown.",
    "zip_directory": "Records behind that place are not shown.",
    "zip_count": "Programs differ in how many records they see.",
    "zip_gap": "Loaders pass over them.",
    "zip_overlap": "Neither record is read.",
    "zip_top": "torch refuses to load it; it is read here.",
    "duplicate_member": "Programs differ in which one they read, so the file is not edited.",
    "no_version": "torch refuses to load it; it is read here.",
    "legacy_version": "torch refuses to load it; it is read here.",
    "bad_header": "This tensor is not shown; all others are.",
    "hole": "The safetensors library refuses to load it; it is read here.",
    "nan": "A model with it computes nothing but NaN, as a rule.",
    "infinite": "A model with it computes NaN or infinities, as a rule.",
    "all_zero": "What goes through it is lost; a layer that was never trained looks so.",
    "constant": "It tells its inputs not apart; a layer that was never trained looks so.",
    "outlier": "One number outweighs all others: it may be damaged, or lost when rounded to fewer bits.",
    "overlap": "The safetensors library refuses to load it; both are shown.",
}
"""What follows from a problem, by its code."""

_OTHERWISE = {
    "error": "What it is about cannot be read; the rest is shown.",
    "warning": "It is read all the same; other programs may refuse it.",
    "info": "Nothing is lost by it.",
}
_TOKENS = {"error": "S", "warning": "warn", "info": "text2"}
_WORDS = {"error": "Damaged", "warning": "Odd", "info": "Note"}


def consequence(severity: str, code: str) -> str:
    """What follows from a problem."""
    return CONSEQUENCES.get(code) or _OTHERWISE.get(severity, _OTHERWISE["warning"])


class ProblemsPanel(FileView):
    """A list; the worst first. `place_chosen` is a dotted path to be looked for in the tree."""

    name = "problems"
    title = "Problems"

    place_chosen = Signal(str)
    drop_requested = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._counts: Body = {}
        columns = (
            Column("Kind", lambda row: _WORDS.get(str(row[0]), str(row[0])), 100, token=_token, icon=_icon, tip=_whole),
            Column("Where", lambda row: str(row[3]) or "the file", 160, True, token=lambda row: "text", tip=_whole),
            Column("What", lambda row: sentence(str(row[2])), 0, token=lambda row: "text", tip=_whole),
            Column("What follows", lambda row: consequence(str(row[0]), str(row[1])), 260, tip=_whole),
        )
        self.table = RowsTable(columns, "Problems")
        self.table.feed_from(session, "problems", "problems", self._also)
        self.table.setWordWrap(True)
        self.table.verticalHeader().setDefaultSectionSize(TWO_LINES)
        self.table.row_activated.connect(lambda row: self.place_chosen.emit(str(row[3])))
        card = Card()
        card.column.setContentsMargins(1, 4, 1, 1)
        card.set_body(self.table)
        self.column.addWidget(card, 1)
        self.check = widgets.button("Check contents", "check")
        self.check.setToolTip("Compare all bytes with the checksums that the file states")
        self.check.clicked.connect(session.check_contents)
        self.drop = widgets.button("Drop what is lost…", "trash")
        self.drop.setToolTip("A step that leaves out the tensors that cannot be read, so that the rest can be saved")
        self.drop.clicked.connect(self.drop_requested)
        for made in (self.check, self.drop):
            self.head.insertWidget(self.head.count() - 1, made)
        session.contents_changed.connect(self._contents_changed)
        session.survey_changed.connect(self._survey_changed)

    def _also(self) -> dict[str, Any]:
        """What was found since the file was opened; the worker lists it among the others."""
        return {"also": [list(row) for row in self.session.contents.known.problems]}

    def _show_summary(self) -> None:
        if self._counts:
            self.summary.setText(f"{_summary(self._counts)} {self.session.contents.known.sentence()}".strip())

    def _contents_changed(self) -> None:
        self._show_choices()
        self._show_summary()
        if self.session.contents.known.problems and self.isVisible():
            self.refresh()

    def _survey_changed(self) -> None:
        if self.isVisible() and self.session.survey.known.state != "measuring":
            self.refresh()

    def _show_choices(self) -> None:
        session = self.session
        self.check.setVisible(session.contents.known.offered)
        lost = any(problem[0] == "error" for problem in session.info.get("problems") or ())
        self.drop.setVisible(lost and session.info.get("container") in CLEANABLE)

    def refresh(self) -> None:
        """Ask for the first page."""

        def answered(body: Body, buffers: Buffers) -> None:
            self._counts = body
            self.table.rows.show_rows(body["rows"], int(body["total"]))
            self._show_summary()
            self.settled.emit()

        self._show_choices()
        self.session.ask("problems", {"start": 0, "limit": PAGE, **self._also()}, answered, lane="problems")


def _summary(body: Body) -> str:
    errors, warnings = int(body["errors"]), int(body["warnings"])
    notes = int(body["total"]) - errors - warnings
    if not body["total"]:
        return "Nothing odd was found in the structure of this file."
    words = [f"{errors:,} damaged"] if errors else []
    words += [f"{warnings:,} odd"] if warnings else []
    words += [text.plural(notes, "note")] if notes else []
    return ", ".join(words) + ". What is not named here was read."


def _token(row: Any) -> str:
    return _TOKENS.get(str(row[0]), "text2")


def _icon(row: Any) -> tuple[str, str]:
    return ("info" if row[0] == "info" else "warn"), _token(row)


def _whole(row: Any) -> str:
    where = f"{row[3]}\n" if row[3] else ""
    return f"{where}{sentence(str(row[2]))}\n{consequence(str(row[0]), str(row[1]))}\n({row[1]})"
