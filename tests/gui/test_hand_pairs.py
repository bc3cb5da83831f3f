"""Pairs by hand in a workbench: chosen in a list, dragged in the table, with the rule that they imply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QByteArray, QMimeData, QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.dialogs.lesson_dialog import LessonDialog
from sdviewer.gui.hand_pairs import KeyPartnerDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT
from sdviewer.gui.panels.workbench.dragging import KEY_MIME, KeyDrag
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from tests.gui.test_workbench import settled

WAIT = 20_000
OLD, NEW = "blocks.1.ffn.zero.weight", "blocks.1.mlp.fc1.weight"


def model(fc: str) -> dict[str, torch.Tensor]:
    made = {"embed.weight": torch.zeros(5, 4)}
    for i in range(3):
        made[f"blocks.{i}.{fc}.weight"] = torch.zeros(8, 4)
        made[f"blocks.{i}.{fc}.bias"] = torch.zeros(8)
    return made


@pytest.fixture
def page(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> WorkbenchPage:
    """A workbench of a file with other names; nothing is previewed."""
    torch.save(model("ffn.zero"), tmp_path / "a.pth")
    torch.save(model("mlp.fc1"), tmp_path / "b.pth")
    page = window.workbenches.repair(str(tmp_path / "a.pth"), {"name": str(tmp_path / "b.pth")})
    settled(page, qtbot)
    page.session.preview(-1)
    settled(page, qtbot)
    return page


def node(page: WorkbenchPage, key: str) -> int:
    model = page.pairs.model
    nodes = [model.node(row) for row in range(model.rowCount())]
    return next(one for one in nodes if key in (model.words(one, "name_a"), model.words(one, "name_b")))


def answer(act: Callable[[LessonDialog], object]) -> None:
    """Answer the question that comes, as soon as it is there."""

    def look() -> None:
        asked = QApplication.activeModalWidget()
        if isinstance(asked, LessonDialog):
            act(asked)
        elif isinstance(asked, KeyPartnerDialog) or asked is None:
            QTimer.singleShot(20, look)

    look()


def drag(page: WorkbenchPage) -> KeyDrag:
    made = page.pairs.view.findChild(KeyDrag)
    assert isinstance(made, KeyDrag)
    return made


def place(page: WorkbenchPage, key: str) -> QPoint:
    view = page.pairs.view
    row = page.pairs.model.row_of(node(page, key))
    return QPoint(200, view.rowViewportPosition(row) + ROW_HEIGHT // 2)


def drop(page: WorkbenchPage, old: str, new: str) -> bool:
    """Drag a key onto another; whether it was taken there."""
    watcher, viewport = drag(page), page.pairs.view.viewport()
    data = QMimeData()
    data.setData(KEY_MIME, QByteArray(b"key"))
    action, buttons, keys = Qt.DropAction.LinkAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    watcher.dragged = node(page, old)
    at = place(page, new)
    QApplication.sendEvent(viewport, QDragEnterEvent(at, action, data, buttons, keys))
    move = QDragMoveEvent(at, action, data, buttons, keys)
    QApplication.sendEvent(viewport, move)
    QApplication.sendEvent(viewport, QDropEvent(QPointF(at), action, data, buttons, keys))
    watcher.dragged = -1
    return move.isAccepted()


def test_that_a_pair_by_hand_asks_whether_the_same_is_meant_for_others(page: WorkbenchPage, qtbot: QtBot) -> None:
    asked: list[tuple[str, list[str], str]] = []

    def accept(dialog: LessonDialog) -> None:
        asked.append((dialog.windowTitle(), [choice.text() for choice in dialog.choices][:2], dialog.act.text()))
        dialog.accept()

    answer(accept)
    assert drop(page, OLD, NEW)
    qtbot.waitUntil(lambda: bool(asked), timeout=WAIT)
    settled(page, qtbot)
    assert asked == [("Pair by hand", ["Only this one", "The same for 5 others"], "Pair 6 keys")]
    assert page.session.problems == 0
    page.session.document.undo()
    settled(page, qtbot)
    assert page.session.problems == 12


def test_that_only_the_one_pair_can_be_meant_also_from_the_other_side(page: WorkbenchPage, qtbot: QtBot) -> None:
    done: list[bool] = []

    def only_this(dialog: LessonDialog) -> None:
        dialog.choices[0].click()
        assert dialog.act.text() == "Pair 1 key"
        dialog.accept()
        done.append(True)

    answer(only_this)
    assert drop(page, NEW, OLD)
    qtbot.waitUntil(lambda: bool(done), timeout=WAIT)
    settled(page, qtbot)
    assert page.session.document.recipe.steps[0].table["rules"] == [[OLD, NEW]]
    assert page.session.problems == 10


def test_that_a_question_that_is_left_changes_nothing(page: WorkbenchPage, qtbot: QtBot) -> None:
    left: list[bool] = []

    def leave(dialog: LessonDialog) -> None:
        dialog.reject()
        left.append(True)

    answer(leave)
    drop(page, OLD, NEW)
    qtbot.waitUntil(lambda: bool(left), timeout=WAIT)
    settled(page, qtbot)
    assert not page.session.document.recipe.steps


def test_that_keys_of_one_side_do_not_go_together(page: WorkbenchPage) -> None:
    assert not drop(page, OLD, "blocks.0.ffn.zero.bias")
    assert not drop(page, NEW, "blocks.0.mlp.fc1.bias")


def test_that_a_drag_does_not_move_the_selection(page: WorkbenchPage, qtbot: QtBot) -> None:
    view = page.pairs.view
    started: list[int] = []
    watcher = drag(page)
    watcher._begin = started.append  # type: ignore[method-assign, assignment]
    old = place(page, OLD)
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, old)
    selected = view.current_node()
    assert selected == node(page, OLD)
    QTest.mouseMove(view.viewport(), old + QPoint(0, 3))
    QTest.mouseMove(view.viewport(), place(page, NEW))
    QTest.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place(page, NEW))
    assert view.current_node() == selected
    assert started[:1] == [selected]


def test_that_a_partner_is_chosen_in_a_list_that_begins_with_what_fits(page: WorkbenchPage, qtbot: QtBot) -> None:
    session = page.session
    page.pairs.select_node(node(page, NEW))
    settled(page, qtbot)
    done: list[bool] = []

    def choose() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, KeyPartnerDialog) or session.jobs.busy("partners"):
            QTimer.singleShot(20, choose)
            return
        assert dialog._model.hits[0].words == OLD
        answer(lambda asked: (asked.accept(), done.append(True)))
        dialog._take()

    choose()
    window = page.window()
    assert isinstance(window, MainWindow)
    window.workbenches.pair_by_hand()
    qtbot.waitUntil(lambda: bool(done), timeout=WAIT)
    settled(page, qtbot)
    assert session.problems == 0


def test_that_a_pair_that_implies_no_rule_is_made_unasked(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    torch.save({"oddly.named": torch.zeros(3, 4), "other": torch.zeros(2)}, tmp_path / "a.pth")
    torch.save({"head.weight": torch.zeros(3, 4)}, tmp_path / "b.pth")
    page = window.workbenches.repair(str(tmp_path / "a.pth"), {"name": str(tmp_path / "b.pth")})
    settled(page, qtbot)
    page.session.preview(-1)
    settled(page, qtbot)
    assert drop(page, "oddly.named", "head.weight")
    qtbot.waitUntil(lambda: bool(page.session.document.recipe.steps), timeout=WAIT)
    settled(page, qtbot)
    assert page.session.problems == 1
