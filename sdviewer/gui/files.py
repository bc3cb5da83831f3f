"""The commands of the File menu: opening, saving, closing with one question where something would be lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from sdviewer.core import text
from sdviewer.gui.dialogs import export_dialog, save_dialog
from sdviewer.gui.dialogs.containers import SHARDED
from sdviewer.gui.saving import RUNNING, Kind
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Settings

OPEN_SUFFIXES = [
    ".pth",
    ".pt",
    ".bin",
    ".ckpt",
    ".safetensors",
    ".th",
    ".t7",
    ".tar",
    ".zip",
    ".mar",
    ".ts",
    ".jit",
    ".ptl",
    ".pt2",
    ".p",
    ".pk",
    ".pkl",
    ".pickle",
    ".json",
    ".metadata",
    ".npy",
    ".npz",
    ".gguf",
    ".onnx",
    ".h5",
    ".hdf5",
    ".keras",
]
"""Those of all formats, which the window's process does not import; a test compares."""
OPEN_FILTER = f"Checkpoints ({' '.join(f'*{suffix}' for suffix in OPEN_SUFFIXES)});;All files (*)"

Answer = Literal["save", "close", "cancel"]


class Documents(Protocol):
    """What the main window does for these commands."""

    def open_paths(self, paths: list[str]) -> None: ...
    def current_session(self) -> Session | None: ...
    def reload_current(self) -> None: ...
    def remove_tab(self, session: Session) -> None: ...


class Files:
    """Works on the tabs of one window."""

    def __init__(self, window: QWidget, documents: Documents, settings: Settings) -> None:
        self._window = window
        self._documents = documents
        self._settings = settings
        self._closed: list[Callable[[], object]] = []
        """What opens again what was closed, the last one last."""
        # Sessions that go as soon as their copy is saved.
        self._leaving: set[Session] = set()

    def open_dialog(self) -> None:
        """Choose files."""
        folder = str(self._settings.get("files/last_folder"))
        paths, _ = QFileDialog.getOpenFileNames(self._window, "Open checkpoints", folder, OPEN_FILTER)
        if paths:
            self._settings.set("files/last_folder", str(Path(paths[0]).parent))
            self._documents.open_paths(paths)

    def open_folder_dialog(self) -> None:
        """Choose a folder that is a checkpoint: with an index and shards, or of a distributed run."""
        folder = str(self._settings.get("files/last_folder"))
        path = QFileDialog.getExistingDirectory(self._window, "Open a checkpoint's folder", folder)
        if path:
            self._settings.set("files/last_folder", str(Path(path).parent))
            self._documents.open_paths([path])

    def save(self) -> None:
        """Write the repaired copy where it was written last, or ask."""
        session = self._documents.current_session()
        if session is None:
            return
        order = session.order_again
        if order is not None and order.container != SHARDED:
            session.carry_out(order)
        else:
            self.ask_and_save(session)

    def save_as(self) -> None:
        """Ask where and how the repaired copy is written, and write it."""
        self._ask_in_front("repaired")

    def save_clean(self) -> None:
        """The same, without foreign objects."""
        self._ask_in_front("clean")

    def save_slim(self) -> None:
        """The same, without what is only needed to go on training."""
        self._ask_in_front("slim")

    def convert(self) -> None:
        """The same, in another container."""
        self._ask_in_front("converted")

    def export(self) -> None:
        """Take the selected tensors out into a file of their own."""
        session = self._documents.current_session()
        if session is None or not session.selection:
            return
        order = export_dialog.ask(self._window, session)
        if order is not None:
            session.export(order)

    def _ask_in_front(self, kind: Kind) -> None:
        session = self._documents.current_session()
        if session is not None:
            self.ask_and_save(session, kind)

    def ask_and_save(self, session: Session, kind: Kind = "repaired", *, again: bool = False) -> bool:
        """Whether a save began. `again`: the sheet begins with the order that was not carried out."""
        if session.saving.running:
            session.save_failed.emit(RUNNING)
            return False
        before = session.saving.last if again else None
        order = save_dialog.ask(self._window, session, kind if before is None else before.kind, before)
        if order is None:
            return False
        session.carry_out(order)
        return True

    def ask_repaired(self, session: Session) -> None:
        """Ask where the repaired copy of a document is written that need not be in front."""
        self.ask_and_save(session)

    def reload(self) -> None:
        """Read the file in front again."""
        self._documents.reload_current()

    def check_contents(self) -> None:
        """Compare the bytes of the file in front with its checksums."""
        if session := self._documents.current_session():
            session.check_contents()

    def reopen_tab(self) -> None:
        """The file, the comparison or the series closed last."""
        if self._closed:
            self._closed.pop()()

    def closed(self, opens_again: Callable[[], object]) -> None:
        """A tab is gone, and this would bring it back."""
        self._closed.append(opens_again)

    def close_session(self, session: Session) -> bool:
        """Close a tab, after one question where steps would be lost. False: it stays, or goes when it is saved."""
        if session.saving.running and not self._may_stop(session):
            return False
        answer: Answer = self.ask_about_loss(session) if session.modified else "close"
        if answer == "save":
            if session not in self._leaving:
                self._leaving.add(session)
                session.saved.connect(lambda receipt: self._saved(session))
                session.save_failed.connect(lambda failure: self._leaving.discard(session))
                session.save_stopped.connect(lambda out: self._leaving.discard(session))
            if not self.ask_and_save(session):
                self._leaving.discard(session)
            return False
        if answer == "cancel":
            return False
        self._closed_file(session)
        return True

    def _may_stop(self, session: Session) -> bool:
        """Ask about a copy that is being written; True: it was stopped."""
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.NoIcon)
        box.setWindowTitle("Close")
        box.setText(f"A copy of {session.name} is still being written.")
        box.setInformativeText("If it is stopped, nothing of it is left.")
        stop = box.addButton("Stop it and close", QMessageBox.ButtonRole.DestructiveRole)
        stay = box.addButton("Keep writing", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        box.exec()
        stopped = box.clickedButton() is stop
        box.deleteLater()
        if stopped:
            session.saving.cancel()
        return stopped

    def _saved(self, session: Session) -> None:
        if session in self._leaving:
            self._leaving.discard(session)
            self._closed_file(session)

    def _closed_file(self, session: Session) -> None:
        self.closed(partial(self._documents.open_paths, [session.path]))
        self._documents.remove_tab(session)

    def ask_about_loss(self, session: Session) -> Answer:
        """The one question on closing."""
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.NoIcon)
        box.setWindowTitle("Close")
        box.setText(f"Save the repaired copy of {session.name} before closing?")
        box.setInformativeText(f"{text.plural(len(session.recipe.steps), 'step')} of its recipe would be lost.")
        save = box.addButton("Save…", QMessageBox.ButtonRole.AcceptRole)
        close = box.addButton("Close without saving", QMessageBox.ButtonRole.DestructiveRole)
        cancel = box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(save)
        box.setEscapeButton(cancel)
        box.exec()
        clicked = box.clickedButton()
        box.deleteLater()
        return "save" if clicked is save else "close" if clicked is close else "cancel"


def log_for_tests(what: str, path: str) -> None:
    """Tell a test or a benchmark what this process did with a file: "open" it, or that its tree is "painted"."""
    log = os.environ.get("SDVIEWER_TEST_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(f"{os.getpid()} {what} {path}\n")
