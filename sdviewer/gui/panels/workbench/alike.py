"""The state dicts of a file that the target fits alike, such as a model and its average: which is in front, and whether
the recipe is for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Elided, Segments


class AlikeBar(QWidget):
    """One row, there where a file has several. `front_chosen` tells the dotted path of one."""

    front_chosen = Signal(str)
    all_chosen = Signal(bool)

    def __init__(self, after: QWidget) -> None:
        """Tab leads to it from `after`."""
        super().__init__()
        self._after = after
        self._names: list[str] = []
        self.front = Segments((), "State dict in front")
        self.said = Elided("", "second")
        self.said.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.repair_all = QCheckBox("")
        self.repair_all.clicked.connect(self.all_chosen)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(2, 0, 2, 0)
        self._row.setSpacing(12)
        self._row.addWidget(self.front)
        self._row.addWidget(self.said, 1)
        self._row.addWidget(self.repair_all)
        self.hide()

    def show_alike(self, told: Sequence[Body], keys: int) -> None:
        """Tell them (ALIKE of engine.workbench); the target has this many keys."""
        self.setVisible(bool(told))
        if not told:
            return
        self._show_front(told)
        others = [one for one in told if not one["front"]]
        covered = all(one["covered"] for one in told)
        said = "; ".join(_said(one, keys) for one in others)
        begins = "Repaired alike" if covered else "Also fits" if len(others) == 1 else "Also fit"
        self.said.setText(f"{begins}: {said}")
        names = str(others[0]["name"]) if len(others) == 1 else "the others"
        self.repair_all.setText(f"Repair {names.replace('&', '&&')} &too")
        self.repair_all.setChecked(covered)
        errors = [str(one["error"]) for one in others if one["error"]]
        self.repair_all.setEnabled(covered or not errors)
        what = "The same steps are carried out on each in its place, and none is unwrapped. One file is saved."
        self.repair_all.setToolTip(plain_tip(errors[0] if errors else what))
        self.repair_all.setAccessibleDescription(errors[0] if errors else self.said.text())

    def _show_front(self, told: Sequence[Body]) -> None:
        names = [str(one["state_dict"]) for one in told]
        if names != self._names:
            self._names = names
            old, self.front = self.front, Segments([(str(one["state_dict"]), str(one["name"]), "") for one in told])
            self.front.setAccessibleName(old.accessibleName())
            self.front.chosen.connect(self.front_chosen)
            self._row.replaceWidget(old, self.front)
            old.hide()
            old.deleteLater()
            widgets.polish(self.front)
            for before, after in pairwise((self._after, *self.front.buttons(), self.repair_all)):
                QWidget.setTabOrder(before, after)
        free = not any(one["covered"] for one in told)
        for one, shown in zip(told, self.front.buttons(), strict=True):
            shown.setEnabled(bool(one["covered"] or free))
            shown.setToolTip("" if shown.isEnabled() else "The recipe is not for it: repair it too, then look at it.")
            if one["front"]:
                self.front.choose(str(one["state_dict"]))


def _said(one: Body, keys: int) -> str:
    """`ema (152 keys, 150 of 152 match, has decay)`."""
    match = f"{int(one['match']):,} of {keys:,} {'match' if one['covered'] else 'would match'}"
    parts = [text.plural(int(one["keys"]), "key"), *([match] if one["covered"] or one["match"] else [])]
    parts += [str(one["differs"])] if one["differs"] else []
    return f"{one['name']} ({', '.join(parts)})"
