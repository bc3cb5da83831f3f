"""A tensor dragged out of the tree: a file that is made when the pointer leaves the window, and is gone at exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QEventLoop, QMimeData, QTimer, QUrl

from sdviewer.gui.dialogs.export_dialog import file_name
from sdviewer.gui.exporting import ExportOrder
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.session import Session

ROWS_MIME: Final = "application/x-sdviewer-rows"
_URIS: Final = "text/uri-list"
LONGEST_WAIT: Final = 60_000
"""Milliseconds after which who takes the file gets none."""


class _Folder:
    """Where dragged files lie until the program ends; made with the first."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def place(self, name: str) -> Path:
        """A place for a file of this name, in a folder of its own: two tensors can be called alike."""
        if self.folder is None:
            _remove_left_over()
            self.folder = Path(tempfile.mkdtemp(prefix=f"sdviewer-dragged-{os.getpid()}-"))
            atexit.register(self.remove)
        return Path(tempfile.mkdtemp(dir=self.folder)) / name

    def remove(self) -> None:
        """Remove all of them."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def _remove_left_over() -> None:
    """Remove what programs of this user left that were killed."""
    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob("sdviewer-dragged-*-*"):
        pid = folder.name.split("-")[2]
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid == os.getuid() and not _lives(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


FILES: Final = _Folder()


class DraggedRows(QMimeData):
    """Rows of the tree for the tree itself; a single tensor also as a file, for everybody else."""

    def __init__(self, session: Session | None, tensor: int) -> None:
        """`tensor` is the row of the one tensor that is dragged, -1 where it is something else."""
        super().__init__()
        self.setData(ROWS_MIME, b"rows")
        self._session = session
        self._tensor = tensor
        self._begun = False
        self._ended = False
        self._path = ""
        self._waiting: QEventLoop | None = None

    def hasFormat(self, kind: str) -> bool:
        return (kind == _URIS and self._tensor >= 0) or super().hasFormat(kind)

    def formats(self) -> list[str]:
        return [*super().formats(), *([_URIS] if self._tensor >= 0 else [])]

    def begin(self) -> None:
        """Start to make the file, once."""
        session = self._session
        if self._begun or self._tensor < 0 or session is None:
            return
        self._begun = True
        out = str(FILES.place(file_name(self._name(session), ".npy")))

        def done(body: Body, buffers: Buffers) -> None:
            self._path = out
            self._end()

        def failed(failure: Body) -> None:
            session.trouble.emit(failure)
            self._end()

        session.export_aside(ExportOrder((self._tensor,), out, "npy"), done, failed)

    def _name(self, session: Session) -> str:
        facts, sheet = session.facts, session.sheet
        if facts.get("row") == self._tensor:
            return str(facts.get("key") or facts.get("dotted") or facts["name"])
        assert sheet is not None
        return sheet.name(self._tensor)

    def _end(self) -> None:
        self._ended = True
        if self._waiting is not None:
            self._waiting.quit()

    def retrieveData(self, kind: str, wanted: Any) -> Any:
        if kind != _URIS:
            return super().retrieveData(kind, wanted)
        self.begin()
        if not self._ended:
            # Whoever takes it wants it now. The window goes on meanwhile, without being touched.
            self._waiting = QEventLoop()
            QTimer.singleShot(LONGEST_WAIT, self._waiting.quit)
            self._waiting.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
            self._waiting = None
        return [QUrl.fromLocalFile(self._path)] if self._path else []
