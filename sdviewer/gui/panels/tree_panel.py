"""The left side of a document: filter, chips, and the module tree as a flat table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from PySide6.QtCore import (
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QPoint,
    QRect,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import (
    QDrag,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QPainter,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QMenu,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from sdviewer.core import text
from sdviewer.core.key_filter import marked_words
from sdviewer.core.regex_marks import filter_marks
from sdviewer.core.sheet import MATCHED, Sheet
from sdviewer.gui import resources, widgets
from sdviewer.gui.dragged import ROWS_MIME, DraggedRows
from sdviewer.gui.flow import FlowLayout
from sdviewer.gui.jobs import Body
from sdviewer.gui.models import tree_model
from sdviewer.gui.models.tree_model import TreeModel
from sdviewer.gui.panels.flat_tree import FlatTreeView
from sdviewer.gui.panels.key_editor import InPlace, KeyEditor, ValueEditor
from sdviewer.gui.panels.nothing_found import NothingFound
from sdviewer.gui.panels.tree_rows import (
    CHEVRON,
    PARAMS_WIDTH,
    ROW_HEIGHT,
    SHAPE_WIDTH,
    Columns,
    RowPainter,
    drag_picture,
    indent,
)
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.regex_highlight import RegexHighlight
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip, Field

ROOM_FOR_ALL_DIGITS: Final = 10_000
"""Counts from which a chip says `100 K`: five chips of six digits are wider than the tree."""

NARROWEST: Final = 340
"""Pixels that the first columns keep; beyond, the tree scrolls sideways."""

FILTER_HELP: Final = """qkv  attn.3  —  words: the key holds all of them
*.weight  —  a glob over the whole key
/h\\.[0-9]+\\./  —  a regular expression
shape:768  shape:*×768  shape:=768  —  an axis, all axes, a vector
dtype:bf16  params:>1M  size:>10MiB  shared  problem
nan  inf  zero  constant  outlier  —  what is odd about its numbers
std:>0.1  —  so mean: norm: min: max: absmean: kurtosis:
zeros:>50%  —  a share or a number, so nan: inf: outliers:
-bias  —  a minus in front of anything leaves it out

All must hold. Numbers are found as far as they are measured; /nan/ finds a key."""
"""What a filter can be, as the field's tooltip; docs/filter.md says it at length."""

FILTER_PAUSE: Final = 60
"""Milliseconds without a key before the filter is sent."""
MOST_KEPT: Final = 1000
"""Selected rows up to which a selection outlives a change of rows; of a larger one the current row stays."""
MOST_SELECTED: Final = 2000
"""Rows that are alike, up to which they are selected and not only shown."""
_ALONE = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows


