"""Find and replace in keys: what changes is shown while it is typed, problems first; the result is one step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QToolButton,
    QWidget,
)

from sdviewer.core import text
from sdviewer.core.regex_marks import regex_marks, replacement_marks
from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.preview import LIMIT, PreviewTable
from sdviewer.gui.dialogs.step_dialog import TYPING_PAUSE
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.file_view import FileView
from sdviewer.gui.regex_highlight import RegexHighlight
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Choice, IconLabel, KeyHint, Segments
from sdviewer.repair.history import Step, place_of_step

LITERAL, TEMPLATE, REGEX = "literal", "template", "regex"
SYNTAXES: Final = ((LITERAL, "Text", ""), (TEMPLATE, "Template", ""), (REGEX, "Regex", ""))
HINTS: Final = {
    LITERAL: "Every place in each key.",
    TEMPLATE: "Whole keys: {i} is one component, * too, ** any. In the replacement {i+1}, {i//2} count.",
    REGEX: r"Python's re, the first match in each key. In the replacement \1 or \g<name> is a group.",
}
ONCE: Final = "The first place in each key, in capitals or not."
WHOLE: Final = "Keys that are this, from the first character to the last."

EVERYWHERE, SUBTREE, SELECTED, FILTERED, AS_IT_IS = "all", "below", "rows", "filter", "step"
SCOPES: Final = (
    (EVERYWHERE, "Whole state dict"),
    (SUBTREE, "Selected subtree"),
    (SELECTED, "Selected rows"),
    (FILTERED, "Filtered rows"),
)
REMEMBERED: Final = 12


@dataclass(frozen=True, slots=True)
class Search:
    """What is filled in."""

    find: str = ""
    new: str = ""
    syntax: str = LITERAL
    case: bool = True
    whole: bool = False

    def table(self) -> dict[str, Any]:
        """The step's table: a `replace`, or a `rename` where whole keys are meant."""
        find, new = self.find, self.new
        if self.syntax == TEMPLATE:
            return {"op": "replace", "find": find, "with": new, "syntax": TEMPLATE}
        if self.syntax == LITERAL and self.case and not self.whole:
            return {"op": "replace", "find": find, "with": new}
        if self.syntax == LITERAL:
            find, new = re.escape(find), new.replace("\\", r"\\")
        flags = "" if self.case else "(?i)"
        if self.whole:
            return {"op": "rename", "rules": [[f"re.full:{flags}{find}", new]]}
        return {"op": "replace", "find": flags + find, "with": new, "syntax": REGEX}

    @classmethod
    def of(cls, table: Any) -> Search | None:
        """What is filled in for a step; None for one that this panel does not make."""
        if table["op"] == "rename" and len(table["rules"]) == 1 and table["rules"][0][0].startswith("re.full:"):
            find, new = table["rules"][0]
            return cls(*_flags(find.removeprefix("re.full:"), new), whole=True)
        if table["op"] != "replace":
            return None
        syntax = str(table.get("syntax", LITERAL))
        if syntax == REGEX:
            return cls(*_flags(str(table["find"]), str(table["with"])))
        return cls(str(table["find"]), str(table["with"]), syntax)


def _flags(find: str, new: str) -> tuple[str, str, str, bool]:
    return find.removeprefix("(?i)"), new, REGEX, not find.startswith("(?i)")


