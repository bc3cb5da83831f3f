"""The report after saving: a page, not a box. It lists the checks that were made and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QFontMetrics, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget
from shiboken6 import isValid

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.containers import container_words
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.panels.file_view import PAGE, ROW_HEIGHT, RowsTable, cell
from sdviewer.gui.panels.load_code import snippets
from sdviewer.gui.panels.wording import failure_words, sentence
from sdviewer.gui.saving import Saved
from sdviewer.gui.session import Session
from sdviewer.gui.small_files import choose_place, write_file
from sdviewer.gui.widgets import Card, CodeBlock, Elided, Field, IconLabel, Segments

MOST_NOTES = 4
"""Warnings and notes that are in sight without being asked for."""
MOST_STEPS = 9
MOST_FILES = 4
CODE_HEIGHT = 230
TYPING_PAUSE = 120
"""Milliseconds without a key before the keys are searched."""
RECEIPT_FILTER = "JSON (*.json);;Text (*.txt)"


class ReceiptPage(QScrollArea):
    """What a save did."""

    back_requested = Signal()
    file_chosen = Signal(str)
    compare_requested = Signal(str, str)  # the file that was saved from, and the copy

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.keys: KeysCard | None = None

    def show_receipt(self, saved: Saved, session: Session) -> None:
        """Fill the page."""
        receipt = saved.receipt
        inside = QWidget()
        page = QVBoxLayout(inside)
        page.setContentsMargins(14, 14, 14, 14)
        page.setSpacing(10)
        page.addWidget(self._head(saved, session))
        if notes := _notes(receipt):
            page.addWidget(notes)
        body = QWidget()
        row = QHBoxLayout(body)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        left, right = QVBoxLayout(), QVBoxLayout()
        for column in (left, right):
            column.setSpacing(10)
        left.addWidget(_checks(receipt))
        left.addWidget(_load(saved))
        left.addStretch(1)
        row.addLayout(left, 11)
        row.addLayout(right, 10)
        page.addWidget(body, 1)
        widgets.polish(inside)
        self.setWidget(inside)
        self.keys = None
        # In turns of their own: all at once would stall the window.
        QTimer.singleShot(1, inside, lambda: _put(right, RecipeCard(saved, session)))
        QTimer.singleShot(2, inside, lambda: self._add_keys(right, KeysCard(saved, session)))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.back_requested.emit()
        else:
            super().keyPressEvent(event)

    def _add_keys(self, column: QVBoxLayout, keys: KeysCard) -> None:
        self.keys = keys
        _put(column, keys, 1)
        keys.refresh()

    def _head(self, saved: Saved, session: Session) -> Card:
        receipt, output = saved.receipt, str(saved.receipt["output"])
        card = Card()
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(IconLabel("checkc", 28, "ok"))
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(widgets.label("Saved and read back", "heading"))
        path = Path(output)
        where = [text.visible(path.name, 80), text.visible(str(path.parent), 120)]
        facts = [
            text.size(int(receipt["size"])),
            container_words(str(receipt["container"])),
            f"written in {text.seconds(float(receipt['seconds_writing']))}",
            f"checked in {text.seconds(float(receipt['seconds_verifying']))}",
        ]
        # A long path gives way in its midst, and takes none of what is said of the copy with it.
        words.addWidget(Elided("   ·   ".join(where), "second", Qt.TextElideMode.ElideMiddle))
        words.addWidget(Elided("   ·   ".join(facts), "second"))
        row.addLayout(words, 1)
        for name, icon, act, primary in (
            ("Save receipt…", "save", lambda: self._save_receipt(saved, session), False),
            ("Show in folder", "open", lambda: _show_folder(output), False),
            ("Compare with original", "compare", lambda: self.compare_requested.emit(session.path, output), False),
            ("Keep editing", "undo", self.back_requested.emit, False),
            ("Open saved file", "file", lambda: self.file_chosen.emit(output), True),
        ):
            made = widgets.button(name, icon, primary=primary)
            made.clicked.connect(act)
            row.addWidget(made)
        card.column.setContentsMargins(22, 14, 16, 14)
        card.column.addLayout(row)
        return card

    def _save_receipt(self, saved: Saved, session: Session) -> None:
        path = _chosen(self, "Save the receipt", saved, "receipt.json", RECEIPT_FILTER)
        if path:
            write_receipt(saved, session, path)


def write_receipt(saved: Saved, session: Session, path: str) -> None:
    """Write a receipt as JSON, with the lists of keys, or as the lines that a terminal has where it is called so."""
    write_file(session, path, saved.lines if path.endswith(".txt") else saved.json)


def _chosen(parent: QWidget, title: str, saved: Saved, name: str, filters: str) -> str:
    """Where something about a copy is written, "" for nowhere; `name` follows that of the copy."""
    output = Path(str(saved.receipt["output"]))
    return choose_place(parent, title, output.with_name(f"{output.stem}.{name}"), filters)


class KeysCard(Card):
    """What became of each key: as many as there are, in pages, searched in the document's worker."""

    def __init__(self, saved: Saved, session: Session) -> None:
        super().__init__("Keys", "…")
        self._session = session
        self._params = {
            "recipe": saved.draft.to_text(),
            "out": str(saved.receipt["output"]),
            "container": str(saved.receipt["container"]),
        }
        self.filter = Field("Search keys", "search")
        self.filter.setMaximumWidth(220)
        self.which = Segments((("changed", "Changed", ""), ("all", "All", "")), "Which keys")
        self._changed = True
        self.which.choose("changed")
        self.table = RowsTable(
            (
                Column("In the file", cell(0), 0, True, token=lambda row: "text"),
                Column("In the copy", lambda row: str(row[1]) or "–", 0, True, token=_token),
                Column("", cell(2), 120, token=_token),
            ),
            "What became of each key",
        )
        self.table.setMinimumHeight(ROW_HEIGHT * 5)
        self.table.feed_from(session, "save_map", "save map", self._asked)
        self.add_control(self.filter)
        self.add_control(self.which)
        self.set_body(self.table)
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self.refresh)
        self.filter.textChanged.connect(lambda _: self._pause.start())
        self.filter.escaped.connect(self.filter.clear)
        self.which.chosen.connect(self._choose)
        self._first = True

    def _choose(self, which: str) -> None:
        self._changed = which == "changed"
        self.refresh()

    def _asked(self) -> dict[str, Any]:
        return {**self._params, "filter": self.filter.text(), "changed": self._changed}

    def refresh(self) -> None:
        """Ask for the first page."""

        def answered(body: Body, buffers: Buffers) -> None:
            if isValid(self):
                self._show(body)

        def failed(failure: Body) -> None:
            if isValid(self):
                self.subtitle.setText(failure_words(failure)[0])

        self._session.ask("save_map", {**self._asked(), "start": 0, "limit": PAGE}, answered, failed, lane="save map")

    def _show(self, body: Body) -> None:
        different, total = int(body["different"]), int(body["all"])
        if self._first and not different and total:
            self._first = False
            self.which.choose("all")
            self._choose("all")
            return
        self._first = False
        self.table.rows.show_rows(body["rows"], int(body["total"]))
        words = f"{different:,} of {total:,} changed" if different else f"all {total:,} as they were"
        self.subtitle.setText(words if total else "there are none")
        self.filter.say(f"{int(body['total']):,}" if self.filter.text() else "")


