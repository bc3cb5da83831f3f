"""The files of a series in their order, with what is to be known of each; two of them make a comparison."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QItemSelectionModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QHeaderView, QStyledItemDelegate, QStyleOptionViewItem

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.panels.file_view import RowsTable
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.widgets import Card, Elided

Index = QModelIndex | QPersistentModelIndex

STEP, LABEL, NAME, KEYS, SIZE, METRIC, NOTES, STATE = range(8)
"""Places in a FILE of `engine.series`."""

FILE: Final = 2
"""The column with the names."""
NARROWEST: Final = 84
"""Pixels that it has at least: the middle of a name is left out, its step is seen."""
PADDING: Final = 24
"""Pixels of a cell beside its words."""

TOKENS: Final = {"best": "ok", "odd": "S", "failed": "S", "damaged": "S", "new": "text2", "same": "text2"}
ICONS: Final = {"best": "check", "odd": "nan", "failed": "warn", "damaged": "warn", "new": "plus", "same": "eq"}


def _tone(row: Any) -> str:
    """The tone of the worst that is said of a file."""
    tones = [tone for tone, _ in row[NOTES]]
    return next((tone for tone in ("failed", "damaged", "odd", "best", "new", "same") if tone in tones), "")


def _icon(row: Any) -> tuple[str, str]:
    tone = _tone(row)
    return (ICONS[tone], TOKENS[tone]) if tone else ("file", "text3")


def _notes(row: Any) -> str:
    return " · ".join(words for _, words in row[NOTES])


def _whole(row: Any) -> str:
    """All that is known of a file, for its tooltip."""
    if row[STATE] != "read":
        return f"{row[NAME]}\n{_notes(row) or 'not read yet'}"
    facts = f"{text.plural(row[KEYS], 'key')} · {text.size(row[SIZE])}"
    return "\n".join(part for part in (str(row[NAME]), facts, _notes(row)) if part)


class _MiddleElided(QStyledItemDelegate):
    """Leaves out the middle of what does not fit: the step stands at the end of a name."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: Index) -> None:
        super().initStyleOption(option, index)
        option.textElideMode = Qt.TextElideMode.ElideMiddle


class FilesCard(Card):
    """The list. `steps_selected` carries the selected steps, `compare_requested` two of them, `file_chosen` one."""

    steps_selected = Signal(object)
    compare_requested = Signal(int, int)
    file_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__("Files", " ")
        self._session: SeriesSession | None = None
        self._chosen: list[int] = []
        self._silent = False
        self._metric_shown = ""
        columns = (
            Column("", lambda row: "", 28, icon=_icon, tip=_whole),
            Column(
                "Step", lambda row: str(row[LABEL]), 62, mono=True, right=True, token=lambda row: "text", tip=_whole
            ),
            Column("File", lambda row: str(row[NAME]), 0, tip=_whole),
            Column("", self._metric, 78, mono=True, right=True, token=self._metric_token, tip=_whole),
            Column("Worth a look", _notes, 0, token=lambda row: TOKENS.get(_tone(row), "text2"), tip=_whole),
        )
        self.table = RowsTable(columns, "Files of the series")
        self.table.setItemDelegateForColumn(FILE, _MiddleElided(self.table))
        self.table.horizontalHeader().setSectionResizeMode(FILE, QHeaderView.ResizeMode.Fixed)
        self.table.row_activated.connect(lambda row: self.file_chosen.emit(int(row[STEP])))
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._selected())
        self.set_body(self.table)
        foot = QHBoxLayout()
        self._hint = Elided("", "note")
        self.compare = widgets.button("Compare", "compare", primary=True)
        self.compare.clicked.connect(self._compare)
        foot.addWidget(self._hint, 1)
        foot.addWidget(self.compare)
        self.column.addLayout(foot)
        self._say_selection()

    def _metric(self, row: Any) -> str:
        return "" if row[METRIC] is None else text.value(row[METRIC])

    def _metric_token(self, row: Any) -> str:
        return "ok" if any(tone == "best" for tone, _ in row[NOTES]) else "text2"

    def show_files(self, session: SeriesSession, body: Body) -> None:
        """Show the files as the worker knows them now."""
        self._session = session
        rows = body["rows"]
        model = self.table.rows
        metric = str(body["metric"])
        titles = {1: str(session.info["unit"]).capitalize() or "Step", 3: metric}
        model.columns = tuple(
            [column._replace(title=titles.get(at, column.title)) for at, column in enumerate(model.columns)]
        )
        if rows == model.rows and titles[3] == self._metric_shown:
            return
        self._metric_shown = metric
        chosen = list(self._chosen)
        top = self.table.verticalScrollBar().value()
        self._silent = True
        model.show_rows(rows, len(rows))
        self._silent = False
        self.table.setColumnHidden(3, not metric)
        self._fit_names()
        self.select(chosen)
        self.table.verticalScrollBar().setValue(top)
        noted = sum(1 for row in rows if _tone(row) in ("odd", "failed", "damaged"))
        self.subtitle.setText(f"{text.plural(noted, 'file')} with NaN, Inf or damage" if noted else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_names()

    def _fit_names(self) -> None:
        """Names take what they need of what the words behind them leave: a name is also told by its step."""
        rows, metrics = self.table.rows.rows, self.table.fontMetrics()
        name, words = (
            metrics.horizontalAdvance(max(texts, key=len, default="")) + PADDING
            for texts in ([row[NAME] for row in rows], [_notes(row) for row in rows])
        )
        header = self.table.horizontalHeader()
        others = sum(header.sectionSize(at) for at in range(header.count()) if at not in (FILE, FILE + 2))
        room = self.table.viewport().width() - others - words
        self.table.setColumnWidth(FILE, max(min(name, room), NARROWEST))

    def select(self, steps: list[int]) -> None:
        """Select these steps, telling nobody."""
        self._silent = True
        selection = self.table.selectionModel()
        selection.clearSelection()
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for step in steps:
            if step < len(self.table.rows.rows):
                selection.select(self.table.rows.index(step, 0), flags)
        if steps and steps[-1] < len(self.table.rows.rows):
            index = self.table.rows.index(steps[-1], 0)
            selection.setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.table.scrollTo(index)
        self._silent = False
        self._chosen = steps
        self._say_selection()

    def _selected(self) -> None:
        if self._silent:
            return
        self._chosen = sorted(index.row() for index in self.table.selectionModel().selectedRows())
        self._say_selection()
        self.steps_selected.emit(self._chosen)

    def pair(self) -> tuple[int, int] | None:
        """The two steps that a comparison would be of: those selected, or one and the one before it."""
        if len(self._chosen) == 2:
            return self._chosen[0], self._chosen[1]
        if len(self._chosen) == 1 and self._chosen[0] > 0:
            return self._chosen[0] - 1, self._chosen[0]
        return None

    def _say_selection(self) -> None:
        pair, session = self.pair(), self._session
        self.compare.setEnabled(pair is not None)
        if pair is None or session is None:
            self._hint.setText("Select two files to compare them (Ctrl+click).")
            self.compare.setToolTip("Select two files first, or one to compare it with the one before it.")
            return
        a, b = map(session.label, pair)
        words = f"{a} with {b}" if len(self._chosen) == 2 else f"{b} with the one before it"
        self._hint.setText(words)
        self.compare.setToolTip(f"Compare {a} with {b}, side by side")

    def _compare(self) -> None:
        if (pair := self.pair()) is not None:
            self.compare_requested.emit(*pair)