class FindPanel(FileView):
    """Stands where the details do; the tree beside it chooses the scope."""

    name = "find"
    title = "Find and replace in keys"
    scopes: Sequence[tuple[str, str]] = SCOPES

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.find_field = _line("Find")
        self.replace_field = _line("Replace by")
        self.syntax = Segments(SYNTAXES, "Syntax")
        self._syntax = LITERAL
        self.highlights = (
            RegexHighlight(self.find_field, lambda words: regex_marks(words) if self._syntax == REGEX else ()),
            RegexHighlight(self.replace_field, lambda words: replacement_marks(words) if self._syntax == REGEX else ()),
        )
        self.case = _toggle("Aa", "Match case")
        self.whole = _toggle("^ab$", "Whole key")
        self.scope = Choice("Where")
        self.hint = self.summary
        self.wrong = widgets.label("", "error")
        self.preview = PreviewTable(session, lane="find")
        self.add = widgets.button("Add step", "check", primary=True)
        self._skips = widgets.label("", "second")
        self._warn = IconLabel("warn", 15, "S")
        self._show_problems = widgets.button("Show")
        self._history: list[Search] = []
        self._earlier = widgets.icon_button("history", "Searches of before")
        self._at = -1
        self._edited: Step | None = None
        self._base: dict[str, Any] = {}
        self._step: Step | None = None
        self._eager = False
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self.ask)
        self._lay_out()
        self._connect()
        self._offer_scopes()
        self._fill(Search())

    def _lay_out(self) -> None:
        self.head.insertWidget(0, IconLabel("replace", 17, "text"))
        self.head.insertWidget(self.head.count() - 1, self._earlier)
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(8)
        for row, (words, field) in enumerate((("Fin&d", self.find_field), ("Re&place", self.replace_field))):
            name = widgets.label(words, "second")
            name.setBuddy(field)
            grid.addWidget(name, row, 0)
            grid.addWidget(field, row, 1)
        options = QHBoxLayout()
        options.setSpacing(6)
        options.addWidget(self.syntax)
        options.addWidget(self.case)
        options.addWidget(self.whole)
        options.addStretch(1)
        where = QHBoxLayout()
        where.setSpacing(6)
        inside = widgets.label("&in", "second")
        inside.setBuddy(self.scope)
        where.addWidget(inside)
        where.addWidget(self.scope, 1)
        grid.addLayout(options, 0, 2)
        grid.addLayout(where, 1, 2)
        self.column.removeWidget(self.summary)
        self.column.addLayout(grid)
        self.wrong.setWordWrap(True)
        self.column.addWidget(self.wrong)
        self.column.addWidget(self.summary)
        self.column.addWidget(self.preview, 1)
        foot = QHBoxLayout()
        foot.setSpacing(8)
        foot.addWidget(self._warn)
        foot.addWidget(self._skips)
        foot.addWidget(self._show_problems)
        foot.addStretch(1)
        cancel = widgets.button("Cancel")
        cancel.clicked.connect(self.back_requested)
        foot.addWidget(cancel)
        foot.addWidget(self.add)
        foot.addWidget(KeyHint("Enter"))
        self.column.addLayout(foot)
        order: tuple[QWidget, ...] = (
            self.find_field,
            self.replace_field,
            *self.syntax.buttons(),
            self.case,
            self.whole,
        )
        for first, second in zip(order, (*order[1:], self.scope), strict=True):
            QWidget.setTabOrder(first, second)

    def _connect(self) -> None:
        for field in (self.find_field, self.replace_field):
            field.textChanged.connect(self._typed)
            field.returnPressed.connect(self.accept)
        self.syntax.chosen.connect(self._choose_syntax)
        self.case.toggled.connect(self._typed)
        self.whole.toggled.connect(self._typed)
        self.scope.currentIndexChanged.connect(lambda _: self._typed())
        self.add.clicked.connect(self.accept)
        self._show_problems.clicked.connect(self.preview.view.scrollToTop)
        self._earlier.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._earlier.setMenu(QMenu(self))
        self._earlier.menu().aboutToShow.connect(self._fill_history)
        session = self.session
        session.selection_changed.connect(lambda _: self._scope_moved(SUBTREE, SELECTED))
        session.filtered.connect(lambda *_: self._scope_moved(FILTERED))
        session.recipe_changed.connect(self._recipe_changed)

    # What it is opened for

    def begin(self, search: Search | None = None, scope: str = EVERYWHERE) -> None:
        """Start a new step; without a search what was typed before is kept."""
        self._at, self._edited, self._base = -1, None, {}
        self._offer_scopes()
        self.scope.setCurrentIndex(max(0, self.scope.findData(scope)))
        if search is not None:
            self._fill(search)
        self._start(self.replace_field if search is not None and search.find else self.find_field)

    def edit(self, at: int, step: Step) -> bool:
        """Change step `at` of the recipe; False where this panel cannot show it."""
        search = Search.of(step.table)
        if search is None:
            return False
        own = {"op", "find", "with", "syntax", "rules", "mode"}
        self._at, self._edited = at, step
        self._base = {name: value for name, value in step.table.items() if name not in own}
        self._offer_scopes()
        self._fill(search)
        self._start(self.find_field)
        return True

    def _start(self, field: QLineEdit) -> None:
        self._name()
        self.add.setEnabled(False)
        self._name_button(0)
        self.ask()
        # Again later: who asked for this may be a menu, which gives the focus back.
        field.selectAll()
        field.setFocus(Qt.FocusReason.ShortcutFocusReason)
        QTimer.singleShot(0, field.setFocus)

    def _name(self) -> None:
        self.heading.setText(self.title if self._at < 0 else f"Find and replace: step {self._at + 1}")

    def _recipe_changed(self) -> None:
        """The step that is edited may stand elsewhere now; where it is gone, what is typed is a new one."""
        if self._edited is not None:
            at = place_of_step(self.session.recipe.steps, self._edited, self._at)
            if at < 0:
                self._edited, self._base = None, {}
            if at != self._at:
                self._at = at
                self._name()
            if at < 0:
                self._offer_scopes()
        if self.isVisible():
            self._pause.start()

    def refresh(self) -> None:
        self.ask()
        self.settled.emit()

    def _offer_scopes(self) -> None:
        self.scope.blockSignals(True)
        self.scope.clear()
        if self._at >= 0:
            patterns = self._base.get("keys") or ()
            words = text.visible(", ".join(map(str, patterns[:3])), 40) + (" …" if len(patterns) > 3 else "")
            if patterns:
                self.scope.addItem(words, AS_IT_IS)
            self.scope.addItem(self.scopes[0][1], EVERYWHERE)
        else:
            for value, words in self.scopes:
                self.scope.addItem(words, value)
        self.scope.blockSignals(False)

    def _fill(self, search: Search) -> None:
        for widget in (self.find_field, self.replace_field, self.case, self.whole):
            widget.blockSignals(True)
        self.find_field.setText(search.find)
        self.replace_field.setText(search.new)
        self.syntax.choose(search.syntax)
        self._syntax = search.syntax
        self.case.setChecked(search.case)
        self.whole.setChecked(search.whole)
        for widget in (self.find_field, self.replace_field, self.case, self.whole):
            widget.blockSignals(False)
        self._show_hint()

    def search(self) -> Search:
        """What is filled in now."""
        case, whole = self.case.isChecked(), self.whole.isChecked()
        return Search(self.find_field.text(), self.replace_field.text(), self._syntax, case, whole)

    def _choose_syntax(self, syntax: str) -> None:
        self._syntax = syntax
        self._typed()

    def _show_hint(self) -> None:
        for highlight in self.highlights:
            highlight.refresh()
        template = self._syntax == TEMPLATE
        self.case.setEnabled(not template)
        self.whole.setEnabled(not template)
        search = self.search()
        hint = HINTS[search.syntax]
        if search.syntax == LITERAL and search.whole:
            hint = WHOLE
        elif search.syntax == LITERAL and not search.case:
            hint = ONCE
        self.hint.setText(hint)

    # Looking

    def _typed(self) -> None:
        self._step, self._eager = None, False
        self.add.setEnabled(False)
        self._show_hint()
        self._pause.start()

    def _scope_moved(self, *scopes: str) -> None:
        if self.isVisible() and self.scope.currentData() in scopes:
            self._typed()

    def _scope(self) -> dict[str, Any] | None:
        """The scope as the worker takes it, None for everything."""
        wanted = self.scope.currentData()
        session = self.session
        if wanted == FILTERED:
            return {"kind": "filter"}
        if wanted == SELECTED:
            return {"kind": "rows", "rows": list(session.selection)}
        if wanted == SUBTREE and session.selection:
            top = session.subtree_of(session.selection[0])
            return {"kind": "rows", "rows": [top]} if top >= 0 else None
        return None

    def ask(self) -> None:
        """Ask the worker what this would change."""
        self._step = None
        search = self.search()
        if self.session.state != "open" or not search.find:
            self.session.jobs.drop("find")
            self._show_nothing("")
            return
        table = search.table()
        kept = dict(self._base)
        if self.scope.currentData() == EVERYWHERE:
            kept.pop("keys", None)
        step = Step({**table, **kept}, "")
        self.session.preview(step, LIMIT, self._show, at=self._at, scope=self._scope(), skip=True, lane="find")

    def _show_nothing(self, error: str) -> None:
        self.preview.show_preview(None)
        self._say(error)
        self._tell_skipped(0, "")
        self.add.setEnabled(False)

    def _show(self, preview: Body) -> None:
        if self._pause.isActive():
            return  # somebody typed on
        error = str(preview.get("error") or "")
        if error:
            self._show_nothing(error)
            return
        self.preview.show_preview(preview)
        problems = [str(problem) for problem in preview["problems"]]
        skip = preview.get("skip")
        changes = int(preview["changed"])
        if not changes:
            self._say("" if self.session.jobs.busy("find") else "No key changes.")
        else:
            self._say("")  # of problems the rows tell, and the line at the foot
        if skip:
            self._step = Step(skip["step"], str(skip["label"]))
            self._tell_skipped(int(skip["keys"]), "")
        elif changes and not problems:
            self._step = Step(preview["step"], str(preview["label"]))
            self._tell_skipped(0, "")
        else:
            self._tell_skipped(0, problems[0] if problems else "")
        self.add.setEnabled(self._step is not None)
        if self._eager and not skip:
            self.accept()
        self._eager = False

    def _say(self, words: str) -> None:
        plain = words == "No key changes."
        self.wrong.setText(text.visible(words, 300))
        self.wrong.setVisible(bool(words))
        widgets.set_property(self.wrong, "role", "hint" if plain else "error")
        widgets.set_property(self.find_field, "wrong", bool(words) and not plain)

    def _tell_skipped(self, keys: int, problem: str) -> None:
        one = keys == 1
        words = f"{text.plural(keys, 'key')} would overwrite another. The step skips {'it' if one else 'them'}."
        self._skips.setText(words if keys else text.visible(problem, 120))
        shown = bool(keys or problem)
        for widget in (self._warn, self._skips, self._show_problems):
            widget.setVisible(shown)
        self._name_button(keys)

    def _name_button(self, skipped: int) -> None:
        words = "Add step" if self._at < 0 else "Change step"
        self.add.setText(f"{words}, skip {skipped:,}" if skipped else words)

    # Doing it

    def accept(self) -> None:
        """Put the step into the recipe; where its preview is not there yet, as soon as that shows no problem."""
        if self._step is None:
            self._eager = self._pause.isActive() or self.session.jobs.busy("find")
            return
        self._remember(self.search())
        step, self._step = self._step, None
        self.add.setEnabled(False)
        if self._edited is None:
            self.session.apply(step)
            self.find_field.setFocus()
            self.find_field.selectAll()
        else:
            self.session.change_step(self._at, self._edited, step)
            self.back_requested.emit()

    def _remember(self, search: Search) -> None:
        self._history = [search, *(other for other in self._history if other != search)][:REMEMBERED]

    def _fill_history(self) -> None:
        menu = self._earlier.menu()
        menu.clear()
        for search in self._history:
            words = text.visible(f"{search.find}  →  {search.new}", 90).replace("&", "&&")
            menu.addAction(words, partial(self._take, search))
        if not self._history:
            menu.addAction("No searches yet").setEnabled(False)

    def _take(self, search: Search) -> None:
        self._fill(search)
        self._typed()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.accept()
            return
        super().keyPressEvent(event)


def _line(name: str) -> QLineEdit:
    made = QLineEdit()
    made.setAccessibleName(name)
    made.setProperty("mono", True)
    made.setFixedHeight(30)
    return made


def _toggle(words: str, name: str) -> QToolButton:
    made = QToolButton()
    made.setText(words)
    made.setCheckable(True)
    made.setToolTip(name)
    made.setAccessibleName(name)
    made.setProperty("option", True)
    made.setFont(resources.font(resources.NOTE, mono=True))
    made.setFixedHeight(28)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made