class TreeView(FlatTreeView):
    """The module tree of a document, whose rows can be dragged."""

    drop_requested = Signal(int)  # the node that the selected rows were dropped on

    def __init__(self, model: TreeModel) -> None:
        self.painter = RowPainter(model)
        super().__init__(model, self.painter)
        self._tree = model
        self._target_row = -1
        self.dragged: Callable[[int], DraggedRows] = lambda node: DraggedRows(None, -1)
        """What a drag carries of a node, or of several (-1)."""
        self.setAccessibleName("Module tree")
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragDrop)
        self.setColumnWidth(tree_model.SHAPE, SHAPE_WIDTH)
        self.setColumnWidth(tree_model.PARAMS, PARAMS_WIDTH)
        self.setColumnWidth(tree_model.DTYPE, 58)

    def places(self) -> Columns:
        places = [self._column(column) for column in range(self._tree.columnCount())]
        return Columns(places[0], places[1], places[2], places[3], tuple(places[4:]))

    def paint_over(self, painter: QPainter, row: int, y: int) -> None:
        if row == self._target_row:
            self.painter.paint_target(painter, QRect(0, y, self.viewport().width(), ROW_HEIGHT))

    def set_columns(self, columns: tuple[str, ...]) -> None:
        """Have other columns behind the first four."""
        self._tree.set_columns(columns)
        for at, name in enumerate(columns):
            self.setColumnWidth(len(tree_model.HEADERS) + at, tree_model.COLUMNS[name].width)
        policy = Qt.ScrollBarPolicy
        self.setHorizontalScrollBarPolicy(policy.ScrollBarAsNeeded if columns else policy.ScrollBarAlwaysOff)
        self.share_room()

    def share_room(self) -> None:
        """Give the name what the others leave. Where room is short the name is what counts, before what was added."""
        added = sum(tree_model.COLUMNS[name].width for name in self._tree.columns)
        width = max(self.viewport().width() - added, NARROWEST)
        self.setColumnHidden(tree_model.DTYPE, width < 390)
        self.setColumnHidden(tree_model.SHAPE, width < 330)
        others = (tree_model.SHAPE, tree_model.PARAMS, tree_model.DTYPE)
        self.setColumnWidth(tree_model.NAME, width - sum(self.columnWidth(column) for column in others))

    # Dragging rows to another module

    def startDrag(self, actions: Qt.DropAction) -> None:
        # Qt's own would ask the model for every cell of every selected row.
        selection = self.selectionModel().selection()
        count = sum(span.height() for span in map(selection.at, range(selection.count())))
        if not count:
            return
        data = self.dragged(self.current_node() if count == 1 else -1)
        drag = QDrag(self)
        drag.setMimeData(data)
        drag.targetChanged.connect(lambda target: data.begin() if target is None else None)
        words = self._tree.name(self.current_node()) if count == 1 else f"{count:,} rows"
        drag.setPixmap(drag_picture(words, self.devicePixelRatioF()))
        drag.setHotSpot(QPoint(-12, -6))
        # To another module a key moves, out of the window a tensor is copied.
        drag.exec(Qt.DropAction.MoveAction | Qt.DropAction.CopyAction, Qt.DropAction.MoveAction)
        self._aim(-1)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        # Files are for the window.
        event.setAccepted(event.mimeData().hasFormat(ROWS_MIME))

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        super().dragMoveEvent(event)  # scrolls near an edge
        row = self.indexAt(event.position().toPoint()).row() if event.mimeData().hasFormat(ROWS_MIME) else -1
        self._aim(row)
        event.setAccepted(row >= 0)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        super().dragLeaveEvent(event)
        self._aim(-1)

    def dropEvent(self, event: QDropEvent) -> None:
        row = self.indexAt(event.position().toPoint()).row()
        self._aim(-1)
        if row < 0 or not event.mimeData().hasFormat(ROWS_MIME):
            event.ignore()
            return
        event.setDropAction(Qt.DropAction.MoveAction)
        event.accept()
        self.drop_requested.emit(self._tree.node(row))

    def _aim(self, row: int) -> None:
        if row != self._target_row:
            self._target_row = row
            self.viewport().update()


