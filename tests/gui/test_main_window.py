"""The window over real files, with its real workers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QItemSelection, QItemSelectionModel, QMimeData, QPoint, QPointF, QSize, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QImage
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog, QLabel, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from sdviewer.formats.registry import FORMATS
from sdviewer.gui import main_window, resources, smallest_size
from sdviewer.gui.actions import ACTIONS, sequences
from sdviewer.gui.files import OPEN_SUFFIXES
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.tree_model import NAME, PARAMS
from sdviewer.gui.settings import Settings
from sdviewer.gui.widgets import Chip, CodeBlock
from sdviewer.repair.operations import Drop, Prefix, Strip
from tests.gui.conftest import Opened, expanded, front, write_checkpoint


def names(window: MainWindow) -> list[str]:
    """The names in the tree in front, from the top."""
    page = front(window)
    model = page.tree.model
    return [str(model.index(row, NAME).data()) for row in range(model.rowCount())]


def test_that_a_file_shows_its_tree_and_says_nothing_was_run(
    window: MainWindow, opened: Opened, checkpoint: Path
) -> None:
    session = opened(checkpoint)
    assert session.state == "open"
    assert names(window)[0] == "model"
    assert "module" in names(window)
    assert window.windowTitle() == "model.safetensors[*] — sdviewer"
    said = " ".join(label.text() for label in window.status.findChildren(QLabel))
    assert "Opened without running anything" in said
    assert "safe," not in said.lower()


def test_that_the_tree_is_used_with_the_keyboard(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    view = page.tree.view
    view.setFocus()
    qtbot.keyClick(view, Qt.Key.Key_Down)
    # A lone wrapper is open at first.
    with qtbot.waitSignal(session.rows_changed):
        qtbot.keyClick(view, Qt.Key.Key_Left)
    assert "blocks" not in names(window)
    with qtbot.waitSignal(session.rows_changed):
        qtbot.keyClick(view, Qt.Key.Key_Right)
    assert "blocks" in names(window)
    at = names(window).index("module")
    assert view.currentIndex().row() == at
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.currentIndex().row() == at + 1
    qtbot.keyClick(view, Qt.Key.Key_Left)
    assert view.currentIndex().row() == at
    with qtbot.waitSignal(session.rows_changed):
        qtbot.keyClick(view, Qt.Key.Key_Asterisk)
    assert "0 – 3" in names(window)
    with qtbot.waitSignal(session.rows_changed):
        qtbot.keyClick(view, Qt.Key.Key_Left)
    assert "blocks" not in names(window)
    qtbot.keyClicks(view, "mod")
    assert names(window)[view.currentIndex().row()].startswith("mod")


def test_that_a_filter_finds_and_says_when_it_cannot(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    with qtbot.waitSignal(session.filtered, check_params_cb=lambda matched, error: matched == 5):
        page.tree.filter.setText("*.bias")
    assert "weight" not in names(window)
    shown = names(window)
    with qtbot.waitSignal(session.filtered, check_params_cb=lambda matched, error: bool(error)):
        page.tree.filter.setText("/(/")
    assert names(window) == shown
    assert page.tree.filter.property("wrong") is True
    with qtbot.waitSignal(session.filtered, check_params_cb=lambda matched, error: matched == 0):
        page.tree.filter.setText("nowhere")
    qtbot.keyClick(page.tree.filter, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: "module" in names(window))
    assert page.tree.filter.property("wrong") is False


def test_that_the_selection_stays_when_rows_fold_away_and_come_back(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    expanded(session, qtbot)
    page.tree.select_row(names(window).index("head"))
    chosen = list(session.selection)
    with qtbot.waitSignal(session.rows_changed):
        session.collapse_all()
    expanded(session, qtbot)
    assert session.selection == chosen
    assert [names(window)[index.row()] for index in page.tree.view.selectionModel().selectedRows()] == ["head"]


def test_that_a_tensor_shows_its_numbers(window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot) -> None:
    session = opened(checkpoint)
    page = front(window)
    expanded(session, qtbot)
    row = names(window).index("head") + 1
    with qtbot.waitSignal(page.detail.settled, timeout=30_000):
        page.tree.select_row(row)
    said = {
        line.words: line.accessibleName()
        for line in page.detail.tensor_page.statistics._lines.values()
        if not line.isHidden()
    }
    assert said["max"] == "max 11"
    assert said["mean"] == "mean 5.5"
    assert said["exact zeros"] == "exact zeros 1"
    heatmap = page.detail.tensor_page.plots["heatmap"]
    assert heatmap.isVisibleTo(window)
    assert "3 by 4" in heatmap.canvas.accessibleDescription()  # type: ignore[attr-defined]
    grid = page.detail.tensor_page.plots["values"].grid  # type: ignore[attr-defined]
    page.detail.choose_view(page.detail.tensor_page.offered.index("values") + 1)
    qtbot.waitUntil(lambda: grid.chosen_text() == "0")


def test_that_steps_show_undo_and_redo_in_tree_title_and_menu(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    before = names(window)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module.", when="any"))
    assert "module" not in names(window)
    assert window.isWindowModified()
    assert window.tabs.tabText(0).endswith("•")
    assert window.actions_by_id["undo"].text().endswith('Undo Strip prefix "module."')
    page = front(window)
    assert not page.recipe.isHidden()
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["undo"].trigger()
    assert names(window) == before
    assert not window.isWindowModified()
    assert page.recipe.isHidden()
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["redo"].trigger()
    assert "module" not in names(window)


def test_that_a_step_that_cannot_be_is_refused_and_nothing_changes(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(write_checkpoint(tmp_path / "two.safetensors", {"a.w": (2,), "w": (2,)}))
    before = names(window)
    with qtbot.waitSignal(session.trouble):
        session.apply(Strip(prefix="a.", when="any"))
    assert names(window) == before
    assert not session.history.can_undo
    page = front(window)
    assert not page.banner.isHidden()


def test_that_dropped_rows_stay_and_are_marked(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    expanded(session, qtbot)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Drop(keys=("module.head.bias",)))
    page = front(window)
    model = page.tree.model
    dropped = [row for row in range(model.rowCount()) if "dropped" in model.sentence(model.node(row))]
    assert [names(window)[row] for row in dropped] == ["bias"]


def test_that_one_start_keeps_one_tab_for_a_file(window: MainWindow, opened: Opened, checkpoint: Path) -> None:
    opened(checkpoint)
    window.open_paths([str(checkpoint)])
    assert window.tabs.count() == 1


def test_that_a_file_that_is_none_is_told_with_cause_and_remedy(
    window: MainWindow, opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "notes.pth"
    path.write_text("these are my notes, no checkpoint\n" * 20)
    session = opened(path)
    assert session.state == "failed"
    page = front(window)
    said = page.failed.words()
    assert "Could not read notes.pth" in said
    assert len(said) > 40
    assert not any(action.isEnabled() for name, action in window.actions_by_id.items() if name in ("save", "rename"))


def test_that_a_dropped_file_opens(window: MainWindow, checkpoint: Path, qtbot: QtBot) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(checkpoint))])
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(50, 50), Qt.DropAction.CopyAction, data, left, none)
    window.dragEnterEvent(enter)
    assert enter.isAccepted()
    window.dropEvent(QDropEvent(QPointF(50, 50), Qt.DropAction.CopyAction, data, left, none))
    session = window.current_session()
    assert session is not None
    qtbot.waitUntil(lambda: session.state == "open", timeout=20_000)


def test_that_an_opened_file_is_remembered_with_its_numbers(
    window: MainWindow, opened: Opened, checkpoint: Path, settings: Settings
) -> None:
    opened(checkpoint)
    recent = settings.recents()[0]
    assert (recent.path, recent.tensors, recent.size) == (str(checkpoint), 10, checkpoint.stat().st_size)
    window.close_tab()
    assert window.current_session() is None
    said = " ".join(label.text() for label in window.start.findChildren(QLabel))
    assert "model.safetensors" in said
    assert "10 tensors" in said


def test_that_a_test_can_see_what_was_opened(
    window: MainWindow,
    opened: Opened,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: QtBot,
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("SDVIEWER_TEST_LOG", str(log))
    opened(checkpoint)
    lines = [f"{os.getpid()} {what} {checkpoint}" for what in ("open", "painted")]
    qtbot.waitUntil(lambda: log.read_text().splitlines() == lines)


class Presser:
    """Presses a button of the question that comes up, as often as one does, and keeps what was asked."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.asked: list[str] = []
        self._timer = QTimer(interval=5)
        self._timer.timeout.connect(self._press)
        self._timer.start()

    def _press(self) -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            self.asked.append(box.text())
            next(button for button in box.buttons() if button.text().replace("&", "") == self.words).click()


