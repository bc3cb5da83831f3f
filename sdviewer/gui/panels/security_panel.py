"""The Security view: three statements that do not depend on each other, every name asked for, and what can be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.panels.file_view import FileView, RowsTable, scrolled
from sdviewer.gui.panels.security_words import (
    Statement,
    about_file,
    about_loading,
    about_us,
    class_words,
    dangerous_calls,
    shown_calls,
    verdict_chip,
)
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card, Chip, CodeBlock, IconLabel

MOST_CALLS = 40
MOST_NAMES_SHOWN = 12
MOST_LEFT_OUT = 500

_TOKENS = {"dangerous": "S", "unknown": "warn", "plain": "text2", "torch": "text2"}
_ICONS = {"dangerous": "shieldw", "unknown": "warn", "plain": "value", "torch": "check"}
_CHIPS = (
    ("dangerous", "dangerous", "shape", "shieldw"),
    ("unknown", "unknown", "warn", "warn"),
    ("plain", "data holder", "", "value"),
    ("torch", "torch's own", "", "check"),
)


AnyCard = TypeVar("AnyCard", bound=Card)


class SecurityPanel(FileView):
    """What is in the file that could run, told by its own scan."""

    name = "security"
    title = "Security"

    clean_copy_requested = Signal()
    problems_requested = Signal()
    structure_requested = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.chip = Chip("").only_says()
        self.chip.hide()
        self.head.insertWidget(1, self.chip)
        inside = QWidget()
        self._cards = QVBoxLayout(inside)
        self._cards.setContentsMargins(0, 4, 4, 0)
        self._cards.setSpacing(10)
        self._cards.addStretch(1)
        self.column.addWidget(scrolled(inside), 1)
        session.scanned.connect(self._scanned)
        session.contents_changed.connect(self._show_contents)
        session.scan_failed.connect(self._show_failure)

    @cached_property
    def statements(self) -> StatementsCard:
        """The file, loading it, sdviewer."""
        made = self._add(StatementsCard())
        made.problems_requested.connect(self.problems_requested)
        made.check_requested.connect(self.session.check_contents)
        return made

    @cached_property
    def calls(self) -> CallsCard:
        """What loading it would call."""
        return self._add(CallsCard())

    @cached_property
    def names(self) -> NamesCard:
        """Every name."""
        return self._add(NamesCard())

    @cached_property
    def choices(self) -> ChoicesCard:
        """What can be done."""
        made = self._add(ChoicesCard())
        made.clean_copy_requested.connect(self.clean_copy_requested)
        return made

    def _add(self, card: AnyCard) -> AnyCard:
        widgets.polish(card)
        self._cards.insertWidget(self._cards.count() - 1, card)
        return card

    def pieces(self) -> Sequence[Callable[[], object]]:
        """The cards."""
        return (lambda: self.statements, lambda: self.calls, lambda: self.names, lambda: self.choices)

    def refresh(self) -> None:
        """Show the scan that was made when the file was opened; the list of what a clean copy leaves out is new."""
        if self.session.scan:
            self._show_scan(self.session.scan)
        else:
            self.summary.setText("Reading its pickles…")
            self.session.request_scan()

        def answered(body: Body, buffers: Buffers) -> None:
            self.choices.show_clean(body)
            self.settled.emit()

        self.session.ask("clean", {"limit": MOST_LEFT_OUT}, answered, lane="clean")

    def _scanned(self, scan: Body) -> None:
        if not self._unmade:
            self._show_scan(scan)

    def _show_scan(self, scan: Body) -> None:
        words, tone, icon = verdict_chip(scan)
        self.chip.dress(words, tone, icon)
        self.chip.show()
        pickles = int(scan["pickles"])
        said = f"{text.plural(pickles, 'pickle')}, {text.plural(len(scan['globals']) + int(scan['more']), 'name')}"
        self.summary.setText(f"{said}. Read as data; none was imported." if pickles else "There is no pickle in it.")
        statements = (self._about_file(), about_loading(scan), about_us())
        problems = self.session.problems
        gaps = [str(gap) for gap in scan.get("gaps") or ()]
        self.in_turns(
            (
                lambda: self.statements.show_statements(statements, bool(problems), gaps),
                self._show_contents,
                lambda: self.calls.show_calls(shown_calls(scan), bool(dangerous_calls(scan))),
                lambda: self.names.show_names(scan),
                lambda: self.choices.show_scan(scan, int(self.session.info.get("tensors") or 0)),
                self.settled.emit,
            )
        )

    def _about_file(self) -> Statement:
        known = self.session.contents.known
        return about_file(self.session.info.get("problems") or [], known.sentence(), known.wrong > 0)

    def _show_contents(self) -> None:
        if not self._unmade:
            known = self.session.contents.known
            self.statements.show_file(self._about_file(), bool(self.session.problems), known.offered)

    def _show_failure(self, failure: Body) -> None:
        self.summary.setText(sentence(text.visible(str(failure.get("message") or "it could not be scanned"), 400)))
        self.settled.emit()


class StatementsCard(Card):
    """The file, what loading it would do, what sdviewer did: one line each, none coloured by another."""

    problems_requested = Signal()
    check_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.column.setContentsMargins(14, 12, 14, 12)
        self.column.setSpacing(10)
        self._rows: list[tuple[IconLabel, Any, Any]] = []
        self._problems = widgets.button("Show problems", link=True)
        self._problems.clicked.connect(self.problems_requested)
        self.check = widgets.button("Check contents", link=True)
        self.check.setToolTip("Compare all bytes with the checksums that the file states")
        self.check.clicked.connect(self.check_requested)
        self.check.hide()
        for at, about in enumerate(("The file", "Loading it in Python", "sdviewer")):
            icon = IconLabel("info", 16)
            name = widgets.label(about, "note")
            name.setFixedWidth(150)
            what, why = widgets.label("", "strong"), widgets.label("", "second")
            why.setWordWrap(True)
            why.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            words = QVBoxLayout()
            words.setSpacing(1)
            words.addWidget(what)
            words.addWidget(why)
            row = QHBoxLayout()
            row.setSpacing(10)
            row.addWidget(icon, 0, Qt.AlignmentFlag.AlignTop)
            row.addWidget(name, 0, Qt.AlignmentFlag.AlignTop)
            row.addLayout(words, 1)
            if not at:
                row.addWidget(self.check, 0, Qt.AlignmentFlag.AlignTop)
                row.addWidget(self._problems, 0, Qt.AlignmentFlag.AlignTop)
            if at:
                self.column.addWidget(widgets.line())
            self.column.addLayout(row)
            self._rows.append((icon, what, why))
        self._gaps = CodeBlock("")
        self._gaps.setAccessibleName("What could not be read")
        self._gaps.setMaximumHeight(110)
        self.column.addWidget(self._gaps)
        self._gaps.hide()

    def show_statements(self, statements: Sequence[Statement], problems: bool, gaps: Sequence[str]) -> None:
        """`problems`: there is a list of them; `gaps` are what kept the scan from being complete."""
        for (icon, what, why), statement in zip(self._rows, statements, strict=True):
            icon.set_icon(statement.icon, statement.token)
            what.setText(statement.what)
            why.setText(statement.why)
        self._problems.setVisible(problems)
        self._gaps.setPlainText("\n".join(text.visible(gap, 300) for gap in gaps[:100]))
        self._gaps.setVisible(bool(gaps))

    def show_file(self, statement: Statement, problems: bool, check: bool) -> None:
        """The first statement alone; `check`: its contents can be checked (again)."""
        icon, what, why = self._rows[0]
        icon.set_icon(statement.icon, statement.token)
        what.setText(statement.what)
        why.setText(statement.why)
        self._problems.setVisible(problems)
        self.check.setVisible(check)

    def words(self) -> list[str]:
        """The three statements as they stand there."""
        return [f"{what.text()}. {why.text()}" for _, what, why in self._rows]


class CallsCard(Card):
    """Calls as lines of Python."""

    def __init__(self) -> None:
        super().__init__("What the file would run", "decoded, not executed")
        self.code = CodeBlock("")
        copy = widgets.button("Copy", "copy")
        copy.clicked.connect(lambda: widgets.copy_text(self.code.toPlainText()))
        self.add_control(copy)
        self.code.setAccessibleName("What the file would run")
        self.set_body(self.code)
        self.hide()

    def show_calls(self, lines: Sequence[str], harmful: bool) -> None:
        """`harmful`: some of them are known to do harm."""
        self.title_label.setText("What the file would run" if harmful else "What loading it would call")
        shown = [text.visible(line, 600) for line in lines[:MOST_CALLS]]
        if len(lines) > MOST_CALLS:
            shown.append(f"# and {len(lines) - MOST_CALLS:,} more")
        self.code.setPlainText("\n".join(shown))
        height = self.code.fontMetrics().lineSpacing() * min(len(shown), 8) + 36
        self.code.setFixedHeight(height)
        self.setVisible(bool(lines))


def _where(use: Mapping[str, Any]) -> str:
    paths = [str(path) or "the whole file" for path in use.get("paths") or ()]
    return ", ".join(paths) if paths else ("in many places" if int(use["uses"]) > 1 else "nothing refers to it")


def _places(use: Mapping[str, Any]) -> str:
    places = [str(place) for place in use.get("where") or ()]
    more = f" and {len(places) - 12:,} more" if len(places) > 12 else ""
    return f"{_where(use)}\nat {', '.join(places[:12])}{more}"


class NamesCard(Card):
    """Every name with its class, what needs it, and how often."""

    def __init__(self) -> None:
        super().__init__("Every name its pickles ask for", "")
        self.chips: dict[str, Chip] = {}
        for kind, _, tone, icon in _CHIPS:
            chip = self.chips[kind] = Chip("", tone, icon).only_says()
            self.add_control(chip)
        columns = (
            Column("Name", lambda use: str(use["name"]), 0, True, token=lambda use: "text", icon=_icon, tip=_raw),
            Column("What it is", class_words, 150, token=lambda use: _TOKENS[str(use["class"])]),
            Column("Needed by", _where, 270, tip=_places),
            Column("Uses", lambda use: f"{int(use['uses']):,}", 70, right=True),
        )
        self.table = RowsTable(columns, "Every name its pickles ask for")
        self.column.setContentsMargins(12, 10, 4, 6)
        self.set_body(self.table)

    def show_names(self, scan: Body) -> None:
        counts = scan.get("counts") or {}
        for kind, words, _, _ in _CHIPS:
            n = int(counts.get(kind) or 0)
            self.chips[kind].setText(text.plural(n, words) if kind == "plain" else f"{n:,} {words}")
            self.chips[kind].setVisible(n > 0)
        names = list(scan["globals"])
        more = int(scan.get("more") or 0)
        self.subtitle.setText(f"the first {len(names):,} of {len(names) + more:,}" if more else "")
        self.table.rows.show_rows(names, len(names))
        self.table.fit_height(MOST_NAMES_SHOWN)
        self.setVisible(bool(names))


def _icon(use: Any) -> tuple[str, str]:
    return _ICONS[str(use["class"])], _TOKENS[str(use["class"])]


def _raw(use: Any) -> str:
    name, raw = str(use["name"]), str(use["raw"])
    call = f"\n{use['call']}" if use.get("call") else ""
    return (name if name == raw else f"{name}\nwritten {raw}") + text.visible(call, 600).replace("\\n", "\n", 1)


class ChoicesCard(Card):
    """What can be done, and what a clean copy would leave out."""

    clean_copy_requested = Signal()

    def __init__(self) -> None:
        super().__init__("What you can do")
        self._look = widgets.label("")
        self._clean = widgets.label("")
        self._load = widgets.label("")
        self.button = widgets.button("Save a clean copy…", "save")
        self.button.clicked.connect(self.clean_copy_requested)
        for icon, words, control in (
            ("eye", self._look, None),
            ("save", self._clean, self.button),
            ("info", self._load, None),
        ):
            words.setWordWrap(True)
            row = QHBoxLayout()
            row.setSpacing(10)
            row.addWidget(IconLabel(icon, 15), 0, Qt.AlignmentFlag.AlignVCenter)
            row.addWidget(words, 1)
            if control is not None:
                row.addWidget(control, 0, Qt.AlignmentFlag.AlignVCenter)
            self.column.addLayout(row)
        columns = (
            Column("A clean copy leaves out", lambda row: str(row[0]), 0, True, token=lambda row: "text"),
            Column("What it is", lambda row: str(row[1]), 300),
            Column("Tensors in it", lambda row: f"{int(row[2]):,}" if row[2] else "", 100, right=True),
            Column("Stays", lambda row: str(row[3]) or "nothing", 80),
        )
        self.table = RowsTable(columns, "A clean copy leaves out")
        self.column.addWidget(self.table)
        self.table.hide()
        self._possible = ""

    def show_scan(self, scan: Body, tensors: int) -> None:
        self._look.setText(f"Look at, filter and measure {text.plural(tensors, 'tensor')}: nothing of the file runs.")
        counts = scan.get("counts") or {}
        if counts.get("dangerous") or not scan["complete"]:
            said = "Load it with weights_only=False only if you know who wrote it and what these calls are for."
        elif counts.get("unknown"):
            said = "If you have its classes and trust who wrote them, weights_only=False builds the objects."
        elif not scan["pickles"]:
            said = "Load it with its library; there is no pickle that could run anything."
        elif scan.get("weights_only_would_load"):
            said = "torch.load opens it as it is."
        else:
            said = "torch.load(weights_only=False) reads it; no name in it is known to run anything."
        self._load.setText(said)

    def show_clean(self, body: Body) -> None:
        """What goes; the button says why it cannot be pressed."""
        total, tensors = int(body["total"]), int(body["tensors"])
        if not body["possible"]:
            why = sentence(text.visible(str(body["why"]), 300)) if body["why"] else "There is no pickle to be cleaned."
            self._clean.setText(f"No clean copy: {why[:1].lower()}{why[1:]}")
        elif body.get("extract"):
            left = f" {text.plural(total, 'thing')} that it does not name would go." if total else ""
            self._clean.setText(
                "Save a clean copy: the state dict of the module, which torch.load opens with weights_only=True, "
                f"without the module and its classes.{left}"
            )
        elif total:
            inside = f" {text.plural(tensors, 'tensor')} inside of them would go too." if tensors else ""
            self._clean.setText(
                f"Save a clean copy: the same tensors and plain values, without {text.plural(total, 'object')} "
                f"that torch's own list of names lacks.{inside}"
            )
        else:
            self._clean.setText("A clean copy would be the same: torch's own list has every name in its objects.")
        self.button.setEnabled(bool(body["possible"]))
        self.button.setToolTip("" if body["possible"] else "There is nothing that could be left.")
        self.table.rows.show_rows(body["rows"], len(body["rows"]))
        self.table.fit_height(8)
        self.table.setVisible(bool(body["rows"]))

    def words(self) -> str:
        """What is offered, in one line."""
        return " ".join(label.text() for label in (self._look, self._clean, self._load))
