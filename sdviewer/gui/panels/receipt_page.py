"""The report after saving: a page, not a box. It lists the checks that were made and nothing else."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget
from shiboken6 import isValid

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card, CodeBlock, Elided, IconLabel
from sdviewer.repair.operations import Unwrap


class ReceiptPage(QScrollArea):
    """What a save did."""

    back_requested = Signal()
    file_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self._output = ""

    def show_receipt(self, receipt: Body, session: Session) -> None:
        """Fill the page."""
        self._output = str(receipt["output"])
        inside = QWidget()
        page = QVBoxLayout(inside)
        page.setContentsMargins(14, 14, 14, 14)
        page.setSpacing(10)
        page.addWidget(self._head(receipt))
        for warning in receipt.get("warnings") or ():
            page.addWidget(self._note(str(warning["message"])))
        for note in receipt.get("notes") or ():
            page.addWidget(self._note(str(note)))
        body = QWidget()
        row = QHBoxLayout(body)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        left, right = QVBoxLayout(), QVBoxLayout()
        for column in (left, right):
            column.setSpacing(10)
        left.addWidget(self._checks(receipt))
        left.addWidget(self._load(_place(session)))
        left.addStretch(1)
        right.addWidget(self._recipe(session), 1)
        row.addLayout(left, 11)
        row.addLayout(right, 9)
        page.addWidget(body, 1)
        widgets.polish(inside)
        self.setWidget(inside)

    def _head(self, receipt: Body) -> Card:
        card = Card()
        row = QHBoxLayout()
        row.setSpacing(14)
        row.addWidget(IconLabel("checkc", 28, "ok"))
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(widgets.label("Saved and read back", "heading"))
        path = Path(self._output)
        facts = [text.visible(path.name, 80), text.visible(str(path.parent), 120), text.size(int(receipt["size"]))]
        facts.append(f"written in {text.seconds(float(receipt['seconds_writing']))}")
        facts.append(f"checked in {text.seconds(float(receipt['seconds_verifying']))}")
        words.addWidget(Elided("   ·   ".join(facts), "second"))
        row.addLayout(words, 1)
        for name, icon, act, primary in (
            ("Show in folder", "open", self._show_folder, False),
            ("Keep editing", "undo", self.back_requested.emit, False),
            ("Open saved file", "file", lambda: self.file_chosen.emit(self._output), True),
        ):
            made = widgets.button(name, icon, primary=primary)
            made.clicked.connect(act)
            row.addWidget(made)
        card.column.setContentsMargins(22, 14, 16, 14)
        card.column.addLayout(row)
        return card

    def _show_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(self._output).parent)))

    def _note(self, words: str) -> Card:
        card = Card()
        row = QHBoxLayout()
        row.addWidget(IconLabel("info", 15), 0, Qt.AlignmentFlag.AlignTop)
        said = widgets.label(sentence(text.visible(words, 500)), "second")
        said.setWordWrap(True)
        row.addWidget(said, 1)
        card.column.addLayout(row)
        return card

    def _checks(self, receipt: Body) -> Card:
        checks = [sentence(text.visible(str(check), 300)) for check in receipt.get("checks") or ()]
        card = Card("Checked by reading the new file back", f"{len(checks)} held")
        for check in checks:
            row = QHBoxLayout()
            row.setContentsMargins(0, 1, 0, 1)
            row.setSpacing(10)
            row.addWidget(IconLabel("checkc", 16, "ok"))
            said = widgets.label(check)
            said.setWordWrap(True)
            row.addWidget(said, 1)
            card.column.addLayout(row)
            card.column.addWidget(widgets.line())
        if receipt.get("sha256"):
            row = QHBoxLayout()
            row.addWidget(widgets.label("SHA-256", "second"))
            row.addWidget(Elided(str(receipt["sha256"]), "mono", Qt.TextElideMode.ElideMiddle), 1)
            copy = widgets.icon_button("copy", "Copy SHA-256")
            copy.clicked.connect(lambda: widgets.copy_text(str(receipt["sha256"])))
            row.addWidget(copy)
            card.column.addLayout(row)
        return card

    def _load(self, place: str) -> Card:
        name = Path(self._output).name
        if name.endswith(".safetensors"):
            code = f"from safetensors.torch import load_file\n\nsd = load_file({name!r})\nmodel.load_state_dict(sd)"
        else:
            code = f"import torch\n\nsd = torch.load({name!r}, weights_only=True){place}\nmodel.load_state_dict(sd)"
        return _code_card("Load it", text.visible(code, 2000).replace("\\n", "\n"), 96)[0]

    def _recipe(self, session: Session) -> Card:
        steps = len(session.written.steps)
        card, block = _code_card("Recipe", "", 220, text.plural(steps, "step"))
        session.recipe_text(session.written, lambda toml: block.setPlainText(toml) if isValid(block) else None)
        return card


def _place(session: Session) -> str:
    """Where the state dict is in the saved file, as Python takes it out: `["state_dict"]`, "" where it is the file."""
    unwrapped = any(step.enabled and step.op == Unwrap.op for step in session.written.steps)
    dotted = "" if unwrapped else str(session.edit.get("state_dict") or "")
    return "".join(f"[{part!r}]" for part in dotted.split(".")) if dotted else ""


def _code_card(title: str, code: str, height: int, subtitle: str = "") -> tuple[Card, CodeBlock]:
    card = Card(title, subtitle)
    block = CodeBlock(code)
    copy = widgets.button("Copy", "copy")
    copy.clicked.connect(lambda: widgets.copy_text(block.toPlainText()))
    card.add_control(copy)
    block.setAccessibleName(title)
    block.setMinimumHeight(height)
    if not subtitle:
        block.setMaximumHeight(height)
    card.set_body(block)
    return card, block
