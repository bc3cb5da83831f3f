"""Small files that the window writes itself (a recipe, a program, a receipt): asking where, and writing them whole."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QSaveFile, SignalInstance
from PySide6.QtWidgets import QFileDialog, QWidget

from sdviewer.core import text


def choose_place(parent: QWidget, title: str, proposed: Path, filters: str) -> str:
    """Where such a file goes, "" for nowhere. The suffix of `proposed` is added to a name without one.

    Of several `filters` the one that is chosen gives the suffix.
    """
    dialog = QFileDialog(parent, title)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters(filters.split(";;"))
    dialog.setDefaultSuffix(proposed.suffix.removeprefix("."))
    dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix(_suffix(chosen)))
    dialog.setDirectory(str(proposed.parent))
    dialog.selectFile(proposed.name)
    accepted = dialog.exec() == QFileDialog.DialogCode.Accepted
    found = dialog.selectedFiles()[0] if accepted and dialog.selectedFiles() else ""
    dialog.deleteLater()
    return found


def _suffix(chosen: str) -> str:
    """The first suffix of a filter: `json` of `JSON (*.json)`."""
    return chosen.partition("*.")[2].partition(")")[0].partition(" ")[0]


class Teller(Protocol):
    """Who tells that a file was not written: the session of a document, or of a comparison."""

    trouble: SignalInstance


def write_file(session: Teller, path: str, content: bytes) -> bool:
    """Write a file whole or not at all: on a full disk the one that was there before stays. A failure is told."""
    file = QSaveFile(path)
    if file.open(QSaveFile.OpenModeFlag.WriteOnly) and file.write(content) == len(content) and file.commit():
        return True
    reason, name = file.errorString(), text.visible(Path(path).name, 80)
    file.cancelWriting()
    session.trouble.emit({"message": f"{name} was not written: {reason}", "remedy": "", "path": path})
    return False