def test_that_closing_asks_once_only_where_steps_would_be_lost(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Prefix(add="model."))
    keep = Presser("Cancel")
    assert not window.close()
    assert window.tabs.count() == 1
    assert keep.asked == ["Save the repaired copy of model.safetensors before closing?"]
    with qtbot.waitSignal(session.recipe_changed):
        session.undo()
    assert window.close()
    assert len(keep.asked) == 1


def test_that_steps_can_be_given_up_on_closing(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Prefix(add="model."))
    give_up = Presser("Close without saving")
    window.close_tab()
    assert window.tabs.count() == 0
    assert len(give_up.asked) == 1


def test_that_a_click_on_the_head_sorts_and_the_third_brings_the_file_order_back(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    expanded(session, qtbot)
    file_order = names(window)
    head = page.tree.view.horizontalHeader()

    def click(column: int) -> list[str]:
        place = QPoint(head.sectionViewportPosition(column) + 20, head.height() // 2)
        with qtbot.waitSignal(session.rows_changed):
            qtbot.mouseClick(head.viewport(), Qt.MouseButton.LeftButton, pos=place)
        return names(window)

    assert [name for name in click(NAME) if name in ("head", "blocks")] == ["blocks", "head"]
    assert head.isSortIndicatorShown()
    assert head.sortIndicatorOrder() == Qt.SortOrder.AscendingOrder
    assert [name for name in click(NAME) if name in ("head", "blocks")] == ["head", "blocks"]
    assert click(NAME) == file_order
    assert not head.isSortIndicatorShown()
    assert [name for name in click(PARAMS) if name in ("head", "blocks")] == ["blocks", "head"]
    assert head.sortIndicatorOrder() == Qt.SortOrder.DescendingOrder


def test_that_a_saved_copy_is_told_with_its_checks_and_is_no_longer_unsaved(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    before = checkpoint.read_bytes()
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module.", when="any"))
    out = tmp_path / "copy.safetensors"
    with qtbot.waitSignal(session.saved, timeout=30_000):
        session.save(str(out), overwrite=False)
    page = front(window)
    said = " ".join(label.text() for label in page.receipt.findChildren(QLabel) if not label.isHidden())
    assert "Saved and read back" in said
    assert "copy.safetensors" in said
    assert not window.isWindowModified()
    assert checkpoint.read_bytes() == before
    assert b"module." not in out.read_bytes()[:600]


def test_that_a_file_with_hard_links_or_changed_by_somebody_else_is_asked_about_before_it_goes(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    out = tmp_path / "copy.safetensors"

    def save_and_answer(question: str) -> str:
        """What the banner says when the save is refused, and the file saved all the same after a click."""
        with qtbot.waitSignal(session.save_failed, timeout=30_000):
            session.save(str(out), overwrite=True)
        assert out.read_bytes() == b"somebody else's"
        button = next(button for button in page.banner.findChildren(QPushButton) if button.text() == question)
        said = " ".join(label.text() for label in page.banner.findChildren(QLabel))
        with qtbot.waitSignal(session.saved, timeout=30_000):
            button.click()
        assert out.read_bytes() == checkpoint.read_bytes()
        return said

    out.write_bytes(b"somebody else's")
    os.link(out, tmp_path / "other.safetensors")
    assert "1 other name, which would keep the old bytes" in save_and_answer("Replace only this name")
    assert (tmp_path / "other.safetensors").read_bytes() == b"somebody else's"
    out.write_bytes(b"somebody else's")
    assert "changed by somebody else" in save_and_answer("Replace it")
    with qtbot.waitSignal(session.saved, timeout=30_000):
        session.save(str(out), overwrite=True)  # what was saved there last, so nothing is asked


def test_that_every_command_has_a_menu_and_no_shortcut_means_two_things() -> None:
    keys = [key.toString() for action in ACTIONS for key in sequences(action)]
    assert len(keys) == len(set(keys))
    assert all(action.menu for action in ACTIONS)


def test_that_every_button_says_what_it_does(window: MainWindow, opened: Opened, checkpoint: Path) -> None:
    opened(checkpoint)
    silent = [
        button
        for button in window.findChildren(QAbstractButton)
        if button.isVisibleTo(window)
        and not button.text()
        and not button.accessibleName()
        and button.objectName() != "qt_toolbar_ext_button"
        and button.focusPolicy() != Qt.FocusPolicy.NoFocus
    ]
    assert silent == []


def test_that_a_command_that_is_not_possible_says_why(window: MainWindow) -> None:
    action = window.actions_by_id["rename"]
    assert not action.isEnabled()
    assert "Open a file first." in action.toolTip()


def test_that_the_smallest_window_keeps_the_tree_wide_enough(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    opened(checkpoint)
    window.resize(1024, 700)
    page = front(window)
    qtbot.waitUntil(lambda: window.width() == 1024)
    assert page.tree.width() >= 320
    assert page.detail.width() >= 400


def test_that_no_screen_is_too_small_for_the_smallest_window(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = smallest_size.room_on(window.screen())
    assert room.width() < main_window.SMALLEST.width(), "the screen of these tests is a small one"
    assert window.minimumSize() == main_window.SMALLEST.boundedTo(room)
    for room, smallest in ((QSize(944, 560), QSize(944, 560)), (QSize(2560, 1400), main_window.SMALLEST)):
        monkeypatch.setattr(smallest_size, "room_on", lambda screen, room=room: room)
        window.screen().availableGeometryChanged.emit(window.screen().availableGeometry())
        assert window.minimumSize() == smallest


def test_that_the_theme_is_toggled_and_remembered(window: MainWindow, settings: Settings) -> None:
    window.actions_by_id["theme"].trigger()
    assert resources.theme().name == "dark"
    assert settings.get("appearance/theme") == "dark"
    window.actions_by_id["theme"].trigger()
    assert resources.theme().name == "light"


def test_that_letters_are_underlined_only_while_alt_is_held(window: MainWindow, qtbot: QtBot) -> None:
    def bar() -> QImage:
        return window.menuBar().grab().toImage()

    plain = bar()
    qtbot.keyPress(window, Qt.Key.Key_Alt)
    assert bar() != plain
    qtbot.keyRelease(window, Qt.Key.Key_Alt)
    qtbot.keyClick(window.menuBar(), Qt.Key.Key_Escape)  # Alt alone goes to the menus; Escape leaves them
    assert bar() == plain


def test_that_rows_below_a_selected_one_are_not_dropped_twice_and_too_many_are_not_dropped_in_part(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(write_checkpoint(tmp_path / "wide.safetensors", {f"m.k{i}": (1,) for i in range(2100)}))
    page = front(window)
    expanded(session, qtbot)
    page.tree.view.selectAll()
    assert len(session.selection) == 2102
    top, module = session.outermost(), names(window).index("m")
    assert len(top) == 1
    model = page.tree.model
    siblings = QItemSelection(model.index(module + 1, 0), model.index(module + 2050, PARAMS))
    page.tree.view.selectionModel().select(
        siblings, QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
    )
    with qtbot.waitSignal(session.trouble):
        window.editing.drop()
    assert not session.history.steps
    page.tree.select_row(module)
    qtbot.waitUntil(lambda: session.facts.get("prefix") == "m.")
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.drop()
    assert [step["matched"] for step in session.edit["steps"]] == [2100]


def test_that_of_a_very_large_selection_the_current_row_stays_when_rows_change(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(write_checkpoint(tmp_path / "wide.safetensors", {f"m.k{i}": (1,) for i in range(1200)}))
    page = front(window)
    expanded(session, qtbot)
    page.tree.select_row(7)
    current = session.selection[0]
    page.tree.view.selectAll()
    with qtbot.waitSignal(session.rows_changed):
        session.sort("name", True)
    assert session.selection == [current]
    assert len(page.tree.view.selectionModel().selectedRows()) == 1


def test_that_the_lines_that_load_a_saved_copy_take_its_state_dict_out(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    path, out = tmp_path / "wrapped.pth", tmp_path / "copy.pth"
    torch.save({"state_dict": {"module.w": torch.ones(2)}, "epoch": 3}, path)
    session = opened(path)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module."))
    with qtbot.waitSignal(session.saved, timeout=30_000):
        session.save(str(out), overwrite=False)
    page = front(window)
    code = next(
        block.toPlainText() for block in page.receipt.findChildren(CodeBlock) if block.accessibleName() == "Load it"
    )
    loading = code.split("sd = ")[1].splitlines()[0].replace("'copy.pth'", "path")
    assert list(eval(loading, {"torch": torch, "path": out})) == ["w"]  # the line as a person would run it


def test_that_chips_of_large_counts_are_not_cut_off(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    many = {f"layers.{i}.{part}": (1,) for i in range(5_500) for part in ("weight", "bias", "norm.weight", "norm.bias")}
    session = opened(write_checkpoint(tmp_path / "many.safetensors", many))
    page = front(window)
    with qtbot.waitSignal(session.filtered):
        page.tree.filter.setText("weight")
    chips = [chip for chip in page.tree.findChildren(Chip) if chip.isVisible()]
    assert any("22.0 K" in chip.text() for chip in chips)
    assert all(chip.width() >= chip.sizeHint().width() for chip in chips)
    right = max(chip.geometry().right() for chip in chips)
    assert right < page.tree.width()


def test_that_the_filter_says_how_much_it_finds(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(write_checkpoint(tmp_path / "few.safetensors", {"a.weight": (2,), "a.bias": (2,), "b.bias": (2,)}))
    page = front(window)
    for typed, words in (("bias", "2 matches"), ("weight", "1 match"), ("nothing", "0 matches")):
        with qtbot.waitSignal(session.filtered):
            page.tree.filter.setText(typed)
        notes = [note.text() for note in page.tree.filter.findChildren(QLabel) if note.isVisible()]
        assert notes == [words]
    with qtbot.waitSignal(session.filtered):
        page.tree.filter.clear()
    assert words not in [note.text() for note in page.tree.filter.findChildren(QLabel) if note.isVisible()]


def test_that_the_arrow_down_goes_from_the_filter_to_what_it_finds(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    tree = page.tree
    tree.filter.setFocus()
    with qtbot.waitSignal(session.filtered):
        tree.filter.setText("nowhere")
    qtbot.keyClick(tree.filter, Qt.Key.Key_Down)
    with qtbot.waitSignal(session.filtered):
        tree.filter.setText("*.bias")
    assert tree.filter.hasFocus()
    with qtbot.waitSignal(session.facts_changed, check_params_cb=lambda facts: facts["name"] == "bias"):
        qtbot.keyClick(tree.filter, Qt.Key.Key_Down)
    assert tree.view.hasFocus()


def test_that_what_a_command_reveals_is_selected_alone_while_its_keys_are_down(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    page = front(window)
    model = page.tree.model
    page.tree.select_row(0)
    qtbot.keyPress(page.tree.filter, Qt.Key.Key_F12, Qt.KeyboardModifier.ControlModifier)
    page.tree.select_row(1)
    qtbot.keyRelease(page.tree.filter, Qt.Key.Key_F12)
    assert session.selection == [model.node(1)]
    assert page.tree.view.currentIndex().row() == 1


def write_shards(folder: Path) -> Path:
    """A folder with an index, one shard that is there and one that is missing."""
    folder.mkdir()
    write_checkpoint(folder / "model-1-of-2.safetensors", {"a.weight": (3, 4)})
    weight_map = {"a.weight": "model-1-of-2.safetensors", "b.weight": "model-2-of-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_that_a_dropped_folder_opens_once_and_is_remembered(
    window: MainWindow, tmp_path: Path, qtbot: QtBot, settings: Settings
) -> None:
    folder = write_shards(tmp_path / "run")
    data = QMimeData()
    # A file manager ends a folder's address with a slash.
    data.setUrls([QUrl(QUrl.fromLocalFile(str(folder)).toString() + "/")])
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    window.dropEvent(QDropEvent(QPointF(50, 50), Qt.DropAction.CopyAction, data, left, none))
    session = window.current_session()
    assert session is not None
    qtbot.waitUntil(lambda: session.state == "open", timeout=20_000)
    window.open_paths([str(folder)])
    assert window.tabs.count() == 1
    assert window.windowTitle() == "run[*] — sdviewer"
    assert settings.recents()[0].path == str(folder)


def test_that_a_missing_shard_is_told_and_keys_of_shards_cannot_be_edited(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(write_shards(tmp_path / "run"))
    page = front(window)
    said = " ".join(label.text() for label in page.banner.findChildren(QLabel))
    assert "Parts of this checkpoint are missing" in said
    assert said.count("model-2-of-2.safetensors") == 1
    page.tree.select_row(names(window).index("b.weight"))
    qtbot.waitUntil(lambda: session.facts.get("name") == "b.weight")
    said = " ".join(label.text() for label in page.detail.findChildren(QLabel))
    assert "model-2-of-2.safetensors is not there" in said
    qtbot.waitUntil(lambda: bool(session.facts))
    assert not window.actions_by_id["rename"].isEnabled()
    assert "lies in several files" in window.actions_by_id["rename"].toolTip()


def test_that_a_folder_of_several_checkpoints_names_them(window: MainWindow, opened: Opened, tmp_path: Path) -> None:
    for name in ("first.safetensors", "second.safetensors"):
        write_checkpoint(tmp_path / name, {"a": (2,)})
    session = opened(tmp_path)
    assert session.state == "failed"
    page = front(window)
    assert "first.safetensors, second.safetensors" in page.failed.words()


def test_that_the_dialog_for_folders_opens_what_was_chosen(
    window: MainWindow, tmp_path: Path, qtbot: QtBot, settings: Settings
) -> None:
    folder = write_shards(tmp_path / "run")

    def choose() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QFileDialog):
            QTimer.singleShot(20, choose)
            return
        dialog.setDirectory(str(tmp_path))
        dialog.selectFile(str(folder))
        dialog.accept()

    QTimer.singleShot(0, choose)
    window.actions_by_id["open_folder"].trigger()
    session = window.current_session()
    assert session is not None
    assert session.path == str(folder)
    assert settings.get("files/last_folder") == str(tmp_path)
    qtbot.waitUntil(lambda: session.state == "open", timeout=20_000)


def test_that_the_file_dialog_offers_what_every_format_is_called() -> None:
    assert {suffix for format_ in FORMATS for suffix in format_.suffixes} == set(OPEN_SUFFIXES)