class TreePanel(QWidget):
    """Filter, chips and tree; keeps selection and scroll by node when the worker answers with other rows."""

    problems_requested = Signal()
    security_requested = Signal()
    columns_chosen = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self.model = TreeModel(self)
        self.view = TreeView(self.model)
        self.filter = Field("Filter — qkv   *.weight   shape:768   dtype:f32   nan", "filter", "Ctrl+F")
        self.filter.setAccessibleName("Filter the tree")
        self.filter.setToolTip(plain_tip(FILTER_HELP))
        self.highlight = RegexHighlight(self.filter, filter_marks)
        self._pause = QTimer(self, interval=FILTER_PAUSE, singleShot=True)
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        self._wrong.hide()
        self._sort: tuple[int, bool] = (-1, False)
        self._swapping = False
        self._select_matches = False
        self.editor: InPlace | None = None
        self._to_edit = -1
        self._chips: dict[str, Chip] = {}
        self._chip_filter = ""
        self._problems = Chip("Problems", "warn", "warn")
        self._security = Chip("Security", "warn", "shieldw")
        self._lay_out()
        self._connect()
        self._matched = -1
        self.view.set_columns(session.columns)

    def _lay_out(self) -> None:
        self._problems.hide()
        self._security.hide()
        self._chip_row = FlowLayout(6)
        self._chip_row.addWidget(self._problems)
        self._chip_row.addWidget(self._security)
        top = QVBoxLayout()
        top.setContentsMargins(10, 10, 10, 6)
        top.setSpacing(7)
        top.addWidget(self.filter)
        top.addWidget(self._wrong)
        top.addLayout(self._chip_row)
        self._nothing = NothingFound("Clear filter")
        self._nothing.left.connect(self._show_all)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.view)
        self._stack.addWidget(self._nothing)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(top)
        column.addWidget(self._stack, 1)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        session, view = self._session, self.view
        session.opened.connect(self._fill_chips)
        session.opened.connect(lambda: self._show_order(-1, False))
        session.sheet_changed.connect(self._show_sheet)
        session.rows_changed.connect(self._show_rows)
        session.filtered.connect(self._show_matches)
        session.reveal_requested.connect(self.select_node)
        session.several_requested.connect(self.select_nodes)
        view.follow(session)
        view.edit_requested.connect(self.edit_value)
        session.facts_changed.connect(self._facts_known)
        view.drop_requested.connect(self._drop)
        view.dragged = self._dragged
        view.verticalScrollBar().valueChanged.connect(self._scrolled)
        view.selectionModel().selectionChanged.connect(self._selection_changed)
        view.horizontalHeader().sectionClicked.connect(self._sort_by)
        self._pause.timeout.connect(self._send_filter)
        self.filter.textChanged.connect(lambda: self._pause.start())
        self.filter.escaped.connect(self._leave_filter)
        self.filter.returnPressed.connect(self._enter_tree)
        self.filter.left_downwards.connect(self._enter_tree)
        self._problems.clicked.connect(self.problems_requested)
        self._security.clicked.connect(self.security_requested)
        session.scanned.connect(self._show_scan)
        session.contents_changed.connect(self._count_problems)
        session.numbers_changed.connect(self._show_numbers)
        session.survey_changed.connect(self._say_matched)
        session.survey.sight = self._in_sight
        view.head_menu_requested.connect(self._show_column_menu)

    # What the session tells

    def _show_sheet(self, sheet: Sheet, visible: memoryview, selected: list[int], top: int) -> None:
        self._to_edit = -1  # rows are numbered anew
        self.model.set_numbers(self._session.numbers)
        self._swap(lambda: self.model.set_sheet(sheet, visible), selected, top)
        if not selected and self.model.rowCount():
            self.select_row(0)

    def _fill_chips(self) -> None:
        """What the worker offers to look at, such as all weights, and how many problems there are."""
        for old in self._chips.values():
            old.hide()
            old.deleteLater()
        self._chips = {}
        self._chip_filter = ""
        for place, (words, wanted, count) in enumerate(self._session.info.get("chips") or ()):
            n = int(count)
            chip = Chip(f"{words}  {text.count(n) if n < ROOM_FOR_ALL_DIGITS else text.short_count(n)}")
            chip.setToolTip(f"{text.count(n)} in this file")
            chip.setCheckable(True)
            chip.setChecked(not wanted)
            chip.clicked.connect(partial(self._choose_chip, str(wanted)))
            self._chip_row.insert(place, chip)
            self._chips[str(wanted)] = chip
        self._count_problems()

    def _count_problems(self) -> None:
        found, noted = len(self._session.problems), self._session.noted
        problems = found + noted
        self._problems.setText(f"Problems  {problems:,}")
        words = "The list of what is odd or damaged in this file (Ctrl+5)"
        if noted:
            words += f"\n{text.plural(noted, 'tensor')} whose numbers are odd"
        self._problems.setToolTip(plain_tip(words))
        self._problems.setVisible(problems > 0)

    def _show_scan(self, scan: Body) -> None:
        """Where a name is known to do harm, or not all could be read: how many names are no torch's and no data's."""
        counts = scan["counts"]
        asked = int(counts.get("dangerous") or 0) + int(counts.get("unknown") or 0)
        self._security.setText(f"Security  {asked:,}" if asked else "Security")
        self._security.setToolTip("What loading this file would run")
        self._security.setVisible(bool(counts.get("dangerous")) or not scan["complete"])

    def _choose_chip(self, wanted: str) -> None:
        self._chip_filter = wanted
        for key, chip in self._chips.items():
            chip.setChecked(key == wanted)
        self._send_filter()

    def _send_filter(self) -> None:
        self._session.set_filter(f"{self._chip_filter} {self.filter.text()}".strip())

    def _show_rows(self, visible: memoryview, flags: memoryview) -> None:
        top = self.model.node(row) if (row := self.view.rowAt(0)) >= 0 else -1
        current = self.view.current_node()
        chosen = self._session.selection
        if current >= 0 and chosen and current in chosen:
            chosen = [current, *(node for node in chosen if node != current)]
        self._swap(lambda: self.model.set_rows(visible, flags), chosen, top)

    def _swap(self, change: Callable[[], None], chosen: list[int], top: int) -> None:
        """Swap the model's rows; `chosen` (the current one first) stay selected and `top` stays at the top."""
        view = self.view
        if self.editor is not None:
            self.editor.close_now()
        offset = view.rowViewportPosition(row) if (row := view.rowAt(0)) >= 0 else 0
        self._swapping = True
        change()
        view.hovered_row = -1
        flag = QItemSelectionModel.SelectionFlag
        kept = chosen if len(chosen) <= MOST_KEPT else chosen[:1]
        if rows := self.model.rows_of(kept):
            selection = QItemSelection()
            for row in rows:
                selection.select(self.model.index(row, 0), self.model.index(row, self.model.columnCount() - 1))
            row = self.model.row_of(chosen[0])
            view.selectionModel().setCurrentIndex(self.model.index(row if row >= 0 else rows[0], 0), flag.NoUpdate)
            view.selectionModel().select(selection, flag.ClearAndSelect)
        elif chosen and (above := self.model.visible_ancestor(chosen[0])) >= 0:
            view.selectionModel().setCurrentIndex(self.model.index(above, 0), flag.NoUpdate)
        anchor = self.model.visible_ancestor(top) if top >= 0 else -1
        if anchor >= 0:
            view.verticalScrollBar().setValue(anchor * ROW_HEIGHT - offset)
        self._swapping = False
        if len(kept) < len(chosen):
            self._selection_changed()

    def _show_matches(self, matched: int, error: str) -> None:
        widgets.set_property(self.filter, "wrong", bool(error))
        self.view.painter.words = marked_words(self._session.filter_text) if matched >= 0 and not error else ()
        self.view.viewport().update()
        self._wrong.setText(text.visible(error))
        self._wrong.setVisible(bool(error))
        self._matched = -1 if error else matched
        self._say_matched()
        if error:
            return
        nothing = matched == 0
        self._nothing.say(f"Nothing matches “{text.visible(self._session.filter_text, 80)}”")
        self._stack.setCurrentIndex(1 if nothing else 0)
        if self._select_matches:
            self._select_matches = False
            self._select_matched(matched)

    def _say_matched(self) -> None:
        """How many rows match, and of how many that can be told."""
        matched, survey = self._matched, self._session.survey.known
        words = text.plural(matched, "match", "matches")
        if self._session.by_numbers and survey.known < survey.tensors:
            words += f", of {survey.counts} measured"
        self.filter.say(words if matched >= 0 else "")

    # The numbers

    def _show_numbers(self) -> None:
        self.model.set_numbers(self._session.numbers)
        self.view.viewport().update()
        self._count_problems()

    def _in_sight(self) -> list[int]:
        """The tensors on the screen, by their numbers in the file."""
        view, sheet = self.view, self.model.sheet
        first, last = view.rowAt(0), view.rowAt(view.viewport().height() - 1)
        if sheet is None or first < 0:
            return []
        tensor = sheet.columns["tensor"]
        nodes = self.model.nodes(first, last if last >= 0 else self.model.rowCount() - 1)
        return [tensor[node] for node in nodes if tensor[node] >= 0]

    def show_column_menu(self) -> None:
        """Which columns there are, at their heads."""
        head = self.view.horizontalHeader()
        self._show_column_menu(head.mapToGlobal(head.rect().bottomLeft()))

    def _show_column_menu(self, place: QPoint) -> None:
        menu = QMenu(self)
        for name, column in tree_model.COLUMNS.items():
            choice = menu.addAction(column.title)
            choice.setCheckable(True)
            choice.setChecked(name in self.model.columns)
            choice.setToolTip(plain_tip(column.about))
            choice.toggled.connect(lambda on, name=name: self.choose_column(name, on))
        menu.addSeparator()
        order = menu.addAction("File order", self._file_order)
        order.setEnabled(self._sort[0] >= 0)
        menu.exec(place)
        menu.deleteLater()

    def choose_column(self, name: str, on: bool) -> None:
        """Add a column behind the others, or take it away."""
        wanted = {*self.model.columns, name} if on else {*self.model.columns} - {name}
        columns = tuple(known for known in tree_model.COLUMNS if known in wanted)
        if self._sort[0] >= len(tree_model.HEADERS):
            self._file_order()
        row = self.view.rowAt(0)
        top = self.model.node(row) if row >= 0 else -1
        self._swap(lambda: self.view.set_columns(columns), self._session.selection, top)
        self._session.show_columns(columns)
        self.columns_chosen.emit(columns)

    # What a person does

    def _selection_changed(self) -> None:
        if self._swapping:
            return
        selection = self.view.selectionModel().selection()
        spans = sorted((span.top(), span.bottom()) for span in map(selection.at, range(selection.count())))
        nodes = [node for top, bottom in spans for node in self.model.nodes(top, bottom)]
        current = self.view.currentIndex().row()
        if any(top <= current <= bottom for top, bottom in spans):
            first = self.model.node(current)
            nodes.remove(first)
            nodes.insert(0, first)
        self._session.select(nodes)

    def select_row(self, row: int) -> None:
        """Select one row of the table, and that alone: `selectRow` would add it while a control key is down."""
        self.view.selectionModel().setCurrentIndex(self.model.index(row, 0), _ALONE)

    def select_node(self, node: int) -> None:
        """Select a visible node and bring it into view."""
        row = self.model.row_of(node)
        if row >= 0:
            self.select_row(row)
            self.view.scrollTo(self.model.index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)

    def select_matches(self, wanted: str) -> None:
        """Show what a filter finds, and select it where that is not too much to do anything with."""
        self._select_matches = True
        self.filter.setText(wanted)
        self._pause.stop()
        self._choose_chip("")

    def _select_matched(self, matched: int) -> None:
        if matched > MOST_SELECTED:
            words = f"{matched:,} rows are alike: they are shown, and too many to be selected"
            remedy = "Find and replace works on all that the filter finds."
            self._session.trouble.emit({"message": words, "remedy": remedy})
            return
        model = self.model
        rows = [row for row in range(model.rowCount()) if model.flags_of(model.node(row)) & MATCHED]
        self._select_rows(rows)

    def select_nodes(self, nodes: list[int]) -> None:
        """Select visible nodes and bring the first of them into view."""
        rows = sorted(self.model.rows_of(nodes))
        self._select_rows(rows)
        if rows:
            self.view.scrollTo(self.model.index(rows[0], 0), QAbstractItemView.ScrollHint.EnsureVisible)

    def _select_rows(self, rows: list[int]) -> None:
        if not rows:
            return
        model = self.model
        selection = QItemSelection()
        last = model.columnCount() - 1
        start = before = rows[0]
        for row in [*rows[1:], -1]:
            if row != before + 1:
                selection.select(model.index(start, 0), model.index(before, last))
                start = row
            before = row
        flag = QItemSelectionModel.SelectionFlag
        chosen = self.view.selectionModel()
        chosen.setCurrentIndex(model.index(rows[0], 0), flag.NoUpdate)
        chosen.select(selection, flag.ClearAndSelect)
        self.view.setFocus()

    def edit_key(self) -> None:
        """Edit the key, or the module path, of the current row in place; of a plain value without a key the value."""
        session, view = self._session, self.view
        row, facts = view.currentIndex().row(), session.facts
        if row < 0 or facts.get("row") != self.model.node(row):
            return
        if facts.get("plain") and not facts.get("key"):
            self.edit_value(self.model.node(row))
            return
        if session.editable:
            return
        key, prefix = facts.get("key"), str(facts.get("prefix") or "")
        if facts.get("dropped") or not (key or prefix):
            why = "It is dropped" if facts.get("dropped") else "This row has no key of its own"
            session.trouble.emit({"message": why, "remedy": "Select a tensor or a module of a state dict."})
            return
        self._edit_over(row, KeyEditor(view.viewport(), session, str(key) if key else prefix, module=not key))

    def edit_value(self, node: int) -> None:
        """Edit a plain value in place, as soon as it is known."""
        facts, row = self._session.facts, self.model.row_of(node)
        if facts.get("row") != node:
            self._to_edit = node
        elif facts.get("plain") and row >= 0:
            self._edit_over(row, ValueEditor(self.view.viewport(), self._session, facts["plain"]))
        elif facts.get("kind") == "value" and not facts.get("dropped"):
            kind = text.visible(str(facts.get("value_type") or "").removeprefix("builtins."), 80)
            why = f"A value of this kind cannot be edited in place ({kind})"
            remedy = "Numbers, True, False, None and texts of one line can; for others there is “Set a value”."
            self._session.trouble.emit({"message": why, "remedy": remedy})

    def _facts_known(self, facts: Body) -> None:
        wanted = self._to_edit
        if wanted == facts.get("row"):
            self._to_edit = -1
            self.edit_value(wanted)
        elif wanted != self.view.current_node():
            self._to_edit = -1

    def _edit_over(self, row: int, editor: InPlace) -> None:
        """Put an editor over a row."""
        view = self.view
        view.scrollTo(self.model.index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)
        inside = view.viewport().rect()
        self.editor = editor
        editor.closed.connect(self._edited)
        left = indent(self.model.depth(self.model.node(row))) + CHEVRON + 18
        if isinstance(editor, ValueEditor):
            # The name stays in sight: what is edited stands where the shapes do.
            left = min(left + 110, inside.width() - 180)
        editor.show_over(QRect(0, view.rowViewportPosition(row), inside.width(), ROW_HEIGHT), left, inside)

    def _edited(self) -> None:
        self.editor = None
        self.view.setFocus()

    def _dragged(self, node: int) -> DraggedRows:
        sheet = self._session.sheet
        is_tensor = node >= 0 and sheet is not None and sheet.kind(node) in ("tensor", "vector", "scalar")
        return DraggedRows(self._session, node if is_tensor else -1)

    def _drop(self, target: int) -> None:
        """Move what is selected below the module it was dropped on, as one step."""
        session = self._session
        if session.selection and target not in session.selection:
            session.step_of("move", session.apply, rows=session.selection, to=target)

    def _sort_by(self, column: int) -> None:
        """Texts upwards first, numbers the largest first; then the other way; then file order."""
        first = column == tree_model.PARAMS or column >= len(tree_model.HEADERS)
        before, descending = self._sort
        if before != column:
            self._order_by(column, first)
        elif descending == first:
            self._order_by(column, not first)
        else:
            self._file_order()

    def _file_order(self) -> None:
        self._order_by(-1, False)

    def _order_by(self, column: int, descending: bool) -> None:
        self._show_order(column, descending)
        keys = (*tree_model.SORT_KEYS, *self.model.columns)
        self._session.sort(keys[column] if column >= 0 else "natural", descending)

    def _show_order(self, column: int, descending: bool) -> None:
        self._sort = (column, descending)
        head = self.view.horizontalHeader()
        head.setSortIndicatorShown(column >= 0)
        if column >= 0:
            order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
            head.setSortIndicator(column, order)

    def _leave_filter(self) -> None:
        if self.filter.text():
            self.filter.clear()
        else:
            self.view.setFocus()

    def _show_all(self) -> None:
        self.filter.clear()
        self._choose_chip("")

    def _enter_tree(self) -> None:
        """Go on to the first row that the filter finds, unless one of them is selected."""
        if not self.view.isVisible():
            return  # it would take the focus as soon as it is shown, from whoever types then
        self.view.setFocus()
        model, current = self.model, self.view.currentIndex()
        wanted = MATCHED if self._matched > 0 else 0
        if not current.isValid() or (wanted and not model.flags_of(model.node(current.row())) & wanted):
            found = (row for row in range(model.rowCount()) if model.flags_of(model.node(row)) & wanted == wanted)
            self.select_row(next(found, 0))

    def _scrolled(self) -> None:
        if not self._swapping:
            row = self.view.rowAt(0)
            self._session.top_node = self.model.node(row) if row >= 0 else -1
        if self.editor is not None:
            self.editor.close_now()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.view.viewport().update()
