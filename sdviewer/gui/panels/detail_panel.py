"""The right side of a tab: path, facts, views and statistics of a tensor; children of a module, text of a value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body, Buffers, is_cancelled
from sdviewer.gui.panels.facts_line import FactsLine
from sdviewer.gui.panels.path_bar import PathBar
from sdviewer.gui.panels.related_links import RelatedLinks
from sdviewer.gui.panels.selection_page import SelectionPage
from sdviewer.gui.panels.tensor_page import OVERVIEW, TensorPage
from sdviewer.gui.plots import PLOTS
from sdviewer.gui.plots.overlay import MOST as MOST_OVERLAID
from sdviewer.gui.plots.overlay import OverlaidHistograms
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card, CodeBlock, Elided

Facts = Mapping[str, Any]
OVERVIEW_PLOT = "histogram"
"""The plot that is drawn from the same pass as the sums."""
LATE = 500
"""Milliseconds that the numbers of the tensor before stay in sight, as most tensors have theirs sooner."""
GLANCE_FROM = 4 << 20
"""Elements of a tensor from which a sample of it is shown until all of it is measured."""
MOST_CHILDREN = 500


class DetailPanel(QWidget):
    """What is known of the selection. `settled` fires when everything that was asked for it is shown."""

    settled = Signal()
    cursor_moved = Signal(str)
    export_requested = Signal()
    overview_requested = Signal()
    view_chosen = Signal(str)
    scale_chosen = Signal(str)

    def __init__(self, session: Session, view: str, scale: str) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self._view = view
        self._scale = scale
        self._waiting: set[str] = set()
        self._late = QTimer(self, interval=LATE, singleShot=True)
        self._late.timeout.connect(self._say_waiting)
        self.path = PathBar()
        self.related = RelatedLinks()
        self.line = FactsLine()
        self._stack = QStackedWidget()
        self._stack.addWidget(QWidget())
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 12, 12)
        column.setSpacing(5)
        head = QHBoxLayout()
        head.addWidget(self.path, 1)
        head.addWidget(self.related)
        column.addLayout(head)
        column.addWidget(self.line)
        column.addSpacing(4)
        column.addWidget(self._stack, 1)
        self._connect()

    @cached_property
    def tensor_page(self) -> TensorPage:
        """Plots and statistics."""
        made = TensorPage(self._scale)
        widgets.polish(made)
        self._stack.addWidget(made)
        made.views.chosen.connect(self._choose_view)
        made.view_wanted.connect(self._choose_view)
        made.export.clicked.connect(self.export_requested)
        made.in_overview.clicked.connect(self.overview_requested)
        made.finished.connect(self._plot_finished)
        made.cursor_moved.connect(self.cursor_moved)
        made.histogram_scale_chosen.connect(self.scale_chosen)
        return made

    @cached_property
    def module_page(self) -> ModulePage:
        """What is inside a module."""
        made = ModulePage()
        widgets.polish(made)
        self._stack.addWidget(made)
        made.node_chosen.connect(self._session.reveal)
        made.export.clicked.connect(self.export_requested)
        return made

    @cached_property
    def overlay(self) -> OverlaidHistograms:
        """The distributions of a few tensors that are selected together."""
        made = OverlaidHistograms()
        widgets.polish(made)
        self.selection_page.above.addWidget(made)
        return made

    @cached_property
    def selection_page(self) -> SelectionPage:
        """Several rows at once."""
        made = SelectionPage(self._session)
        widgets.polish(made)
        self._stack.addWidget(made)
        made.node_chosen.connect(self._session.reveal)
        return made

    @cached_property
    def value_page(self) -> ValuePage:
        """Values and objects."""
        made = ValuePage()
        self._stack.addWidget(made)
        return made

    def _connect(self) -> None:
        session = self._session
        session.selection_changed.connect(self._selected)
        session.facts_changed.connect(self.show_facts)
        session.totals_changed.connect(self._show_totals)
        self.path.node_chosen.connect(session.reveal)
        self.related.node_chosen.connect(session.reveal)

    def _selected(self, nodes: list[int]) -> None:
        if not nodes:
            self._stack.setCurrentIndex(0)
            self.path.show_sentence("")
            self.line.show_facts([])
            self.related.show_related(())
            self._forget()

    def _forget(self) -> None:
        self._forget_tensor()
        self._forget_several()

    def _forget_tensor(self) -> None:
        self._waiting.clear()
        self.tensor_page.forget()
        self._late.stop()
        for lane in ("overview", "glance"):
            self._session.jobs.drop(lane)

    def _forget_several(self) -> None:
        if "overlay" in self.__dict__:
            self.overlay.hide()
            self.overlay.forget()

    def show_facts(self, facts: Facts) -> None:
        """Show one row."""
        self._forget()
        self.path.show_path(facts)
        self.line.show_facts(_fact_words(facts))
        self.related.show_related((facts.get("role") or {}).get("related") or ())
        self.cursor_moved.emit("")
        if facts.get("shape") is not None:
            self._show_tensor(facts)
        elif facts["kind"] in ("value", "object") and not self._has_children(int(facts["row"])):
            self._show_value(facts)
        else:
            self._show_module(facts)

    def _has_children(self, node: int) -> bool:
        sheet = self._session.sheet
        return sheet is not None and bool(sheet.columns["flags"][node] & sheets.CHILDREN)

    # A tensor

    def _show_tensor(self, facts: Facts) -> None:
        page = self.tensor_page
        self._stack.setCurrentWidget(page)
        page.statistics.show_facts(facts)
        page.say_edited(_written_words(facts))
        if not facts.get("source"):
            page.offer({})
            page.statistics.forget_numbers("")
            if facts.get("made"):
                page.say(made_words(facts), "Computed when the copy is saved")
            else:
                why = text.visible(str(facts.get("unreadable") or "")) or "Its values cannot be shown"
                page.say(f"{why[:1].upper()}{why[1:]}.")
            QTimer.singleShot(0, self._check_settled)
            return
        scores = {kind.name: kind.score(facts) for kind in PLOTS}
        possible = {name: score for name, score in scores.items() if score > 0}
        page.say("" if possible else _not_decoded(facts))
        page.begin(self._session, facts)
        page.offer(possible)
        page.show_view(self._view if self._view in possible else OVERVIEW)
        # Two processes take the first two; of what then waits they take the newest first.
        if int(facts["params"]) >= GLANCE_FROM:
            self._ask_glance(facts)
        self._ask_overview(facts)
        self._ask_plots(facts)

    def _ask_plots(self, facts: Facts) -> None:
        for plot in reversed(self.tensor_page.plots.values()):
            # The answer that has the sums has the histogram too, whether somebody sees it now or later.
            wanted = not plot.isHidden() or (plot.name == OVERVIEW_PLOT and plot.score(facts) > 0)
            if wanted and not plot.shows(facts):
                self._waiting.add(plot.name)
                plot.show_tensor(self._session, facts)
                if self.tensor_page.summary:
                    plot.show_summary(self.tensor_page.summary)
                if plot.name == OVERVIEW_PLOT and not self.waits_for_sums:
                    plot.ask()

    def _ask_glance(self, facts: Facts) -> None:
        """What a sample says of a large tensor, until all of it is measured."""
        page = self.tensor_page

        def answered(body: Body, buffers: Buffers) -> None:
            if self.waits_for_sums:
                self._late.stop()
                page.statistics.show_numbers(body["summary"])
                if page.plots[OVERVIEW_PLOT].score(facts):
                    page.plots[OVERVIEW_PLOT].take(body, buffers)

        source = {"source": facts["source"]}
        self._session.ask_numbers("glance", source, answered, lambda failure: None, lane="glance")

    def _ask_overview(self, facts: Facts) -> None:
        """Sums and histogram come from one pass over the tensor."""
        page = self.tensor_page
        histogram = page.plots[OVERVIEW_PLOT]
        self._waiting.add("summary")
        self._late.start()

        def answered(body: Body, buffers: Buffers) -> None:
            self._late.stop()
            self._session.jobs.drop("glance")
            page.show_summary(body["summary"])
            self.line.show_facts(_fact_words(facts, body["summary"]))
            if histogram.score(facts):
                histogram.take(body, buffers)
            for plot in page.plots.values():
                if plot.score(facts):
                    plot.show_summary(body["summary"])
            self._done("summary")

        def failed(failure: Body) -> None:
            if not is_cancelled(failure):
                self._late.stop()
                page.statistics.forget_numbers(f"{text.visible(str(failure['message']))}.")
                histogram.fail(failure)
                self._done("summary")

        self._session.ask_numbers("overview", {"source": facts["source"]}, answered, failed, lane="overview")

    def _say_waiting(self) -> None:
        """What takes a while to come must not be taken for the numbers of the tensor before."""
        self.tensor_page.statistics.forget_numbers("Reading numbers…")

    def _plot_finished(self) -> None:
        for name, plot in self.tensor_page.plots.items():
            if not plot.pending:
                self._waiting.discard(name)
        self._check_settled()

    def _done(self, what: str) -> None:
        self._waiting.discard(what)
        self._check_settled()

    @property
    def waits_for_sums(self) -> bool:
        """Whether all values of the tensor are still being measured."""
        return "summary" in self._waiting

    def _check_settled(self) -> None:
        if not self._waiting:
            self.settled.emit()

    def _choose_view(self, view: str) -> None:
        self._view = view
        self.tensor_page.show_view(view)
        self.view_chosen.emit(view)
        if self._session.facts.get("source"):
            self._ask_plots(self._session.facts)

    def choose_view(self, number: int) -> None:
        """Turn to the n-th view that is offered, counted from 1."""
        offered = self.tensor_page.offered
        if self._stack.currentWidget() is self.tensor_page and 0 < number <= len(offered):
            self._choose_view(offered[number - 1])

    # Modules, values, many

    def _show_module(self, facts: Facts) -> None:
        page = self.module_page
        self._stack.setCurrentWidget(page)
        self._waiting.add("children")

        def answered(body: Body, buffers: Buffers) -> None:
            page.show_children(body["rows"], int(body["more"]))
            self._done("children")

        self._session.ask("children", {"row": facts["row"], "limit": MOST_CHILDREN}, answered, lane="children")

    def _show_value(self, facts: Facts) -> None:
        self.value_page.show_value(facts)
        self._stack.setCurrentWidget(self.value_page)
        QTimer.singleShot(0, self._check_settled)

    def _show_totals(self, totals: Body) -> None:
        # They come again while all tensors are measured; the distributions then go on.
        self._forget_tensor()
        n = len(self._session.selection)
        self.path.show_sentence(f"{text.plural(n, 'row')} selected")
        words = [text.plural(int(totals["tensors"]), "tensor"), f"{text.count(int(totals['params']))} params"]
        words.append(text.size(int(totals["nbytes"])))
        if totals.get("values"):
            words.append(text.plural(int(totals["values"]), "value"))
        if totals.get("norm") is not None:
            words += [f"norm {text.value(totals['norm'])}", text.plural(int(totals["zeros"]), "zero")]
        if totals.get("nan"):
            words.append(f"{text.count(int(totals['nan']))} NaN")
        self.line.show_facts([(word, False) for word in words])
        self.related.show_related(())
        if not totals["tensors"]:
            self._forget_several()
            self._stack.setCurrentIndex(0)
            return
        self._stack.setCurrentWidget(self.selection_page)
        self.selection_page.refresh()
        chosen = self._session.selection
        few = 1 < len(chosen) <= MOST_OVERLAID and int(totals["tensors"]) == len(chosen)
        if few:
            self.overlay.show()
            self.overlay.show_rows(self._session, chosen)
        else:
            self._forget_several()


def _fact_words(facts: Facts, summary: Facts | None = None) -> list[tuple[str, bool]]:
    """What the header says, in a few words; of a mask also what a pass over its values said."""
    words: list[tuple[str, bool]] = []
    if facts.get("shape") is not None and not facts["dtype"]:
        return [("only its key is known", False)]
    if facts.get("shape") is not None:
        words.append((text.shape(tuple(facts["shape"])), True))
        words.append((text.visible(str(facts["dtype"]), 40), False))
        words.append((_params(int(facts["params"])), False))
        words.append((text.size(int(facts["nbytes"])), False))
        if 0 < float(facts.get("share") or 0) < 1:
            words.append((f"{text.percent(float(facts['share']))} of model", False))
        if facts.get("tensor_kind") not in (None, "", "tensor"):
            words.append((text.visible(str(facts["tensor_kind"]), 40), False))
        if said := (facts.get("role") or {}).get("words"):
            words.append((str(said), False))
        if summary and (facts.get("role") or {}).get("kind") == "mask" and summary.get("count"):
            share = int(summary.get("zeros") or 0) / int(summary["count"])
            words.append((f"{text.percent(share)} pruned", False))
        return words
    if facts.get("tensors"):
        words.append((text.plural(int(facts["tensors"]), "tensor"), False))
        words.append((_params(int(facts["params"])), False))
        words.append((text.size(int(facts["nbytes"])), False))
        if 0 < float(facts.get("share") or 0) < 1 and facts["kind"] != "optimizer":
            words.append((f"{text.percent(float(facts['share']))} of model", False))
    elif facts.get("note"):
        words.append((text.visible(str(facts["note"]), 200), False))
    if facts.get("class") and str(facts["class"]) not in str(facts.get("note") or ""):
        words.append((text.visible(str(facts["class"]), 120), True))
    return words


def made_words(facts: Facts) -> str:
    """What a computed tensor will be, from what, and which steps make it."""
    made = facts["made"]
    parts = [f"{key} ({shape}, {dtype})" for key, shape, dtype in made["from"]]
    if made["more"]:
        parts.append(f"{made['more']:,} more")
    origin = (
        "From\n" + "\n".join(f"    {part}" for part in parts) if parts else "New: nothing of the file goes into it."
    )
    shape = text.shape(tuple(facts["shape"]))
    size = f"{text.plural(int(facts['params']), 'element')}, {text.size(int(facts['nbytes']))}"
    steps = "\n".join(f"    {number}. {words}" for number, words in made["steps"])
    lines = [f"It will be {shape} of {facts['dtype']}: {size}.", "", origin]
    return "\n".join([*lines, "", "By", steps] if steps else lines)


def _written_words(facts: Facts) -> str:
    """That some of the numbers that are shown are not those in the file."""
    made = facts.get("made") or {}
    if made.get("taken"):
        return f"Taken from another file: {made['from'][0][0]}. Plots and statistics are of the numbers there."
    writes = made.get("writes")
    if not writes or not facts.get("source"):
        return ""
    count = sum(len(texts) for _, texts in writes)
    edited = f"{text.plural(count, 'number')} edited" if count else "Edited"
    return f"{edited}: marked among the values. Plots and statistics are of the numbers in the file until it is saved."


def _not_decoded(facts: Facts) -> str:
    return f"Values of type {text.visible(str(facts['dtype']), 40)} are not decoded: only their bytes are known."


def _params(n: int) -> str:
    return f"{text.count(n)} {'param' if n == 1 else 'params'}"


class _ChildrenModel(QAbstractTableModel):
    """A handful of rows of a module: (node, name, shape, dtype, params)."""

    heads = ("Name", "Shape", "dtype", "Params")

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, str, str, str, int]] = []

    def set_rows(self, rows: list[tuple[int, str, str, str, int]]) -> None:
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | QPersistentModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.heads)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        _, name, shape, dtype, params = self.rows[index.row()]
        column = index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return (name, shape, dtype, text.short_count(params) if params else "")[column]
        if role == Qt.ItemDataRole.FontRole:
            return resources.font(resources.NOTE, mono=True) if column == 1 else resources.font(resources.BASE)
        if role == Qt.ItemDataRole.ForegroundRole:
            return resources.colour("text" if column == 0 else "text2")
        if role == Qt.ItemDataRole.TextAlignmentRole and column == 3:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return self.heads[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignRight if section == 3 else Qt.AlignmentFlag.AlignLeft
                return side | Qt.AlignmentFlag.AlignVCenter
        return None


class ModulePage(QWidget):
    """What is directly inside a module, a dictionary or an object."""

    node_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._model = _ChildrenModel()
        self._card = Card("Inside", "")
        self.export = widgets.icon_button("export", "Export its tensors (Ctrl+Shift+E)")
        self._card.add_control(self.export)
        view = QTableView()
        view.setModel(self._model)
        view.setAccessibleName("What is inside")
        view.setShowGrid(False)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        view.setTabKeyNavigation(False)
        view.verticalHeader().hide()
        view.verticalHeader().setDefaultSectionSize(26)
        head = view.horizontalHeader()
        head.setFixedHeight(28)
        head.setHighlightSections(False)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for section, width in ((1, 130), (2, 80), (3, 90)):
            view.setColumnWidth(section, width)
        view.activated.connect(lambda index: self.node_chosen.emit(self._model.rows[index.row()][0]))
        view.doubleClicked.connect(lambda index: self.node_chosen.emit(self._model.rows[index.row()][0]))
        self._card.column.setContentsMargins(12, 10, 4, 6)
        self._card.set_body(view)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._card)

    def show_children(self, rows: list[list[Any]], more: int) -> None:
        """`rows` are [node, name, shape, dtype, params]; `more` are not shown."""
        self._model.set_rows(
            [
                (int(node), text.visible(str(name), 200), str(shape), text.visible(str(dtype), 40), int(params))
                for node, name, shape, dtype, params in rows
            ]
        )
        words = text.plural(len(rows) + more, "entry", "entries")
        self._card.subtitle.setText(f"{words}, {len(rows):,} shown" if more else words)


class ValuePage(QWidget):
    """A value or an inert object, plainly: type, class, text."""

    def __init__(self) -> None:
        super().__init__()
        self._card = Card("Value", "")
        self._text = CodeBlock("")
        self._text.setAccessibleName("Value")
        self._copy = widgets.button("Copy", "copy")
        self._copy.clicked.connect(lambda: widgets.copy_text(self._text.toPlainText()))
        self._card.add_control(self._copy)
        self._card.set_body(self._text)
        self._say = Elided("", "second")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        column.addWidget(self._card, 1)
        column.addWidget(self._say)

    def show_value(self, facts: Facts) -> None:
        """Show a row that holds no tensors."""
        is_object = facts["kind"] == "object"
        hazard = bool(facts.get("hazard"))
        self._card.title_label.setText("Call, not run" if hazard else "Object, not built" if is_object else "Value")
        kind = str(facts.get("class") or facts.get("value_type") or "")
        self._card.subtitle.setText(text.visible(kind.removeprefix("builtins."), 200))
        if facts.get("changed") and not facts.get("dropped"):
            self._card.subtitle.setText(f"{self._card.subtitle.text()} · edited")
        value = facts.get("value")
        shown = str(value) if value is not None else str(facts.get("note") or "")
        self._text.setPlainText(text.visible(shown, 20_000))
        about = "F2 or a double click on its row in the tree edits it." if facts.get("plain") else ""
        self._say.setText(_about_value(is_object, hazard) or about)


def _about_value(is_object: bool, hazard: bool) -> str:
    if hazard:
        return "Loading the file with weights_only=False would run this; sdviewer did not. Ctrl+2 shows all it calls."
    return "The file names this class. sdviewer shows the name and builds nothing from it." if is_object else ""
