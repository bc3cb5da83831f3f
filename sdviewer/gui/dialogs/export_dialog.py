"""Asks as what the selected tensors are taken out, and says before what that loses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog, field_grid
from sdviewer.gui.exporting import KINDS, OF_NUMPY, ONE, ExportOrder
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.wording import failure_words, sentence
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Choice, Elided, Segments

_NO_NAME: Final = re.compile(r"[^\w.+=@ -]+")
"""What does not belong into a file's name."""
_LONGEST_NAME: Final = 120


class ExportDialog(AskingDialog):
    """One small sheet. `kind`, `raw`: what was chosen; `would` is what the worker said of it, None until it has."""

    def __init__(self, parent: QWidget, session: Session, rows: tuple[int, ...], kind: str = "") -> None:
        super().__init__(parent, "Export")
        self.setMinimumWidth(520)
        self.session = session
        self.rows = rows
        self.would: Body | None = None
        self._raw = False
        self.container = Choice("Format")
        for name, (words, suffix) in KINDS.items():
            self.container.addItem(f"{words} ({suffix})", name)
        self.narrow = Segments((("float32", "As float32", ""), ("raw", "As bytes without a type", "")), "Other types")
        self.narrow.choose("float32")
        self.export = widgets.button("E&xport…", "export", primary=True)
        self._heading = Elided("Export", "path", Qt.TextElideMode.ElideMiddle)
        self._lacking = widgets.label("", "hint")
        self._said = widgets.label("", "second")
        self._wrong = widgets.label("", "error")
        for said in (self._lacking, self._said, self._wrong):
            said.setWordWrap(True)
        self._lay_out()
        self.container.setCurrentIndex(max(0, self.container.findData(kind)))
        self.container.currentIndexChanged.connect(self._ask)
        self.narrow.chosen.connect(self._narrow_chosen)
        self._first = not kind
        self._ask()

    def _lay_out(self) -> None:
        column = self.make_column(self._heading)
        grid = field_grid(6)
        name = widgets.label("&Format", "second")
        name.setBuddy(self.container)
        grid.addWidget(name, 0, 0)
        grid.addWidget(self.container, 0, 1)
        self._narrow_name = widgets.label("&Other types", "second")
        self._narrow_name.setBuddy(self.narrow)
        grid.addWidget(self._narrow_name, 1, 0)
        grid.addWidget(self.narrow, 1, 1, Qt.AlignmentFlag.AlignLeft)
        grid.addWidget(self._lacking, 2, 1)
        column.addLayout(grid)
        column.addWidget(self._said)
        column.addStretch(1)
        column.addLayout(self.make_foot(self.export, self._wrong))

    @property
    def kind(self) -> str:
        """What is chosen (`formats.exporting.EXPORTS`)."""
        return str(self.container.currentData())

    @property
    def raw(self) -> bool:
        """Whether types that NumPy lacks become bytes."""
        return self.kind in OF_NUMPY and self._raw

    def _narrow_chosen(self, chosen: str) -> None:
        self._raw = chosen == "raw"
        self._ask()

    def _ask(self) -> None:
        self.would = None
        self.export.setEnabled(False)
        params = {"rows": list(self.rows), "kind": self.kind, "raw": self.raw}
        self.session.ask("would_export", params, self._answered, self._failed, lane="would export")

    def _failed(self, failure: Body) -> None:
        self._wrong.setText(" ".join(failure_words(failure)))

    def _answered(self, would: Body, buffers: Buffers) -> None:
        several = int(would["tensors"]) != 1
        if self._first and several and self.kind in ONE:
            # Begin with something that can hold them.
            self._first = False
            self.container.setCurrentIndex(self.container.findData("safetensors"))
            return
        self._first = False
        self.would = would
        name = text.visible(str(would["name"]), 200)
        what = text.plural(int(would["tensors"]), "tensor") if several else name
        self._heading.setText(f"Export {what} of {name}" if several and len(self.rows) == 1 else f"Export {what}")
        lacking = int(would["lacking"])
        asks = bool(lacking) and self.kind in OF_NUMPY
        for widget in (self._narrow_name, self.narrow, self._lacking):
            widget.setVisible(asks)
        many = "one tensor is" if lacking == 1 else f"{text.count(lacking)} tensors are"
        self._lacking.setText(
            f"NumPy has no bfloat16 and no float8, and {many} of these. Every value is one of float32, exactly."
        )
        lines = [f"{text.size(int(would['nbytes']))} of numbers."] if not would["error"] else []
        if lacking and self.kind == "csv":
            lines.append("Written as float32 values, each exactly.")
        lines += [sentence(str(one)) for one in would["losses"]]
        self._said.setText("\n".join(lines))
        self._wrong.setText(" ".join(failure_words(would["error"])) if would["error"] else "")
        self.export.setEnabled(not would["error"])

    def order(self, out: str, *, overwrite: bool) -> ExportOrder:
        """What was decided, for a place."""
        return ExportOrder(self.rows, out, self.kind, self.raw, overwrite)


def ask(parent: QWidget, session: Session, folder: str = "") -> ExportOrder | None:
    """As what and where the selected rows go, None where somebody thought better of it."""
    dialog = ExportDialog(parent, session, tuple(session.selection))
    try:
        if dialog.exec() != QDialog.DialogCode.Accepted or dialog.would is None:
            return None
        words, suffix = KINDS[dialog.kind]
        at = Path(folder or str(Path(session.path).parent)) / file_name(str(dialog.would["name"]), suffix)
        out, _ = QFileDialog.getSaveFileName(parent, "Export", str(at), f"{words} (*{suffix});;All files (*)")
        if not out:
            return None
        if not Path(out).suffix:
            out += suffix
            # The question whether a file may go was asked about another name.
            return dialog.order(out, overwrite=False)
        return dialog.order(out, overwrite=True)
    finally:
        dialog.deleteLater()


def file_name(name: str, suffix: str) -> str:
    """A key as a file is called: without what a file system, a shell or a reader stumbles over."""
    plain = _NO_NAME.sub("_", text.visible(name, _LONGEST_NAME)).strip(" ._")
    return f"{plain or 'tensor'}{suffix}"
