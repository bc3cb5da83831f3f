"""Worth a look: what was found, a sentence each, worst first, with a link to the tensors it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.panels.file_view import scrolled
from sdviewer.gui.widgets import Card, Elided, IconLabel, KeyHint

_ICONS: Final = {"nan": "nan", "inf": "nan", "shared": "link", "duplicates": "copy", "hazard": "shieldw"}
_OF_SEVERITY: Final = {"error": ("warn", "S"), "warning": ("warn", "warn"), "info": ("info", "text2")}


class Shown(NamedTuple):
    """One finding as it is shown: to `rows` of the tree, or to a `view` of the whole file."""

    severity: str
    kind: str
    title: str
    detail: str
    rows: tuple[int, ...] = ()
    view: str = ""


class FindingsCard(Card):
    """The list; its rows are made as they are needed, one a turn of the event loop, and used again."""

    rows_chosen = Signal(object)
    view_chosen = Signal(str)
    measure_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Worth a look")
        self.count = KeyHint("")
        self.count.setAccessibleName("Findings")
        self.add_control(self.count)
        inside = QWidget()
        self._list = QVBoxLayout(inside)
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(0)
        self._nothing = widgets.label("", "second")
        self._nothing.setWordWrap(True)
        self._list.addWidget(self._nothing)
        self._list.addStretch(1)
        self.rows: list[FindingRow] = []
        self.findings: list[Shown] = []
        self._progress = Elided("", "hint")
        self.measure = widgets.button("Measure", link=True)
        self.measure.setProperty("tone", "accent")
        self.measure.clicked.connect(self.measure_requested)
        scroll = scrolled(inside)
        for part in (inside, scroll.viewport()):
            part.setAutoFillBackground(False)
        self.set_body(scroll)
        foot = QHBoxLayout()
        foot.addWidget(self._progress, 1)
        foot.addWidget(self.measure)
        self.column.addLayout(foot)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(150)
        self.say(0, 0)
        self.show_findings([])

    def show_findings(self, findings: Sequence[Shown]) -> None:
        """Show other ones."""
        if list(findings) != self.findings or not findings:
            self.findings = list(findings)
            self.count.setText(f"{len(findings):,}")
            self.count.setVisible(bool(findings))
            self._nothing.setVisible(not findings)
            self._fill()

    def _fill(self) -> None:
        for row, shown in zip(self.rows, self.findings, strict=False):
            row.show_finding(shown)
            row.show()
        for row in self.rows[len(self.findings) :]:
            row.hide()
        if len(self.rows) < len(self.findings):
            row = FindingRow()
            widgets.polish(row)
            row.chosen.connect(self._choose)
            self.rows.append(row)
            self._list.insertWidget(len(self.rows) - 1, row)
            QTimer.singleShot(1, self, self._fill)

    def say(self, done: int, total: int, offer: str = "") -> None:
        """How far the statistics are that findings come from; `offer` says why they do not go on by themselves."""
        self.measure.setVisible(bool(offer))
        self.measure.setToolTip(offer)
        if done < total:
            words = f"Statistics of {done:,} of {total:,} tensors so far"
        else:
            words = f"All {total:,} tensors were measured" if total > 1 else ""
        self._progress.setText(words)
        self._progress.setVisible(bool(words))
        self._nothing.setText("Nothing odd so far." if done < total else "Nothing odd was found.")
        self.measure.setAccessibleDescription(offer)

    def _choose(self, shown: Shown) -> None:
        if shown.view:
            self.view_chosen.emit(shown.view)
        else:
            self.rows_chosen.emit(list(shown.rows))


class FindingRow(QWidget):
    """Icon, title, detail, Show."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._shown: Shown | None = None
        self._icon = IconLabel("info", 15)
        self.title = Elided("", "strong")
        self.detail = Elided("", "note")
        self.show_button = widgets.button("Show", link=True)
        self.show_button.setProperty("tone", "accent")
        self.show_button.clicked.connect(self._choose)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(self.title)
        words.addWidget(self.detail)
        row = QHBoxLayout()
        row.setContentsMargins(0, 5, 0, 5)
        row.setSpacing(10)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addLayout(words, 1)
        row.addWidget(self.show_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(row)
        column.addWidget(widgets.line())

    def show_finding(self, shown: Shown) -> None:
        """Another finding."""
        if shown == self._shown:
            return
        self._shown = shown
        icon, token = _OF_SEVERITY.get(shown.severity, ("info", "text2"))
        self._icon.set_icon(_ICONS.get(shown.kind, icon), token)
        self._icon.setAccessibleName(shown.severity)
        self.title.setText(shown.title)
        self.detail.setText(shown.detail)
        self.show_button.setVisible(bool(shown.rows or shown.view))
        self.show_button.setAccessibleName(f"Show: {shown.title}")

    def _choose(self) -> None:
        if self._shown is not None:
            self.chosen.emit(self._shown)


def shown_of(finding: Any) -> Shown:
    """A finding of engine.overview."""
    return Shown(
        str(finding["severity"]),
        str(finding["kind"]),
        str(finding["title"]),
        str(finding["detail"]),
        tuple(int(row) for row in finding["rows"]),
    )
