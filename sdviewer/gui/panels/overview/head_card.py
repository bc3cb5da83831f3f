"""The numbers of a checkpoint in a row, and where it lies and who wrote it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QDateTime, QLocale, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.status_bar import CONTAINERS
from sdviewer.gui.widgets import Card, Elided, IconLabel

MOST_FACTS = 7


class HeadCard(Card):
    """Up to seven numbers with their captions; made once, shown again for another reading of the file."""

    def __init__(self) -> None:
        super().__init__()
        self._path = ""
        self.column.setContentsMargins(16, 8, 16, 8)
        row = QHBoxLayout()
        row.setSpacing(0)
        self.facts = [_Fact() for _ in range(MOST_FACTS)]
        for fact in self.facts:
            row.addWidget(fact)
            fact.hide()
        row.addStretch(1)
        where = QVBoxLayout()
        where.setSpacing(3)
        self.path = Elided("", "second", Qt.TextElideMode.ElideMiddle)
        self.path.setMinimumWidth(120)
        self.file = Elided("", "hint")
        copy = widgets.icon_button("copy", "Copy the path", 14)
        copy.clicked.connect(lambda: widgets.copy_text(self._path))
        top = QHBoxLayout()
        top.setSpacing(6)
        top.addWidget(IconLabel("file", 14))
        top.addWidget(self.path, 1)
        top.addWidget(copy)
        where.addLayout(top)
        where.addWidget(self.file)
        row.addSpacing(24)
        row.addLayout(where, 2)
        self.column.addLayout(row)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_head(self, head: Body, path: str) -> None:
        """Show the facts of a file (engine.overview, HEAD)."""
        self._path = path
        told = facts_of(head)
        for fact, shown in zip(self.facts, [*told, *[None] * MOST_FACTS], strict=False):
            fact.setVisible(shown is not None)
            if shown is not None:
                fact.show_fact(*shown)
                fact.rule.setVisible(shown is not told[-1])
        self.path.setText(f"{head['folder']}/{head['name']}")
        self.file.setText(file_words(head, time.time()))


def facts_of(head: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers of the row: what is large, its caption, and the exact number."""
    told: list[tuple[str, str, str]] = []
    parameters, tensors = int(head["parameters"]), int(head["tensors"])
    if tensors:
        told.append((text.short_count(parameters), "parameters", text.count(parameters)))
        told.append((text.count(tensors), "tensor" if tensors == 1 else "tensors", ""))
    for field, caption in (("weights", "weights"), ("optimizer", "optimizer state"), ("average", "averages")):
        if nbytes := int(head[field]):
            told.append((text.size(nbytes), caption, f"{nbytes:,} bytes"))
    if head["dtype"]:
        name, share = head["dtype"]
        caption = "all weights" if share == 1 else f"{text.percent(min(float(share), 0.9999))} of bytes"
        told.append((text.visible(str(name), 24), caption, ""))
    if not tensors:
        told.append((text.count(int(head["values"])), "value" if head["values"] == 1 else "values", ""))
        told.append((text.size(int(head["size"])), "file", f"{int(head['size']):,} bytes"))
    values: Sequence[Sequence[str]] = head["told"]
    if values:
        (name, value), *more = values
        caption = ", ".join(f"{other} {shown}" for other, shown in more)
        # A name that is not known to everybody is shown with its value; the first is the epoch where there is one.
        told.append((f"{name} {value}", caption or "from its values", ""))
    return told[:MOST_FACTS]


def file_words(head: Mapping[str, Any], now: float) -> str:
    """Container, writer, byte order, and when it was saved."""
    container = CONTAINERS.get(head["container"], str(head["container"]))
    parts = [container if int(head["files"]) < 2 else f"{container}, {int(head['files']):,} files"]
    if head["writer"]:
        parts.append(f"saved by {head['writer']}")
    parts.append(f"{head['byte_order']}-endian")
    parts.append(f"{text.size(int(head['size']))}")
    parts.append(f"saved {when(float(head['saved']), now)}")
    return ", ".join(parts)


def when(saved: float, now: float) -> str:
    """A moment in the past as people say it."""
    moment, today = QDateTime.fromSecsSinceEpoch(int(saved)), QDateTime.fromSecsSinceEpoch(int(now))
    clock = moment.toString("HH:mm")
    days = moment.date().daysTo(today.date())
    if days in (0, 1):
        return f"{'today' if days == 0 else 'yesterday'} {clock}"
    return QLocale().toString(moment.date(), QLocale.FormatType.ShortFormat)


class _Fact(QWidget):
    """A number above its caption, with a line at its right."""

    def __init__(self) -> None:
        super().__init__()
        self.number = widgets.label("", "heading")
        self.caption = Elided("", "note")
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 16, 0)
        column.setSpacing(0)
        column.addWidget(self.number)
        column.addWidget(self.caption)
        self.rule = QFrame()
        self.rule.setProperty("role", "upright")
        self.rule.setFixedWidth(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 16, 0)
        row.setSpacing(0)
        row.addLayout(column)
        row.addWidget(self.rule)

    def show_fact(self, number: str, caption: str, exact: str) -> None:
        """Another number."""
        self.number.setText(number)
        self.caption.setText(caption)
        self.setToolTip(exact)
        self.setAccessibleName(f"{exact or number} {caption}")