def _put(column: QVBoxLayout, made: QWidget, stretch: int = 0) -> None:
    widgets.polish(made)
    column.addWidget(made, stretch)


def _token(row: Any) -> str:
    return {"same": "text2", "dropped": "text3"}.get(str(row[3]), "text")


def _show_folder(output: str) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(output).parent)))


def _notes(receipt: Body) -> Card | None:
    """What has to be known beside the checks: warnings first."""
    rows = []
    for warning in receipt.get("warnings") or ():
        # What was not tried is no loss.
        shown = ("info", "text2") if warning["code"] == "weights_only_not_tried" else ("warn", "warn")
        rows.append((*shown, str(warning["message"])))
    rows += [("info", "text2", str(note)) for note in receipt.get("notes") or ()]
    if not rows:
        return None
    card = Card()
    more: list[QWidget] = []
    for at, (icon, token, words) in enumerate(rows):
        line = _line(icon, token, sentence(text.visible(words, 500)), "second")
        card.column.addWidget(line)
        if at >= MOST_NOTES:
            line.hide()
            more.append(line)
    if more:
        button = widgets.button(f"{len(more)} more", link=True)

        def show() -> None:
            for line in more:
                line.show()
            button.hide()

        button.clicked.connect(show)
        card.column.addWidget(button, 0, Qt.AlignmentFlag.AlignLeft)
    return card


def _checks(receipt: Body) -> Card:
    checks = [sentence(text.visible(str(check), 300)) for check in receipt.get("checks") or ()]
    refused = sum(warning["code"] == "target_not_met" for warning in receipt.get("warnings") or ())
    card = Card("Checked by reading the new file back", f"{len(checks)} of {len(checks) + refused} held")
    card.column.addSpacing(6)
    for check in checks:
        card.column.addWidget(_line("checkc", "ok", check))
        card.column.addWidget(widgets.line())
    files = list(receipt.get("files") or ())
    for file in files[:MOST_FILES]:
        name = f"{text.visible(str(file['name']), 60)}, {text.size(int(file['size']))}"
        card.column.addLayout(_hash(name, str(file["sha256"])))
    if receipt.get("sha256"):
        more = f" of the list of all {len(files)}" if files else ""
        card.column.addLayout(_hash(f"SHA-256{more}", str(receipt["sha256"])))
    return card


