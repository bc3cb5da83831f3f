"""Values, rows and statistics on the clipboard."""

from __future__ import annotations

from pathlib import Path

import torch
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.statistics import _Line
from tests.gui.conftest import Opened, front, sheet_of


def selected(window: MainWindow, qtbot: QtBot, name: str) -> None:
    session, sheet = front(window).session, sheet_of(window)
    row = next(row for row in range(len(sheet)) if sheet.name(row) == name)
    session.reveal(row)
    qtbot.waitUntil(lambda: session.selection == [row] and session.facts.get("row") == row, timeout=30_000)


def copied(window: MainWindow, qtbot: QtBot, action: str) -> str:
    clipboard = QGuiApplication.clipboard()
    clipboard.setText("before")
    window.actions_by_id[action].trigger()
    qtbot.waitUntil(lambda: clipboard.text() != "before", timeout=30_000)
    return clipboard.text()


def test_that_a_value_is_copied_with_all_its_digits(
    window: MainWindow, opened: Opened, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "train.pt"
    torch.save({"model": {"w": torch.zeros(2, 3), "scale": torch.tensor(1 / 3)}, "lr": 0.1 + 0.2}, path)
    opened(path)
    selected(window, qtbot, "lr")
    assert copied(window, qtbot, "copy_value") == "0.30000000000000004"
    selected(window, qtbot, "scale")
    assert torch.tensor(float(copied(window, qtbot, "copy_value"))) == torch.tensor(1 / 3)
    selected(window, qtbot, "w")
    assert not window.actions_by_id["copy_value"].isEnabled()


def test_that_rows_are_copied_as_a_table(window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot) -> None:
    opened(checkpoint)
    selected(window, qtbot, "head")
    assert copied(window, qtbot, "copy_row").splitlines()[1].startswith("module.head\t\t\t15\t60")


def test_that_all_statistics_are_copied_a_line_each(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    assert session.sheet is not None
    with qtbot.waitSignal(page.detail.settled, timeout=30_000):
        session.reveal(next(row for row in range(len(session.sheet)) if session.sheet.shape(row) == "8×8"))
    statistics = page.detail.tensor_page.statistics
    qtbot.waitUntil(lambda: "63" in _all(statistics), timeout=30_000)
    lines = dict(line.split("\t") for line in _all(statistics).splitlines())
    assert (lines["max"], lines["mean"], lines["stride"]) == ("63.0", "31.5", "(8, 1)")


def test_that_ctrl_c_in_the_statistics_copies_the_line_that_has_the_keyboard(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = window.current_page()
    assert page is not None
    assert session.sheet is not None
    with qtbot.waitSignal(page.detail.settled, timeout=30_000):
        session.reveal(next(row for row in range(len(session.sheet)) if session.sheet.shape(row) == "8×8"))
    statistics = page.detail.tensor_page.statistics
    qtbot.waitUntil(lambda: "63" in _all(statistics), timeout=30_000)
    line = next(line for line in statistics.findChildren(_Line) if line.accessibleName().startswith("max"))
    line.setFocus()
    qtbot.keyClick(line, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "63.0"


def _all(statistics: object) -> str:
    statistics.copy_all()  # type: ignore[attr-defined]
    return QGuiApplication.clipboard().text()
