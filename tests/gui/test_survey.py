"""The numbers of all tensors in the window: columns, order, filter, marks, the Problems chip, progress and stopping."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QObject, Qt
from PySide6.QtTest import QAbstractItemModelTester
from pytestqt.qtbot import QtBot

from sdviewer.core import text
from sdviewer.gui.jobs import Jobs
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models import tree_model
from sdviewer.gui.models.tree_model import HEADERS, NAME
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.problems_panel import ProblemsPanel
from sdviewer.gui.panels.tree_panel import TreePanel
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Settings
from sdviewer.gui.survey_watch import AUTOMATIC, MOST_WAITING, REST, Surveyed, SurveyWatch
from sdviewer.repair.operations.prefix import Prefix
from tests.engine.conftest import write_safetensors
from tests.gui.conftest import Opened, front

SLOW = 30_000


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A model with a healthy matrix, one with NaN, one that is all zero, a bias of zeros, and one far outlier."""
    rng = np.random.default_rng(1)
    broken = rng.normal(size=(4, 5))
    broken[1, 2:4] = np.nan
    far = rng.normal(size=(100,))
    far[7] = 1e9
    tensors = {
        "net.good.weight": rng.normal(size=(8, 8)) * 3,
        "net.good.bias": np.zeros(8),
        "net.bad.weight": broken,
        "net.dead.weight": np.zeros((2, 6)),
        "net.far.scale": far,
    }
    return write_safetensors(tmp_path / "odd.safetensors", tensors)


Surveyed_ = tuple[Session, DocumentPage]


@pytest.fixture
def surveyed(odd: Path, window: MainWindow, opened: Opened, qtbot: QtBot) -> Surveyed_:
    """The odd file, measured whole, all its rows in sight."""
    session = opened(odd)
    qtbot.waitUntil(lambda: session.survey.known.state == "done" and session.noted > 0, timeout=SLOW)
    page = front(window)
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    return session, page


def row_of(tree: TreePanel, name: str) -> int:
    return next(row for row in range(tree.model.rowCount()) if tree.model.name(tree.model.node(row)) == name)


def names(tree: TreePanel) -> list[str]:
    return [str(tree.model.index(row, NAME).data()) for row in range(tree.model.rowCount())]


def words(tree: TreePanel, name: str) -> tuple[list[str], bool]:
    """The marks of a row, and whether they have a colour."""
    found, noted = tree.model.marks(tree.model.node(row_of(tree, name)))
    return [mark.word for mark in found], noted


def test_that_a_file_is_measured_by_itself_and_what_is_odd_is_marked_and_counted(
    surveyed: Surveyed_, qtbot: QtBot
) -> None:
    session, page = surveyed
    tree = page.tree
    assert session.survey.known.counts == "5 / 5"
    assert words(tree, "bad.weight") == (["NaN"], True)
    assert words(tree, "dead.weight") == (["zero"], True)
    assert words(tree, "far.scale") == (["outlier"], True)
    assert words(tree, "bias") == (["zero"], False)
    assert words(tree, "weight") == ([], False)
    assert words(tree, "net") == ([], False)  # what is below it is in sight
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.collapse(tree.model.node(row_of(tree, "net")))
    assert words(tree, "net") == (["NaN", "outlier", "zero"], True)
    index = tree.model.index(row_of(tree, "net"), NAME)
    assert "below it: has NaN" in str(index.data(Qt.ItemDataRole.AccessibleTextRole))
    assert "Below it: has NaN" in str(index.data(Qt.ItemDataRole.ToolTipRole))
    assert "3" in tree._problems.text()
    assert tree._problems.isVisible()


def test_that_the_list_of_problems_has_the_odd_numbers_and_leads_to_their_rows(
    surveyed: Surveyed_, qtbot: QtBot
) -> None:
    session, page = surveyed
    page.show_view("problems")
    panel = page.view("problems")
    assert isinstance(panel, ProblemsPanel)
    qtbot.waitUntil(lambda: panel.table.rows.total == 3, timeout=SLOW)
    row = next(row for row in panel.table.rows.rows if row[1] == "nan")
    assert row[2] == "2 of 20 values are NaN"
    panel.place_chosen.emit(row[3])
    qtbot.waitUntil(lambda: session.facts.get("key") == "net.bad.weight", timeout=SLOW)