def _hash(name: str, digest: str) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(8)
    row.addWidget(widgets.label(name, "second"))
    row.addWidget(Elided(digest, "mono", Qt.TextElideMode.ElideMiddle), 1)
    copy = widgets.icon_button("copy", f"Copy {name}" if name.startswith("SHA") else f"Copy SHA-256 of {name}")
    copy.clicked.connect(lambda: widgets.copy_text(digest))
    row.addWidget(copy)
    return row


class RecipeCard(Card):
    """The steps that made the copy; the recipe itself, which makes it again; the same as a program without sdviewer."""

    def __init__(self, saved: Saved, session: Session) -> None:
        steps = [step for step in saved.draft.steps if step.enabled]
        nothing = "no step: every key as it is"
        super().__init__("Recipe", text.plural(len(steps), "step") if steps else nothing)
        self._saved = saved
        self._session = session
        self._shown = "steps"
        self.which = Segments((("steps", "Steps", ""), ("python", "Python", ""), ("toml", "TOML", "")), "The recipe as")
        self.which.choose("steps" if steps else "toml")
        self.which.chosen.connect(self.show_as)
        if not steps:
            self.which.hide()
        copy = widgets.button("Copy", "copy")
        copy.setAccessibleName("Copy the recipe")
        copy.clicked.connect(self.copy)
        save = widgets.button("Save recipe…", "save")
        save.clicked.connect(lambda: _save_recipe(self, saved, session))
        for control in (self.which, copy, save):
            self.add_control(control)
        self.table = RowsTable(
            (
                Column("", lambda row: str(row[0]), 34, token=lambda row: "text3", right=True),
                Column("", cell(1), 0, token=lambda row: "text"),
            ),
            "Steps of the recipe",
        )
        self.table.horizontalHeader().hide()
        rows = [[number, text.visible(step.label, 200)] for number, step in enumerate(steps, 1)]
        self.table.rows.show_rows(rows, len(rows))
        self.table.setFixedHeight(min(len(rows), MOST_STEPS) * ROW_HEIGHT + 4)
        if not steps:
            self.table.hide()
        self.code = CodeBlock("")
        self.code.setAccessibleName("The recipe")
        self.code.setFixedHeight(CODE_HEIGHT)
        self.code.hide()
        self.set_body(self.table)
        self.set_body(self.code)

    def show_as(self, which: str) -> None:
        """Steps, or the text of one of the other forms."""
        self._shown = which
        self.table.setVisible(which == "steps")
        self.code.setVisible(which != "steps")
        if which != "steps":
            self._text(which, self.code.setPlainText)

    def copy(self) -> None:
        """Put the program on the clipboard where that is shown, else the recipe."""
        self._text("python" if self._shown == "python" else "toml", widgets.copy_text)

    def _text(self, which: str, done: Callable[[str], None]) -> None:
        def said(words: str) -> None:
            if isValid(self):
                done(words)

        if which == "toml":
            self._session.recipe_text(self._saved.draft, said)
            return
        params = {"recipe": self._saved.draft.to_text()}

        def failed(failure: Body) -> None:
            what, why = failure_words(failure)
            said(f"# There is no program for this recipe: {what}\n# {why}")

        self._session.ask("script", params, lambda body, _: said(str(body["text"])), failed, lane="script")


def _save_recipe(parent: QWidget, saved: Saved, session: Session) -> None:
    path = _chosen(parent, "Save the recipe", saved, "toml", "Recipes (*.toml)")
    if path:
        session.recipe_text(saved.draft, lambda toml: write_file(session, path, toml.encode()), path=path)


def _load(saved: Saved) -> Card:
    """Code that loads the copy."""
    ways = snippets(saved.receipt, saved.place, mappable=saved.mappable, left=saved.left)
    card = Card("Load it")
    block = CodeBlock(ways[0].code)
    block.setAccessibleName("Load it")
    if len(ways) > 1:
        choice = Segments([(way.title, way.title, "") for way in ways], "How it is loaded")
        choice.choose(ways[0].title)
        codes = {way.title: way.code for way in ways}
        choice.chosen.connect(lambda title: block.setPlainText(codes[title]))
        card.add_control(choice)
    copy = widgets.button("Copy", "copy")
    copy.setAccessibleName("Copy the code")
    copy.clicked.connect(lambda: widgets.copy_text(block.toPlainText()))
    card.add_control(copy)
    lines = max(way.code.count("\n") for way in ways) + 1
    high = QFontMetrics(resources.font(resources.NOTE, mono=True)).lineSpacing()
    block.setFixedHeight(min(lines, 16) * high + 26)
    card.set_body(block)
    return card


def _line(icon: str, token: str, words: str, role: str = "") -> QWidget:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 1, 0, 1)
    row.setSpacing(10)
    row.addWidget(IconLabel(icon, 16, token), 0, Qt.AlignmentFlag.AlignTop)
    said = widgets.label(words, role)
    said.setWordWrap(True)
    said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    row.addWidget(said, 1)
    return made
