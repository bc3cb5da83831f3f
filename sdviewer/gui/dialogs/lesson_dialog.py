"""Only this one, or the same for others? What a pair by hand can mean, with what each rule fixes and what it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QRadioButton, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog
from sdviewer.gui.jobs import Body
from sdviewer.gui.widgets import Card, Elided, IconLabel

WIDTH: Final = 680
SHOWN: Final = 5


class LessonDialog(AskingDialog):
    """`variant` is the one that is chosen (VARIANT of engine.lessons)."""

    def __init__(self, parent: QWidget, lesson: Body) -> None:
        """`lesson` is the answer of `engine.workbench` with at least two variants."""
        variants: Sequence[Body] = lesson["variants"]
        others = int(variants[1]["n"]) - 1
        super().__init__(parent, "Pair by hand")
        self._variants = variants
        self.setMinimumWidth(WIDTH)
        title = f"Only this one, or the same for {text.plural(others, 'other')}?"
        self.act = widgets.button("", "link", primary=True)
        column = self.make_column(widgets.label(title, "path"))
        column.addLayout(_pair(str(lesson["key_a"]), str(lesson["key_b"])))
        self._group = QButtonGroup(self)
        self.choices: list[QRadioButton] = []
        choices = Card()
        choices.setAccessibleName("What the pair means")
        for at, variant in enumerate(variants):
            choice = QRadioButton(_title(at, variant, others))
            choice.setAccessibleDescription(_effect(variant))
            self.choices.append(choice)
            self._group.addButton(choice, at)
            choices.column.addWidget(choice)
            choices.column.addLayout(_about(variant, with_rule=bool(at)))
        column.addWidget(choices)
        self._examples_title = widgets.label("", "strong")
        self._examples = QVBoxLayout()
        self._examples.setSpacing(3)
        column.addWidget(self._examples_title)
        column.addLayout(self._examples)
        column.addStretch(1)
        column.addLayout(self.make_foot(self.act))
        self._group.idToggled.connect(self._toggled)
        proposed = self.choices[0 if variants[1]["breaks"] else 1]
        proposed.setChecked(True)
        proposed.setFocus()

    @property
    def variant(self) -> Body:
        """The one that is chosen."""
        return self._variants[self._group.checkedId()]

    def _toggled(self, at: int, on: bool) -> None:
        if on:
            self._show(at)

    def _show(self, at: int) -> None:
        """A few keys that it changes, what it breaks first."""
        variant = self._variants[at]
        n = int(variant["n"])
        self.act.setText(f"Pair {text.plural(n, 'key')}")
        widgets.clear_layout(self._examples)
        rows = [("warn", "warn", *pair) for pair in variant["broken"]]
        rows += [("check", "ok", *pair) for pair in variant["fixed"]]
        self._examples_title.setText("What changes" if n <= SHOWN else f"Some of the {n:,} that change")
        for icon, token, old, new in rows[:SHOWN]:
            holder = QWidget()
            row = QHBoxLayout(holder)
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(8)
            row.addWidget(IconLabel(icon, 13, token))
            row.addWidget(Elided(str(old), "mono"), 1)
            row.addWidget(IconLabel("arrow", 12))
            row.addWidget(Elided(str(new), "mono"), 1)
            self._examples.addWidget(holder)


def _pair(old: str, new: str) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(8)
    row.addWidget(Elided(old, "mono"), 1)
    row.addWidget(IconLabel("link", 14, "accent"))
    row.addWidget(Elided(new, "mono"), 1)
    return row


def _title(at: int, variant: Body, others: int) -> str:
    n = int(variant["n"])
    if not at:
        return "Only this one"
    if at == 1:
        return f"The same for {text.plural(others, 'other')}"
    return f"{'Wider' if n - 1 > others else 'Narrower'}: the same for {text.plural(n - 1, 'other')}"


def _effect(variant: Body) -> str:
    """What it does to all keys, in words."""
    said = [f"{text.plural(int(variant['fixes']), 'key')} get a place that fits"]
    if int(variant["fixes"]) == 1:
        said = ["1 key gets a place that fits"]
    if not int(variant["fixes"]):
        said = ["no key gets a place that fits"]
    if breaks := int(variant["breaks"]):
        said.append(f"{text.plural(breaks, 'key')} that {'is' if breaks == 1 else 'are'} right now would not be")
    if others := int(variant["others"]):
        said.append(f"{text.plural(others, 'key')} change and have no place before or after")
    return ", ".join(said)


def _about(variant: Body, *, with_rule: bool) -> QVBoxLayout:
    column = QVBoxLayout()
    column.setContentsMargins(24, 0, 0, 4)
    column.setSpacing(2)
    if with_rule:
        pattern, result = variant["lines"]
        column.addWidget(Elided(f"{pattern}  →  {result}", "monoNote"))
    breaks = bool(variant["breaks"]) or not variant["fixes"]
    column.addWidget(widgets.label(_effect(variant), "unsure" if breaks else "fits"))
    return column
