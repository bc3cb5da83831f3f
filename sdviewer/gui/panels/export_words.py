"""Tells in the banner what became of an export."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from sdviewer.core import text
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.banner import Banner
from sdviewer.gui.panels.wording import failure_words, with_name
from sdviewer.gui.session import Session


def tell_exports(banner: Banner, session: Session) -> None:
    """From now on, of this session."""

    def exported(body: Body) -> None:
        out = str(body["out"])
        name = text.visible(Path(out).name, 80)
        what = f"Exported {text.plural(int(body['tensors']), 'tensor')} to {name}, {text.size(int(body['size']))}."
        buttons = [("Show in folder", lambda: show_folder(out))]
        banner.tell("info", what, "Written, read back and compared.", _details(body), buttons)

    def failed(failure: Body) -> None:
        banner.tell("error", *failure_words(with_name(failure)))

    def stopped(out: str) -> None:
        banner.tell("info", "The export was stopped.", f"Nothing is left of {text.visible(Path(out).name, 80)}.")

    session.exporting.exported.connect(exported)
    session.exporting.failed.connect(failed)
    session.exporting.stopped.connect(stopped)


def _details(body: Body) -> str:
    lines = [text.visible(str(check), 400) for check in body["checks"]]
    return "\n".join([*lines, f"SHA-256 {body['sha256']}"])


def show_folder(out: str) -> None:
    """Open the folder of a file in the desktop's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(out).parent)))