def test_that_columns_are_added_at_their_place_and_remembered(
    surveyed: Surveyed_, window: MainWindow, settings: Settings, qtbot: QtBot
) -> None:
    _session, page = surveyed
    tree = page.tree
    QAbstractItemModelTester(tree.model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    with qtbot.waitSignal(_session.numbers_changed, timeout=SLOW):
        tree.choose_column("zeros", True)
    with qtbot.waitSignal(_session.numbers_changed, timeout=SLOW):
        tree.choose_column("std", True)
    assert tree.model.columns == ("std", "zeros")
    assert settings.get("tree/columns") == "std,zeros"

    def cells(name: str) -> list[str]:
        row = row_of(tree, name)
        return [str(tree.model.index(row, column).data()) for column in range(len(HEADERS), tree.model.columnCount())]

    assert cells("dead.weight") == ["0", "12"]
    assert cells("net") == ["", "20"]
    tip = str(tree.model.index(row_of(tree, "net"), len(HEADERS) + 1).data(Qt.ItemDataRole.ToolTipRole))
    assert "20, 9.80 % of the values" in tip
    assert "zeros 12" in tree.model.sentence(tree.model.node(row_of(tree, "dead.weight")))
    window.files.reload()
    qtbot.waitUntil(lambda: _session.state == "open" and cells("dead.weight") == ["0", "12"], timeout=SLOW)
    tree.choose_column("zeros", False)
    tree.choose_column("std", False)
    assert tree.model.columnCount() == len(HEADERS)


def test_that_a_selection_stays_when_columns_come_and_go(surveyed: Surveyed_, qtbot: QtBot) -> None:
    session, page = surveyed
    tree = page.tree
    row = row_of(tree, "bad.weight")
    tree.select_row(row)
    with qtbot.waitSignal(session.numbers_changed, timeout=SLOW):
        tree.choose_column("norm", True)
    assert tree.view.selectionModel().isRowSelected(row, tree.model.index(-1, -1))
    assert session.selection == [tree.model.node(row)]


def test_that_a_click_on_a_head_sorts_the_other_way_and_back_to_file_order(surveyed: Surveyed_, qtbot: QtBot) -> None:
    session, page = surveyed
    tree = page.tree
    natural = names(tree)
    with qtbot.waitSignal(session.numbers_changed, timeout=SLOW):
        tree.choose_column("max", True)
    orders = []
    for _ in range(3):
        with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
            tree.view.horizontalHeader().sectionClicked.emit(len(HEADERS))
        orders.append(names(tree))
    inside = ["good", "weight", "bias", "bad.weight", "dead.weight", "far.scale"]
    assert natural[2:] == inside
    assert orders[0][2] == "far.scale"
    assert orders[1][2:4] == ["dead.weight", "bad.weight"]
    assert orders[2] == natural


def test_that_a_filter_by_numbers_says_of_how_many_it_can_tell(surveyed: Surveyed_, qtbot: QtBot) -> None:
    session, page = surveyed
    tree = page.tree
    with qtbot.waitSignal(session.filtered, timeout=SLOW):
        tree.filter.setText("nan")
    assert tree.filter._note.text() == "1 match"
    session.survey._say(replace(session.survey.known, state="measuring", known=3))
    assert tree.filter._note.text() == "1 match, of 3 / 5 measured"
    with qtbot.waitSignal(session.filtered, timeout=SLOW):
        tree.filter.setText("std:>many")
    assert "is no number such as >0.1" in tree._wrong.text()
    with qtbot.waitSignal(session.filtered, timeout=SLOW):
        tree.filter.setText("weight")
    assert tree.filter._note.text() == "3 matches"


def test_that_what_is_wrong_with_a_filter_is_still_said_when_more_numbers_come(
    surveyed: Surveyed_, qtbot: QtBot
) -> None:
    session, _ = surveyed
    for wanted in ("nan", "std:>x"):
        with qtbot.waitSignal(session.filtered, timeout=SLOW) as said:
            session.set_filter(wanted)
    assert said.args is not None
    wrong = said.args[1]
    assert wrong
    with qtbot.waitSignal(session.filtered, timeout=SLOW) as said:
        session._ask_numbers({}, {"refresh": True}, lambda known: None)
    assert said.args == [1, wrong]


def test_that_the_status_bar_tells_how_far_it_is_and_stops_it(
    odd: Path, window: MainWindow, opened: Opened, qtbot: QtBot
) -> None:
    session = opened(odd)
    watch = session.survey
    watch.stop()
    watch._say(Surveyed("measuring", 118, 152, 1000, 400, 0.6))
    assert window.status._job.text() == "Statistics 118 / 152"
    assert window.status._bar.value() == 600
    window.status.cancel_requested.emit()
    assert watch.known.state == "offered"
    assert window.status._job.isHidden()
    assert window.status._offer.text() == "Statistics 118 / 152 · Measure the rest, 400 B"
    window.status.offer_taken.emit()
    qtbot.waitUntil(lambda: watch.known.state == "done", timeout=SLOW)
    assert window.status._offer.isHidden()
    assert not window.actions_by_id["measure"].isEnabled()
    assert "All tensors are measured" in window.actions_by_id["measure"].toolTip()


def test_that_a_changed_file_stops_the_survey_and_says_why(odd: Path, opened: Opened, qtbot: QtBot) -> None:
    session = opened(odd)
    session.survey.stop()
    raw = bytearray(odd.read_bytes())
    status = odd.stat()
    odd.write_bytes(raw)
    os.utime(odd, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    session.survey.measure()
    qtbot.waitUntil(lambda: session.survey.known.state == "changed", timeout=SLOW)
    assert "changed since it was opened" in session.survey.known.why
    assert session.survey.known.offer() == ("", "")


MORE = REST + 9
BODY = {"tensors": 5, "known": 0, "nbytes": AUTOMATIC + MORE, "left": AUTOMATIC + MORE, "spent": 0, "begun": True}
SOME = {"indices": memoryview(bytes(8))}


class Watched:
    """A watch whose processes are never asked, and what it would ask them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.told: list[Any] = []
        self.parent = QObject()
        self.watch = SurveyWatch(Jobs(self.parent), lambda *told: self.told.append(told[-1]), "nowhere", self.parent)
        self.watch._request = self._asked  # type: ignore[method-assign]

    def _asked(self, share: Any, name: str, params: Any, buffers: Any = None) -> None:
        share.busy = True
        self.asked.append({"name": name, **params})

    def answer(self, at: int, *, came: bool = True, **body: Any) -> None:
        self.watch._measured(self.watch._shares[at], {**BODY, **body}, SOME if came else {})


def test_that_a_large_or_slow_file_is_offered_and_not_read_whole(app: Any) -> None:
    watched = Watched()
    watch = watched.watch
    watch.opened({}, 5, 1, 60.0)
    watch._look_for_kept()
    watched.told[-1](0)
    assert watch.known.offer()[0] == "Statistics 0 / 5 · Measure all"
    assert watched.asked == []
    watch.forget()
    watch.opened({}, 5, 1, 0.1)
    watch._look_for_kept()
    watched.told[-1](3)
    watched.answer(0, came=False)
    assert watched.asked[-1]["most"] == AUTOMATIC
    watched.answer(0, known=4, left=MORE, spent=AUTOMATIC, begun=False)
    assert watched.asked[-1]["most"] == 0
    watched.answer(0, came=False, known=4, left=MORE, begun=False)
    rest = text.size(MORE)
    assert watch.known.offer() == (f"Statistics 4 / 5 · Measure the rest, {rest}", f"{rest} would have to be read.")
    watch.measure()
    watched.answer(0, came=False, known=4, left=MORE)
    assert watched.asked[-1]["most"] > AUTOMATIC
    watch.stop()


def test_that_a_small_rest_of_a_large_file_is_measured_without_being_asked_about(app: Any) -> None:
    watched = Watched()
    watch = watched.watch
    watch.opened({}, 5, 1, 0.1)
    watch._look_for_kept()
    watched.told[-1](0)
    watched.answer(0, came=False)
    watched.answer(0, known=4, left=9, spent=AUTOMATIC, begun=False)
    assert watched.asked[-1]["most"] >= 9
    watched.answer(0, known=5, left=0, spent=9, begun=False)
    assert watch.known.state == "done"


def test_that_an_answer_about_the_file_as_it_was_before_says_nothing_about_it_now(app: Any) -> None:
    watched = Watched()
    watch = watched.watch
    watch.opened({}, 5, 1, 0.1)
    watch._look_for_kept()
    watch.forget()  # it is read anew
    watched.told[-1](5)
    assert watch.known == Surveyed()
    watch.opened({}, 5, 1, 0.1)
    watch._look_for_kept()
    watched.told[-1](0)
    assert watch.known.state == "measuring"
    watch.stop()


def test_that_what_is_known_from_before_is_not_measured_again(
    odd: Path, surveyed: Surveyed_, window: MainWindow, qtbot: QtBot
) -> None:
    session, page = surveyed
    session.survey._shares = []
    asked: list[str] = []
    session.survey._request = lambda share, name, params, buffers=None: asked.append(name)  # type: ignore[method-assign]
    window.files.reload()
    qtbot.waitUntil(lambda: session.survey.known.state == "done" and session.noted == 3, timeout=SLOW)
    assert asked == []
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    assert words(page.tree, "bad.weight") == (["NaN"], True)
    odd.write_bytes(odd.read_bytes())  # the same bytes, and another file
    window.files.reload()
    qtbot.waitUntil(lambda: asked == ["begin"], timeout=SLOW)


def test_that_two_processes_share_a_large_file_and_what_may_be_read(app: Any) -> None:
    watched = Watched()
    watch = watched.watch
    watch.opened({}, 10, 1 << 40, 0.1)
    watch._begin_now()
    if (os.cpu_count() or 1) == 1:
        assert [asked["shares"] for asked in watched.asked] == [1]
        return
    assert [(asked["share"], asked["shares"]) for asked in watched.asked] == [(0, 2), (1, 2)]
    watched.answer(1, came=False)
    assert watch.known.tensors == 0  # what the other one has to do is not known yet
    watched.answer(0, came=False)
    assert watch.known.counts == "0 / 10"
    assert [asked["most"] for asked in watched.asked[2:]] == [AUTOMATIC // 2] * 2
    watched.answer(0, known=5, left=0, spent=3, begun=False)
    assert watch.known.state == "measuring"
    watched.answer(1, known=5, left=0, spent=3, begun=False)
    assert (watch.known.state, watch.known.counts) == ("done", "10 / 10")


def test_that_no_more_is_measured_than_the_document_can_take_in(app: Any) -> None:
    watched = Watched()
    watched.watch.opened({}, 50, 1, 0.1)
    watched.watch._begin_now()
    watched.answer(0, came=False, tensors=50)
    for known in range(1, MOST_WAITING + 1):
        watched.answer(0, tensors=50, known=known, begun=False)
    assert len(watched.asked) == 1 + MOST_WAITING
    watched.told[0](2)
    assert len(watched.asked) == 2 + MOST_WAITING
    watched.watch.stop()


def test_that_files_are_measured_one_after_the_other(app: Any) -> None:
    first, second = Watched(), Watched()
    for watched in (first, second):
        watched.watch.opened({}, 5, 1, 0.1)
        watched.watch._begin_in_turn()
    assert [len(watched.asked) for watched in (first, second)] == [1, 0]
    first.answer(0, came=False, known=5, left=0)
    second.watch._begin_in_turn()
    assert len(second.asked) == 1
    second.watch.stop()


def test_that_tensors_in_sight_are_asked_for_first(surveyed: Surveyed_) -> None:
    session, page = surveyed
    found = session.survey.sight()
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert page.tree.model.sheet is not None


def test_that_an_edit_keeps_the_numbers_of_the_rows(surveyed: Surveyed_, qtbot: QtBot) -> None:
    session, page = surveyed
    with qtbot.waitSignal(session.recipe_changed, timeout=SLOW):
        session.apply(Prefix(add="x."))
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    assert words(page.tree, "bad.weight") == (["NaN"], True)


def test_that_numbers_come_again_when_the_documents_worker_had_to_be_started_anew(
    surveyed: Surveyed_, qtbot: QtBot
) -> None:
    session, page = surveyed
    process = session._worker._process
    assert process is not None
    assert process.popen is not None
    process.popen.kill()
    process.popen.wait()
    with qtbot.waitSignal(session.recipe_changed, timeout=SLOW):
        session.apply(Prefix(add="x."))
    qtbot.waitUntil(lambda: session.survey.known.state == "done" and "health" in session.numbers, timeout=SLOW)
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    assert words(page.tree, "bad.weight") == (["NaN"], True)


def test_that_several_rows_are_summed_and_listed_with_their_numbers(surveyed: Surveyed_, qtbot: QtBot) -> None:
    session, page = surveyed
    model = page.tree.model
    nodes = [model.node(row_of(page.tree, name)) for name in ("good", "dead.weight")]
    selection = page.detail.selection_page
    with qtbot.waitSignal(selection.settled, timeout=SLOW):
        session.select(nodes)
    assert [row[1] for row in selection.table.rows.rows] == ["net.good.weight", "net.good.bias", "net.dead.weight"]
    head = [column.title for column in selection.table.rows.columns]
    zeros = selection.table.rows.columns[head.index("Zeros")]
    assert [zeros.text(row) for row in selection.table.rows.rows] == ["0", "8", "12"]
    line = page.detail.line.accessibleName()
    assert "3 tensors" in line
    assert "20 zeros" in line
    assert "norm " in line
    with qtbot.waitSignal(session.facts_changed, timeout=SLOW):
        selection.table.row_activated.emit(selection.table.rows.rows[2])
    assert session.facts["key"] == "net.dead.weight"


def test_that_a_column_that_is_not_known_any_more_is_not_shown() -> None:
    assert tree_model.known_columns("std,mode,bytes,") == ("bytes", "std")


@pytest.fixture
def deep(tmp_path: Path, opened: Opened, window: MainWindow, qtbot: QtBot) -> tuple[Session, TreePanel]:
    """A model of three levels and more rows than fit, all in the list."""
    tensors = {f"net.blocks.{n}.attn.w{i}": np.ones(2) for n in range(2) for i in range(40)}
    session = opened(write_safetensors(tmp_path / "deep.safetensors", tensors))
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    page = front(window)
    return session, page.tree


def test_that_what_is_above_the_rows_in_sight_stays_at_the_top(deep: tuple[Session, TreePanel]) -> None:
    tree = deep[1]
    view, model = tree.view, tree.model
    assert view.pinned() == []
    bar = view.verticalScrollBar()
    bar.setValue(30 * view.rowHeight(0))
    assert [model.name(model.node(row)) for row in view.pinned()] == ["model", "net.blocks", "0.attn"]


def test_that_a_pinned_row_leads_to_its_place_and_covers_no_row_that_is_gone_to(
    deep: tuple[Session, TreePanel], qtbot: QtBot
) -> None:
    session, tree = deep
    view, model = tree.view, tree.model
    view.verticalScrollBar().setValue(view.verticalScrollBar().maximum())
    pinned = view.pinned()
    place = view.viewport().rect().topLeft()
    place.setX(120)
    place.setY(view.rowHeight(0) * (len(pinned) - 1) + 5)
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert view.currentIndex().row() == pinned[-1]
    assert view.rowViewportPosition(pinned[-1]) >= len(view.pinned()) * view.rowHeight(0)
    assert session.selection == [model.node(pinned[-1])]
