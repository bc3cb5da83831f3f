"""The card of the run that a file is of, in its overview."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.overview.run_card import RunCard
from sdviewer.gui.settings import Settings
from tests.gui.conftest import Opened, front

SLOW = 60_000


def save(path: Path, epoch: int) -> Path:
    torch.save({"epoch": epoch, "best_acc1": 60.0 + epoch, "state_dict": {"fc.weight": torch.zeros(4, 4)}}, path)
    return path


def shown(window: MainWindow, settings: Settings, opened: Opened, path: Path, qtbot: QtBot) -> DocumentPage:
    """A file in its overview, when all of its run is known."""
    settings.set("view/front", "overview")
    session = opened(path)
    page = front(window)
    qtbot.waitUntil(lambda: bool(session.same_run.state) and not session.same_run.state["more"], timeout=SLOW)
    qtbot.waitUntil(lambda: not page.overview._turns.busy, timeout=SLOW)
    return page


@pytest.fixture
def card(
    window: MainWindow, settings: Settings, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> tuple[DocumentPage, RunCard]:
    for epoch in (0, 5, 10):
        save(tmp_path / f"net_epoch{epoch}.pth", epoch)
    page = shown(window, settings, opened, tmp_path / "net_epoch5.pth", qtbot)
    return page, page.overview.run_card


def test_that_the_run_of_a_file_is_told_in_its_overview(card: tuple[DocumentPage, RunCard]) -> None:
    page, run = card
    assert run.isVisible()
    assert run.subtitle.text() == "epoch 0 to 10"
    assert run.words.text() == "best_acc1 over 3 checkpoints"
    assert run.plot.lines[0].values == [60, 65, 70]
    assert run.plot.accessibleDescription() == ("best_acc1 over 3 checkpoints, from 60 to 70; this file, epoch 5: 65")
    right = page.overview._right
    assert right.indexOf(page.overview.findings) < right.indexOf(run) < right.indexOf(page.overview.bytes_card)


def test_that_a_point_opens_its_checkpoint_and_with_ctrl_compares_it(
    card: tuple[DocumentPage, RunCard], tmp_path: Path, qtbot: QtBot
) -> None:
    page, run = card
    first, own, last = (str(tmp_path / f"net_epoch{epoch}.pth") for epoch in (0, 5, 10))
    chosen: list[tuple[str, ...]] = []
    page.file_chosen.disconnect()
    page.compare_requested.disconnect()
    page.file_chosen.connect(lambda path: chosen.append((path,)))
    page.compare_requested.connect(lambda a, b: chosen.append((a, b)))
    run.plot.setFocus()
    qtbot.keyClick(run.plot, Qt.Key.Key_End)
    qtbot.keyClick(run.plot, Qt.Key.Key_Return)
    qtbot.keyClick(run.plot, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(run.plot, Qt.Key.Key_Home)
    qtbot.keyClick(run.plot, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(run.plot, Qt.Key.Key_Right)
    qtbot.keyClick(run.plot, Qt.Key.Key_Return)
    assert chosen == [(last,), (own, last), (first, own)]


def test_that_all_of_the_run_opens_as_a_series(
    card: tuple[DocumentPage, RunCard], window: MainWindow, tmp_path: Path, qtbot: QtBot
) -> None:
    qtbot.mouseClick(card[1].series, Qt.MouseButton.LeftButton)
    assert window.series.session is not None
    assert window.series.session.paths == (str(tmp_path),)


def test_that_there_is_no_card_where_a_file_stands_alone(
    window: MainWindow, settings: Settings, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    page = shown(window, settings, opened, save(tmp_path / "resnet18.pth", 1), qtbot)
    assert "run_card" not in page.overview.__dict__


def test_that_files_without_a_metric_are_counted(window: MainWindow, qtbot: QtBot) -> None:
    run = RunCard()
    qtbot.addWidget(run)
    points = [[f"{epoch}", None, f"net_epoch{epoch}.pth"] for epoch in range(3)]
    run.show_run({"files": 40, "unit": "epoch", "metric": "", "points": points, "own": 1, "to_open": []})
    assert run.plot.isHidden()
    assert run.words.text() == "3 of 40 checkpoints, none states a metric"


def test_that_closing_the_tab_ends_the_search(
    window: MainWindow, settings: Settings, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    settings.set("view/front", "overview")
    session = opened(save(tmp_path / "net_epoch0.pth", 0))
    watch = session.same_run
    watch.begin()
    watch._start()
    worker = watch._worker
    assert worker is not None
    window.remove_tab(session)
    assert watch._worker is None
    assert not watch._quiet.isActive()
