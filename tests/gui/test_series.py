"""A series in the window: ways in, what its cards say, what is chosen in one of them, and how it is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PySide6.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDropEvent, QFontMetrics
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from sdviewer.engine.client import NumbersPool
from sdviewer.gui import resources
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.series.files_card import NARROWEST
from sdviewer.gui.panels.series.page import SeriesPage
from sdviewer.gui.panels.series.series_card import SeriesCard
from sdviewer.gui.panels.start_page import _RecentRow
from sdviewer.gui.plots.change_matrix import ChangeMatrix
from sdviewer.gui.plots.picture import Kind
from sdviewer.gui.plots.presence import PresenceMap, PresenceRow
from sdviewer.gui.plots.step_map import HEAD
from sdviewer.gui.plots.steps import StepLine, StepMark, StepPlot, labels_along, lone, thinned
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.settings import Memory, Settings

SLOW = 60_000
EPOCHS = 4


def write_run(folder: Path) -> Path:
    """Four epochs: one block grows, one comes with the third, the head is another one then, NaN comes with the last."""
    folder.mkdir()
    for epoch in range(1, EPOCHS + 1):
        torch.manual_seed(epoch)
        weights = {
            "stem.weight": torch.ones(3, 3),
            **{f"blocks.{n}.weight": torch.randn(4, 4) * (3.0 ** (epoch * (n == 1))) for n in range(6)},
        }
        if epoch > 2:
            weights["blocks.6.weight"] = torch.randn(4, 4)
        weights["head.weight"] = torch.ones(2 if epoch < 3 else 5, 4)
        if epoch == EPOCHS:
            weights["blocks.0.weight"][0, 0] = float("nan")
        acc = (10.0, 30.0, 20.0, 5.0)[epoch - 1]
        torch.save({"epoch": epoch, "acc": acc, "loss": 1 / epoch, "model": weights}, folder / f"net_epoch{epoch}.pth")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(scope="module")
def shown(app: QApplication, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MainWindow, SeriesPage]]:
    """A window with the run in it, all of it read and measured: once for all tests that only look and choose."""
    folder = write_run(tmp_path_factory.mktemp("series") / "run")
    pool = NumbersPool(1)
    window = MainWindow(Settings(Memory()), pool)
    window.show()
    window.series.compare_requested.disconnect(window.compare)  # that would be another tab
    window.series.open([str(folder)])
    page = window.series.page
    assert page is not None
    for _ in range(SLOW // 20):
        if settled(page):
            break
        QTest.qWait(20)
    yield window, page
    window.close()
    window.deleteLater()
    pool.stop()


@pytest.fixture
def page(shown: tuple[MainWindow, SeriesPage]) -> SeriesPage:
    """Its page, with nothing selected."""
    shown[1]._select([])
    return shown[1]


@pytest.fixture
def empty(window: MainWindow) -> Iterator[MainWindow]:
    """A window of one test, for series of its own."""
    yield window
    for left in window.tabs.series():
        window.series.close(left)


def settled(page: SeriesPage) -> bool:
    """Whether all is measured and shown."""
    return page.session.measuring == "done" and not page._turns.busy and not page.session.jobs.busy()


def opened(window: MainWindow, folder: Path) -> SeriesPage:
    window.series.open([str(folder)])
    page = window.series.page
    assert page is not None
    return page


def wait(qtbot: QtBot, page: SeriesPage) -> None:
    qtbot.waitUntil(lambda: settled(page), timeout=SLOW)


def cells(page: SeriesPage, column: int) -> list[str]:
    model = page.files.table.rows
    return [str(model.index(row, column).data()) for row in range(model.rowCount())]


def press(qtbot: QtBot, plot: ChangeMatrix | PresenceMap, row: int, step: int) -> None:
    place = plot.cell_rect(row, step, step + 1).center().toPoint()
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=place)


def test_that_the_files_are_listed_in_their_order_with_what_is_worth_a_look(page: SeriesPage) -> None:
    assert cells(page, 1) == ["1", "2", "3", "4"]
    assert cells(page, 2)[0] == "net_epoch1.pth"
    assert cells(page, 3) == ["10", "30", "20", "5"]
    assert cells(page, 4) == ["", "highest acc", "1 key more, 1 shape changed", "1 with NaN, Inf"]
    assert page.files.table.rows.headerData(1, Qt.Orientation.Horizontal) == "Epoch"


def test_that_the_head_says_how_they_are_ordered(page: SeriesPage) -> None:
    assert "4 files" in page._facts.text()
    assert "epoch 1 to 4" in page._facts.text()
    assert "ordered by the epoch in the names" in page._facts.text()


def test_that_the_best_step_of_a_metric_is_marked_and_said(page: SeriesPage, qtbot: QtBot) -> None:
    assert page.metrics.subtitle.text() == "highest acc: epoch 2"
    assert "best 30 at epoch 2" in page.metrics.plot.accessibleDescription()
    at = next(at for at in range(page.metrics.choice.count()) if page.metrics.choice.itemText(at) == "loss")
    page.metrics.choice.setCurrentIndex(at)
    page.metrics.choice.activated.emit(at)
    qtbot.waitUntil(lambda: page.metrics.subtitle.text() == "lowest loss: epoch 4", timeout=SLOW)
    qtbot.waitUntil(lambda: cells(page, 3) == ["1", "0.5", "0.3333", "0.25"], timeout=SLOW)
    page._choose_metric("acc")
    qtbot.waitUntil(lambda: cells(page, 3)[0] == "10", timeout=SLOW)


def test_that_the_line_that_leaves_the_others_and_the_first_nan_are_told(page: SeriesPage) -> None:
    out = [line for line in page.norm.plot.lines if line.stands_out]
    assert [line.name for line in out] == ["blocks.1"]
    assert out[0].token == "S"
    assert page.norm.found.text() == "NaN or Inf from epoch 4 on: blocks.0.weight"
    said = page.norm.plot.accessibleDescription()
    assert "blocks.1 leaves the others" in said
    assert "stem from 3 to 3" in said


def test_that_depth_is_told_by_shade(page: SeriesPage) -> None:
    shades = [line.token for line in page.norm.plot.lines if isinstance(line.token, float)]
    assert shades == sorted(shades)
    assert len(set(shades)) == len(shades)


def test_that_the_change_is_drawn_instead_of_the_norm(page: SeriesPage, qtbot: QtBot) -> None:
    before = page.norm.plot.lines
    qtbot.mouseClick(page.norm.measures.buttons()[2], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.norm.plot.lines is not before, timeout=SLOW)
    stem = next(line for line in page.norm.plot.lines if line.name == "stem")
    assert list(stem.values)[1:] == [0.0] * (EPOCHS - 1)
    assert page.norm.title_label.text() == "Change"
    assert "first file" in page.norm.plot.accessibleDescription()
    qtbot.mouseClick(page.norm.measures.buttons()[0], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: any(line.stands_out for line in page.norm.plot.lines), timeout=SLOW)


def test_that_bars_say_when_keys_come_and_change(page: SeriesPage, qtbot: QtBot) -> None:
    shown = {row.name: at for at, row in enumerate(page.keys.map.rows)}
    assert "not in epoch 2" in page.keys.map.describe(shown["blocks.6"], 1)
    assert "another shape or dtype from epoch 3 on, 2×4 float32 before" in page.keys.map.describe(shown["head"], 2)
    assert "head another shape or dtype from epoch 3 on" in page.keys.map.accessibleDescription()
    qtbot.mouseClick(page.keys.only_changes, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.keys.map.names == ["blocks.6", "head"], timeout=SLOW)
    qtbot.mouseClick(page.keys.only_changes, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "stem" in page.keys.map.names, timeout=SLOW)


def test_that_names_of_files_leave_room_for_what_is_worth_a_look(page: SeriesPage) -> None:
    table = page.files.table
    notes = [" · ".join(words for _, words in row[6]) for row in table.rows.rows]
    needed = table.fontMetrics().horizontalAdvance(max(notes, key=len))
    assert needed < table.columnWidth(4) or table.columnWidth(2) == NARROWEST


def test_that_the_matrix_names_what_never_changed_and_a_cell_leads_to_its_two_files(
    page: SeriesPage, qtbot: QtBot
) -> None:
    matrix = page.change.matrix
    assert "stem never changed" in page.change.found.text()
    row = matrix.names.index("blocks.1")
    assert "against epoch 2" in matrix.describe(row, 2)
    assert matrix.describe(matrix.names.index("stem"), 2) == "stem, epoch 3: not changed against epoch 2"
    press(qtbot, matrix, row, 2)
    assert page.files.pair() == (1, 2)
    with qtbot.waitSignal(page.compare_requested) as asked:
        qtbot.mouseDClick(matrix, Qt.MouseButton.LeftButton, pos=matrix.cell_rect(row, 3, 4).center().toPoint())
    assert [Path(path).name for path in asked.args] == ["net_epoch3.pth", "net_epoch4.pth"]


def test_that_a_step_chosen_in_one_card_is_marked_in_all(page: SeriesPage, qtbot: QtBot) -> None:
    press(qtbot, page.keys.map, 0, 2)
    shown = (page.keys.map, page.change.matrix, page.metrics.plot, page.norm.plot)
    qtbot.waitUntil(lambda: all(plot._selected == [2] for plot in shown), timeout=SLOW)
    assert [index.row() for index in page.files.table.selectionModel().selectedRows()] == [2]
    assert page.session.sight == [2]


def test_that_any_two_files_are_compared(page: SeriesPage, qtbot: QtBot) -> None:
    assert not page.files.compare.isEnabled()
    page.files.table.selectRow(3)
    assert page.files.pair() == (2, 3)
    page.files.select([0, 3])
    with qtbot.waitSignal(page.compare_requested) as asked:
        qtbot.mouseClick(page.files.compare, Qt.MouseButton.LeftButton)
    assert [Path(path).name for path in asked.args] == ["net_epoch1.pth", "net_epoch4.pth"]


def test_that_enter_on_a_file_opens_it(shown: tuple[MainWindow, SeriesPage], qtbot: QtBot) -> None:
    window, page = shown
    page.files.table.setFocus()
    page.files.table.selectRow(1)
    page.files.table.activated.emit(page.files.table.rows.index(1, 0))
    session = window.current_session()
    assert session is not None
    assert Path(session.path).name == "net_epoch2.pth"
    qtbot.waitUntil(lambda: session.state != "opening", timeout=SLOW)
    window.remove_tab(session)
    assert window.series.page is page


def test_that_the_keyboard_goes_from_cell_to_cell_and_says_what_is_there(page: SeriesPage, qtbot: QtBot) -> None:
    matrix, said = page.change.matrix, []
    matrix.pointed.connect(said.append)
    matrix.current = (0, 0)
    matrix.setFocus()
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Right):
        qtbot.keyClick(matrix, key)
    assert matrix.current == (1, 2)
    assert said[-1] == matrix.accessibleDescription() == matrix.describe(1, 2)
    with qtbot.waitSignal(page.compare_requested) as asked:
        qtbot.keyClick(matrix, Qt.Key.Key_Return)
    assert Path(asked.args[0]).name == "net_epoch2.pth"


def test_that_the_keyboard_goes_from_step_to_step_of_a_line(page: SeriesPage, qtbot: QtBot) -> None:
    plot = page.metrics.plot
    plot.at = 0
    plot.setFocus()
    qtbot.keyClick(plot, Qt.Key.Key_Right)
    assert plot.accessibleDescription() == "epoch 2: acc 30"
    qtbot.keyClick(plot, Qt.Key.Key_Return)
    assert page.files._chosen == [1]
    qtbot.keyClick(plot, Qt.Key.Key_End)
    assert plot.accessibleDescription() == "epoch 4: acc 5"


def clipboard() -> list[list[str]]:
    """The columns of text that were copied, without the line above them."""
    remark, *lines = QApplication.clipboard().text().split("\n")
    assert remark.startswith("# run: ")
    return [line.split("\t") for line in lines]


def test_that_what_each_card_draws_is_copied_as_columns(page: SeriesPage) -> None:
    page.metrics.menu.copy_data()
    assert clipboard() == [["epoch", "acc"], ["1", "10.0"], ["2", "30.0"], ["3", "20.0"], ["4", "5.0"]]
    page.norm.menu.copy_data()
    head, *lines = clipboard()
    assert head[:3] == ["epoch", "stem", "blocks.0"]
    assert [line[1] for line in lines] == ["3.0"] * EPOCHS
    page.keys.menu.copy_data()
    assert clipboard()[-2:] == [["head", "1", "1", "2", "2×4 float32"], ["head", "1", "3", "4", "5×4 float32"]]
    page.change.menu.copy_data()
    assert clipboard()[:2] == [["module", "1", "2", "3", "4"], ["stem", "nan", "0.0", "0.0", "0.0"]]
    assert "against the file before" in QApplication.clipboard().text()


def test_that_ctrl_c_in_a_plot_copies_it(page: SeriesPage, qtbot: QtBot) -> None:
    for shown, head in ((page.norm.plot, "epoch"), (page.keys.map, "part")):
        QApplication.clipboard().clear()
        shown.setFocus()
        qtbot.keyClick(shown, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
        assert clipboard()[0][0] == head


@pytest.mark.parametrize("name", ["metrics", "norm", "keys", "change"])
def test_that_a_card_is_written_as_a_picture(page: SeriesPage, name: str, tmp_path: Path, qtbot: QtBot) -> None:
    card: SeriesCard = getattr(page, name)
    said, remark = card.subtitle.text(), card.remark()
    kinds: tuple[tuple[Kind, bytes], ...] = (("png", b"\x89PNG"), ("svg", b"<?xml"))
    for kind, begins in kinds:
        out = tmp_path / f"out.{kind}"
        card.menu.write(str(out), kind)
        qtbot.waitUntil(lambda out=out: card.subtitle.text() == f"saved as {out.name}", timeout=SLOW)
        assert out.read_bytes().startswith(begins)
    assert card.remark() == remark
    card.subtitle.setText(said)


def test_that_f5_reads_the_folder_again(empty: MainWindow, run: Path, qtbot: QtBot) -> None:
    page = opened(empty, run)
    wait(qtbot, page)
    torch.save({"epoch": 5, "acc": 50.0, "model": {"stem.weight": torch.ones(3, 3)}}, run / "net_epoch5.pth")
    assert empty.actions_by_id["reload"].isEnabled()
    empty.actions_by_id["reload"].trigger()
    qtbot.waitUntil(lambda: cells(page, 1) == ["1", "2", "3", "4", "5"], timeout=SLOW)
    wait(qtbot, page)
    assert page.metrics.subtitle.text() == "highest acc: epoch 5"


def test_that_measuring_can_be_stopped_and_taken_up_again(empty: MainWindow, run: Path, qtbot: QtBot) -> None:
    page = opened(empty, run)
    page.session.measuring_changed.connect(page.session.cancel_job)
    qtbot.waitUntil(lambda: page.session.measuring == "stopped", timeout=SLOW)
    page.session.measuring_changed.disconnect(page.session.cancel_job)
    assert page.session.job == ("", -1.0)
    qtbot.waitUntil(page.norm.measure.isVisible, timeout=SLOW)
    qtbot.mouseClick(page.norm.measure, Qt.MouseButton.LeftButton)
    wait(qtbot, page)
    assert not page.norm.measure.isVisible()
    assert any(np.isfinite(value) for line in page.norm.plot.lines for value in line.values)


def test_that_reading_can_be_stopped_and_what_is_not_read_is_no_gap_in_the_keys(
    empty: MainWindow, run: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdviewer.gui.series_session.PART", 0.0)
    page = opened(empty, run)
    with qtbot.waitSignal(page.session.opened, timeout=SLOW):
        pass
    page.session.cancel_job()
    wait(qtbot, page)
    assert page.session.info["failed"] == EPOCHS - 1
    assert cells(page, 4)[1:] == ["not read: it was stopped"] * (EPOCHS - 1)
    assert page.keys.map.describe(0, 2).endswith("epoch 3 is not read")
    page.keys.map.grab()


def test_that_a_large_run_is_measured_only_when_asked(
    empty: MainWindow, run: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdviewer.gui.series_session.AUTOMATIC", 10)
    page = opened(empty, run)
    qtbot.waitUntil(lambda: page.session.measuring == "offered", timeout=SLOW)
    assert page.norm.measure.text().startswith("Measure, ")
    page.session.measure()
    wait(qtbot, page)


def test_that_a_folder_with_several_checkpoints_offers_to_be_a_series(
    empty: MainWindow, run: Path, qtbot: QtBot
) -> None:
    empty.open_paths([str(run)])
    document = empty.current_page()
    assert document is not None
    qtbot.waitUntil(lambda: document.session.state == "failed", timeout=SLOW)
    assert "holds several checkpoints" in document.failed.words()
    assert document.failed.focusWidget() is document.failed.series
    qtbot.keyClick(document.failed.series, Qt.Key.Key_Space)
    assert empty.tabs.pages() == []
    page = empty.series.page
    assert page is not None
    qtbot.waitUntil(lambda: page.session.state == "open", timeout=SLOW)
    wait(qtbot, page)


def test_that_another_failure_offers_no_series(empty: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    (tmp_path / "x.pth").write_bytes(b"no checkpoint")
    empty.open_paths([str(tmp_path / "x.pth")])
    document = empty.current_page()
    assert document is not None
    qtbot.waitUntil(lambda: document.session.state == "failed", timeout=SLOW)
    assert not document.failed.series.isVisibleTo(document)


def test_that_what_is_no_series_says_why(empty: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "one.pth")
    page = opened(empty, tmp_path)
    qtbot.waitUntil(lambda: page.session.state == "failed", timeout=SLOW)
    assert "not two checkpoints" in page.failed.words()


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_that_several_files_that_are_dropped_are_offered_as_a_series(
    empty: MainWindow, run: Path, qtbot: QtBot
) -> None:
    paths = sorted(str(path) for path in run.iterdir())[:3]
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(path) for path in paths])
    empty.dropEvent(
        QDropEvent(
            QPointF(200, 200),
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )
    qtbot.waitUntil(lambda: isinstance(QApplication.activePopupWidget(), QMenu), timeout=SLOW)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    assert [action.text() for action in menu.actions()] == [
        "Open 3 files as a &series",
        "Open each in a &tab of its own",
    ]
    menu.actions()[0].trigger()
    menu.close()
    page = empty.series.page
    assert page is not None
    qtbot.waitUntil(lambda: page.session.info.get("files") == 3, timeout=SLOW)


def test_that_a_series_is_a_tab_like_others(empty: MainWindow, run: Path, qtbot: QtBot) -> None:
    page = opened(empty, run)
    qtbot.waitUntil(lambda: page.session.state == "open", timeout=SLOW)
    assert empty.windowTitle() == "run — sdviewer"
    empty.series.open([str(run)])
    assert empty.tabs.count() == 1
    assert not empty.actions_by_id["save_as"].isEnabled()
    empty.actions_by_id["close"].trigger()
    assert empty.tabs.count() == 0
    assert empty.windowTitle() == "sdviewer"


def test_that_a_folder_of_the_command_line_is_a_series_where_it_is_no_checkpoint(
    empty: MainWindow, run: Path, qtbot: QtBot
) -> None:
    empty.take([str(run)])
    qtbot.waitUntil(lambda: empty.series.page is not None, timeout=SLOW)
    assert empty.tabs.pages() == []
    page = empty.series.page
    assert page is not None
    qtbot.waitUntil(lambda: page.session.info.get("files") == EPOCHS, timeout=SLOW)


def test_that_files_of_the_command_line_are_a_series_where_that_is_said(
    empty: MainWindow, run: Path, qtbot: QtBot
) -> None:
    empty.take(sorted(map(str, run.iterdir()))[1:], series=True)
    page = empty.series.page
    assert page is not None
    wait(qtbot, page)
    assert cells(page, 1) == ["2", "3", "4"]


def test_that_a_series_is_among_the_recent_files_and_opens_again_from_there(
    empty: MainWindow, run: Path, qtbot: QtBot
) -> None:
    page = opened(empty, run)
    wait(qtbot, page)
    assert empty.start.recent_words() == [f"Open run in {run.parent}, series of 4 files"]
    empty._fill_recent_menu()
    assert empty._recent_menu.actions()[0].text() == f"{run} (series of 4 files)"
    empty.actions_by_id["close"].trigger()
    empty.start._list.findChildren(_RecentRow)[0].chosen.emit(empty.settings.recents()[0])
    assert empty.series.page is not None
    assert empty.series.page.session.paths == (str(run),)


def test_that_a_closed_series_opens_again_also_one_of_two_files(empty: MainWindow, run: Path, qtbot: QtBot) -> None:
    paths = sorted(map(str, run.iterdir()))[:2]
    empty.series.open(paths)
    empty.actions_by_id["close"].trigger()
    assert empty.tabs.count() == 0
    empty.actions_by_id["reopen"].trigger()
    assert empty.series.page is not None
    assert list(empty.series.page.session.paths) == paths


def test_that_names_of_files_are_shown_as_plain_text(empty: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    folder = tmp_path / "<b>x\x1b&y"
    folder.mkdir()
    for n in (1, 2):
        torch.save({"<i>k": torch.ones(2)}, folder / f"<u>e{n}.pth")
    page = opened(empty, folder)
    wait(qtbot, page)
    assert page._heading.text() == "<b>x\\x1b&y"
    assert page._heading.textFormat() == Qt.TextFormat.PlainText
    assert "<u>e1.pth" in cells(page, 2)
    assert empty.tabs.tabText(0) == "<b>x\\x1b&&y"


def test_that_closing_ends_both_workers_while_they_work(app: QApplication, run: Path, qtbot: QtBot) -> None:
    session = SeriesSession([str(run)])
    with qtbot.waitSignal(session.opened, timeout=SLOW):
        session.open()
    session.close()
    assert session._survey is None
    assert session._worker._stopped


def test_that_an_ema_is_looked_at_instead_of_the_model(empty: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    for epoch in (1, 2, 3):
        model, ema = {"a.weight": torch.ones(2, 2)}, {"a.weight": torch.full((2, 2), float(epoch))}
        content = {"model": model, "model_ema": ema} if epoch < 3 else {"model": model}
        torch.save(content, tmp_path / f"epoch{epoch}.pth")
    page = opened(empty, tmp_path)
    wait(qtbot, page)
    assert [list(line.values) for line in page.norm.plot.lines] == [[2.0, 2.0, 2.0]]
    assert [page.subject.itemText(at) for at in range(page.subject.count())] == ["Model", "model_ema (EMA)"]
    page.subject.activated.emit(1)
    qtbot.waitUntil(lambda: [list(line.values)[:2] for line in page.norm.plot.lines] == [[2.0, 4.0]], timeout=SLOW)
    wait(qtbot, page)
    assert page.subject.currentIndex() == 1
    assert cells(page, 4)[2] == "there is no model_ema (EMA) in it"


# A worker that dies


def kill(session: SeriesSession) -> object:
    """End the process that knows the series; that process."""
    process = session._worker._process
    if process is not None and process.popen is not None:
        process.popen.kill()
    return process


@pytest.mark.parametrize("noticed", [False, True])
def test_that_a_worker_that_dies_is_replaced(empty: MainWindow, run: Path, qtbot: QtBot, noticed: bool) -> None:
    page = opened(empty, run)
    wait(qtbot, page)
    page._select([1])
    session = page.session
    process = kill(session)
    if noticed:
        # Its end was heard of while nobody waited for an answer: the next question goes to a new one, which knows none.
        qtbot.waitUntil(lambda: session._worker._process is not process, timeout=SLOW)
    with qtbot.waitSignal(session.opened, timeout=SLOW):
        page._ask_keys()
    wait(qtbot, page)
    assert cells(page, 4) == ["", "highest acc", "1 key more, 1 shape changed", "1 with NaN, Inf"]
    assert [line.name for line in page.norm.plot.lines if line.stands_out] == ["blocks.1"]
    assert page.files._chosen == [1]


def test_that_a_file_that_ends_the_process_each_time_is_left_out(
    empty: MainWindow, run: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdviewer.gui.series_session.PART", 0.0)
    page = opened(empty, run)
    session = page.session
    session.files_changed.disconnect(page._show_files)  # that it asks for nothing else when it dies

    def die_of_it() -> None:
        process = session._worker._process
        if str(session.info["next"]).endswith("net_epoch3.pth") and process is not None and process.popen is not None:
            # Still until it has been asked for that file.
            os.kill(process.popen.pid, signal.SIGSTOP)
            QTimer.singleShot(0, process.popen.kill)

    session.files_changed.connect(die_of_it)
    qtbot.waitUntil(lambda: session.state == "open" and session.info["read"] == EPOCHS, timeout=SLOW)
    page._show_files()
    wait(qtbot, page)
    assert cells(page, 4)[2] == "not read: the process that read it ended suddenly"
    assert cells(page, 3) == ["10", "30", "", "5"]


def test_that_a_survey_that_dies_measures_on(empty: MainWindow, run: Path, qtbot: QtBot) -> None:
    page = opened(empty, run)
    session = page.session
    killed: list[object] = []

    def die_once() -> None:
        process = session._survey._process if session._survey is not None else None
        if process is not None and process.popen is not None and not killed:
            killed.append(process)
            process.popen.kill()

    session.numbers_changed.connect(die_once)
    wait(qtbot, page)
    assert killed
    assert cells(page, 4)[3] == "1 with NaN, Inf"
    assert session.info["failed"] == 0
    assert all(np.isfinite(line.values[2]) for line in page.norm.plot.lines)


def test_that_it_is_given_up_where_the_process_always_ends(
    empty: MainWindow, run: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdviewer.gui.series_session.PART", 0.0)
    monkeypatch.setattr("sdviewer.gui.series_session.MOST_DEADLY", 0)
    page = opened(empty, run)
    page.session.files_changed.connect(lambda: kill(page.session))
    page.session.opened.connect(lambda: kill(page.session))
    qtbot.waitUntil(lambda: page.session.state == "failed", timeout=SLOW)
    assert "ended suddenly" in page.failed.words()
    page.session.files_changed.disconnect()
    page.session.opened.disconnect()


# The plots by themselves


def test_that_lines_are_described_and_a_click_chooses_the_step(app: QApplication, qtbot: QtBot) -> None:
    plot = StepPlot("Norms")
    qtbot.addWidget(plot)
    plot.resize(400, 200)
    plot.show()
    lines = [
        StepLine("a", [1.0, float("nan"), 3.0], 0.5, named=True),
        StepLine("b", [2.0, 2.0, 50.0], "S", True, "out"),
    ]
    marks = [StepMark(1, "here", "ok", 2.0), StepMark(2, "NaN", "S")]
    plot.show_lines(lines, [0, 1, 2], 3, "said", label=lambda step: f"epoch {step}", short=str, marks=marks)
    assert plot.accessibleDescription() == "said"
    with qtbot.waitSignal(plot.step_chosen) as chosen:
        plot.axes.pressed.emit(1.9, 0.0)
    assert chosen.args == [2]
    with qtbot.waitSignal(plot.pointed) as pointed:
        plot.axes.pointed.emit(1.0)
    assert pointed.args == ["epoch 1: b 2"]
    assert plot.words_at(1, 0) == "epoch 1: a not known"


def test_that_a_number_between_gaps_is_a_point() -> None:
    nan = float("nan")
    assert lone([1.0, nan, 2.0, 3.0, nan, 4.0]) == [0, 5]
    assert lone([]) == []


def test_that_a_line_of_many_steps_keeps_its_peaks_its_ends_and_its_gaps() -> None:
    steps = [float(step) for step in range(2000)]
    values = [0.0] * 2000
    values[777], values[1234] = 5.0, -5.0
    values[400:800:100] = [float("inf")] * 4
    values[1500:1600] = [float("nan")] * 100
    x, y = thinned(steps, values, 100)
    assert len(x) <= 200
    assert x == sorted(x)
    assert (777.0, 5.0) in zip(x, y, strict=True)
    assert (1234.0, -5.0) in zip(x, y, strict=True)
    assert any(1500 <= step < 1600 and np.isnan(value) for step, value in zip(x, y, strict=True))
    assert thinned(steps[:150], values[:150], 100) == (steps[:150], values[:150])


def test_that_steps_of_which_nothing_is_known_are_drawn_by_runs(app: QApplication, qtbot: QtBot) -> None:
    made = PresenceMap()
    qtbot.addWidget(made)
    made.show_rows([PresenceRow("a", 1, ((0, 9, 0),), ("1",))], 9, "said", short=str, label=str, unknown=[1, 2, 3, 8])
    assert made._unknown_runs == [(1, 4), (8, 9)]
    assert made.describe(0, 8).endswith("is not read")


def test_that_labels_of_many_steps_are_round_numbers(app: QApplication) -> None:
    metrics = QFontMetrics(resources.font(resources.SMALL))
    shown = labels_along(200, lambda step: str((step + 1) * 500), metrics, 400)
    assert all(words.endswith("000") for _, words in shown)
    assert 3 <= len(shown) <= 8
    assert [words for _, words in labels_along(3, str, metrics, 400)] == ["0", "1", "2"]


def test_that_names_of_rows_leave_room_for_the_bars(app: QApplication, qtbot: QtBot) -> None:
    made = PresenceMap()
    qtbot.addWidget(made)
    made.resize(300, 200)
    rows = [PresenceRow("a.very.long.name." * 9, 3, ((0, 2, 0), (3, 5, 1)), ("1", "2"))]
    made.show_rows(rows, 5, "said", short=str, label=str)
    made.grab()
    assert made.area.width() > 150
    assert made.cell_at(made.area.right() - 2, HEAD + 4) == (0, 4)
    assert made.cell_at(2, HEAD + 4) == (0, -1)
    assert made.cell_at(100, 2)[0] == -1
    assert made.describe(0, 2).endswith("not in 2")
