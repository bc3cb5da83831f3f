"""What is wrong with either of two files, or what loading it would do, where no tab of that file is in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.banner import Banner, Tone
from sdviewer.gui.panels.security_words import banner_words
from sdviewer.gui.panels.wording import problem_words

Told = tuple[Tone, str, str]

NOTHING: Final[Told] = ("info", "", "")


class FileBanners(QWidget):
    """A banner for A and one for B, in the words of the file's own tab. `file_chosen` tells which is to be opened."""

    file_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.banners = {"a": Banner(), "b": Banner()}
        self._told = dict.fromkeys(self.banners, NOTHING)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for banner in self.banners.values():
            column.addWidget(banner)

    def forget(self) -> None:
        """Other files are opened, or the same ones again."""
        for side, banner in self.banners.items():
            self._told[side] = NOTHING
            banner.hide()

    def tell(self, side: str, path: str, problems: Sequence[Sequence[str]], files: int, scan: Body) -> None:
        """Say what is known of a file now; what was said and dismissed is not said again.

        `problems` and `files` are those of engine.problems, `scan` is what its pickles ask for, empty until that is
        known.
        """
        told = _told(problems, files, scan) or NOTHING
        if told == self._told[side]:
            return
        self._told[side] = told
        banner, letter = self.banners[side], side.upper()
        tone, what, why = told
        if not what:
            banner.hide()
            return
        banner.tell(tone, f"{letter}: {what}", why, buttons=[(f"Open {letter}", lambda: self.file_chosen.emit(path))])


def _told(problems: Sequence[Sequence[str]], files: int, scan: Body) -> Told | None:
    """What loading it would do goes before what is wrong with it, and says that too."""
    words = banner_words(scan, any(problem[0] == "error" for problem in problems)) if scan else None
    return ("security", *words) if words is not None else problem_words(problems, files)
