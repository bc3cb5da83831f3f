"""What the plots of a series have in common: what is pointed at in them is told, and they can be taken out."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QSizePolicy

from sdviewer.gui import widgets
from sdviewer.gui.plots.picture import Column, as_text
from sdviewer.gui.plots.picture_card import PictureCard
from sdviewer.gui.series_session import SeriesSession


class SeriesCard(PictureCard):
    """A card of one series. `pointed` says what is pointed at."""

    pointed = Signal(str)

    def __init__(self) -> None:
        super().__init__(self.title, " ")
        self.session: SeriesSession | None = None
        self.said = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @property
    def key(self) -> str:
        return self.session.name if self.session is not None else ""

    @property
    def folder(self) -> str:
        return str(self.session.info.get("folder", "")) if self.session is not None else ""

    def table(self) -> list[Column]:
        """What is drawn, as columns with their headings; none where nothing is."""
        raise NotImplementedError

    def remark(self) -> str:
        """The line above the columns: what the numbers are."""
        raise NotImplementedError

    def say(self, words: str) -> None:
        """What is said behind the title."""
        self.said = words
        self.subtitle.setText(words)

    def can_be_copied(self) -> bool:
        return bool(self.table())

    def copy_data(self) -> None:
        if table := self.table():
            widgets.copy_text(f"# {self.key}: {self.remark()}\n{as_text(table)}")
            self.pointed.emit(f"Copied the data of {self.title}: {self.remark()}")

    def step_names(self, steps: list[int]) -> Column:
        """A column of what steps are called, headed by what counts them."""
        assert self.session is not None
        labels = self.session.info["labels"]
        return str(self.session.info["unit"]) or "step", [str(labels[step]) for step in steps]
