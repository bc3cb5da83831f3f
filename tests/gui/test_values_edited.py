"""Editing values in the window: plain ones in the tree, numbers in their cells; and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.formats import open_checkpoint
from sdviewer.formats.saving import save
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.tree_model import NAME
from sdviewer.gui.panels.detail_panel import TensorPage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.key_editor import InPlace, ValueEditor
from sdviewer.gui.plots.cell_editor import CellEditor
from sdviewer.gui.plots.values import ValuesPlot
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Transpose
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
from tests.gui.conftest import Opened, expanded, front, quiet
from tests.gui.test_editing import names, select

WEIGHT = torch.arange(12.0).reshape(3, 4)


@pytest.fixture
def session(window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot) -> Session:
    """A training checkpoint with every row in sight."""
    model = {"fc.weight": WEIGHT, "fc.bias": torch.zeros(3), "scale": torch.tensor(2.5), "counts": torch.tensor([1, 2])}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    whole = {"model": model, "optimizer": optimizer, "epoch": 3, "best_acc": 71.5, "run": "a", "done": False}
    path = tmp_path / "training.pth"
    torch.save(whole, path)
    made = opened(path)
    with qtbot.waitSignal(made.rows_changed):
        made.expand_all()
    return made


def double_click(window: MainWindow, qtbot: QtBot, name: str) -> None:
    view = front(window).tree.view
    session = front(window).session
    # The recipe that has just appeared below takes room from the tree.
    qtbot.waitUntil(lambda: quiet(session) and (session.recipe.is_empty or front(window).recipe.isVisible()))
    QApplication.sendPostedEvents()
    QApplication.processEvents()
    row = names(window).index(name)
    view.scrollTo(view.model().index(row, NAME))
    place = view.visualRect(view.model().index(row, NAME)).center()
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)


def value_editor(window: MainWindow, qtbot: QtBot) -> ValueEditor:
    tree = front(window).tree
    qtbot.waitUntil(lambda: isinstance(tree.editor, ValueEditor))
    assert isinstance(tree.editor, ValueEditor)
    return tree.editor


def take(session: Session, qtbot: QtBot, editor: InPlace, typed: str) -> None:
    """Type, and press Return as soon as it is looked at."""
    editor.setText(typed)
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)


def test_that_a_double_click_edits_a_value_and_keeps_its_type(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    double_click(window, qtbot, "best_acc")
    editor = value_editor(window, qtbot)
    assert editor.text() == "71.5"
    take(session, qtbot, editor, "72")
    assert session.recipe.steps[0].table == {"op": "set_value", "path": "best_acc", "value": 72.0}
    assert isinstance(session.recipe.steps[0].table["value"], float)
    model = front(window).tree.model
    row = names(window).index("best_acc")
    assert model.note(model.node(row)) == "72 · was 71.5"
    assert "changed" in str(model.index(row, NAME).data(Qt.ItemDataRole.AccessibleTextRole))
    double_click(window, qtbot, "run")
    take(session, qtbot, value_editor(window, qtbot), "7")  # a text stays a text
    assert session.recipe.steps[1].table["value"] == "7"
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    assert model.note(model.node(names(window).index("best_acc"))) == "71.5"


def test_that_another_type_is_said_first_and_taken_by_a_second_return(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    select(window, session, qtbot, "epoch")
    assert window.actions_by_id["rename"].isEnabled()
    window.actions_by_id["rename"].trigger()
    editor = value_editor(window, qtbot)
    editor.setText("4.5")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "was of type int and becomes float" in editor.says.text())
    assert editor.says.property("role") == "caution"
    assert session.recipe.is_empty
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert session.recipe.steps[0].table["value"] == 4.5


def test_that_a_click_elsewhere_does_not_change_a_type(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    select(window, session, qtbot, "epoch")
    window.editing.rename()
    editor = value_editor(window, qtbot)
    editor.setText("later")
    qtbot.waitUntil(lambda: "becomes str" in editor.says.text())
    editor.clearFocus()
    qtbot.waitUntil(lambda: front(window).tree.editor is None and quiet(session))
    assert session.recipe.is_empty


def test_that_a_click_elsewhere_right_after_typing_takes_what_is_right_and_nothing_else(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    for typed in ("9", "later"):
        select(window, session, qtbot, "epoch")
        window.editing.rename()
        editor = value_editor(window, qtbot)
        editor.setText(typed)
        editor.clearFocus()
        qtbot.waitUntil(lambda: front(window).tree.editor is None and quiet(session))
        assert [step.table["value"] for step in session.recipe.steps] == [9]


def test_that_a_value_that_is_a_number_no_more_is_refused(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    select(window, session, qtbot, "best_acc")
    window.editing.rename()
    editor = value_editor(window, qtbot)
    editor.setText("nan")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "finite" in editor.says.text())
    assert editor.says.property("role") == "balloon"
    qtbot.keyClick(editor, Qt.Key.Key_Escape)
    assert session.recipe.is_empty


def test_that_what_stands_beside_the_model_is_left_out_from_the_tree(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    select(window, session, qtbot, "optimizer")
    assert not window.actions_by_id["rename"].isEnabled()
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["drop"].trigger()
    assert session.recipe.steps[0].table == {"op": "leave_out", "paths": ["optimizer"]}
    select(window, session, qtbot, "model")
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["keep"].trigger()
    assert session.recipe.steps[1].table["op"] == "leave_out"
    assert sorted(session.recipe.steps[1].table["paths"]) == ["best_acc", "done", "epoch", "run"]


# Numbers


def values(window: MainWindow) -> ValuesPlot:
    plot = page(front(window)).plots["values"]
    assert isinstance(plot, ValuesPlot)
    if plot.isHidden():
        detail = front(window).detail
        detail.choose_view(page(front(window)).offered.index("values") + 1)
    return plot


def page(document: DocumentPage) -> TensorPage:
    return document.detail.tensor_page


def known(window: MainWindow, qtbot: QtBot, row: int, column: int) -> str:
    grid = values(window).grid
    qtbot.waitUntil(lambda: bool(grid.exact_text(row, column)))
    return grid.exact_text(row, column)


def cell_editor(window: MainWindow, session: Session, qtbot: QtBot, row: int, column: int) -> CellEditor:
    plot = values(window)
    known(window, qtbot, row, column)
    plot.grid._choose(row, column)
    qtbot.keyClick(plot.grid, Qt.Key.Key_F2)
    assert plot.editor is not None
    return plot.editor


def tensor(window: MainWindow, session: Session, qtbot: QtBot, name: str) -> None:
    select(window, session, qtbot, name)
    qtbot.waitUntil(lambda: quiet(session), timeout=30_000)


def test_that_a_number_is_edited_in_its_cell_shown_as_edited_and_undone(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "weight")
    editor = cell_editor(window, session, qtbot, 1, 2)
    assert editor.text() == "6.0"
    take(session, qtbot, editor, "0.5")
    assert session.recipe.steps[0].table == {"op": "edit", "key": "fc.weight", "at": [1, 2], "value": 0.5}
    qtbot.waitUntil(lambda: values(window).grid.exact_text(1, 2) == "0.5")
    grid = values(window).grid
    assert grid._texts[1, 2][3]
    assert not grid._texts[1, 1][3]
    assert known(window, qtbot, 1, 1) == "5.0"
    assert page(front(window))._edited.text().startswith("1 number edited")
    assert session.facts["key"] == "fc.weight"
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    qtbot.waitUntil(lambda: values(window).grid.exact_text(1, 2) == "6.0")
    assert page(front(window))._edited.isHidden()


def test_that_what_is_copied_is_what_was_asked_for_also_where_another_tensor_is_shown_by_then(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "counts")
    other = session.facts
    tensor(window, session, qtbot, "weight")
    take(session, qtbot, cell_editor(window, session, qtbot, 0, 1), "0.5")
    qtbot.waitUntil(lambda: values(window).grid.exact_text(0, 1) == "0.5")
    plot, clipboard = values(window), QGuiApplication.clipboard()
    plot.grid.select_all()
    clipboard.setText("before")
    plot.copy("numpy")
    plot.show_tensor(session, other)
    qtbot.waitUntil(lambda: clipboard.text() != "before", timeout=30_000)
    assert "0.5" in clipboard.text() and "11.0" in clipboard.text()
    assert "float32" in clipboard.text()


def test_that_what_the_dtype_does_not_have_is_asked_about_and_what_it_cannot_hold_refused(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "counts")
    editor = cell_editor(window, session, qtbot, 1, 0)
    editor.setText("many")
    qtbot.waitUntil(lambda: "no number" in editor.says.text())
    editor.setText("7.5")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "it becomes 8" in editor.says.text())
    assert session.recipe.is_empty
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert session.recipe.steps[0].table == {"op": "edit", "key": "counts", "at": [1], "value": 8}


def test_that_a_double_click_edits_a_scalar_tensor(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    tensor(window, session, qtbot, "scale")
    assert known(window, qtbot, 0, 0) == "2.5"
    grid = values(window).grid
    place = grid.cell_rect(0, 0).center()
    qtbot.mouseClick(grid.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(grid.viewport(), Qt.MouseButton.LeftButton, pos=place)
    editor = values(window).editor
    assert editor is not None
    take(session, qtbot, editor, "3")
    assert session.recipe.steps[0].table == {"op": "edit", "key": "scale", "value": 3.0}
    qtbot.waitUntil(lambda: values(window).grid.exact_text(0, 0) == "3.0")


def test_that_numbers_of_an_optimizer_are_not_edited_and_why(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "exp_avg" if "exp_avg" in names(window) else "0.exp_avg")
    known(window, qtbot, 0, 0)
    with qtbot.waitSignal(session.trouble) as told:
        qtbot.keyClick(values(window).grid, Qt.Key.Key_F2)
    assert told.args is not None
    assert "cannot be edited" in told.args[0]["message"]
    assert values(window).editor is None


def test_that_an_editor_goes_when_the_numbers_below_it_do(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    tensor(window, session, qtbot, "weight")
    cell_editor(window, session, qtbot, 0, 0)
    tensor(window, session, qtbot, "bias")
    assert values(window).editor is None
    assert session.recipe.is_empty


def test_that_a_computed_tensor_says_in_words_what_it_will_be(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "weight")
    with qtbot.waitSignal(session.facts_changed):
        session.apply(Transpose(keys=("fc.weight",)))
    shown = page(front(window))
    assert shown._note.title_label.text() == "Computed when the copy is saved"
    words = shown._why.text()
    assert "4×3 of float32: 12 elements, 48 B" in words
    assert "fc.weight (3×4, float32)" in words
    assert "1. Transpose" in words
    assert not shown._note.isHidden()


def test_that_an_editor_follows_its_cell_and_goes_when_that_is_out_of_sight(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    tensor(window, session, qtbot, "weight")
    editor = cell_editor(window, session, qtbot, 2, 1)
    before = editor.geometry()
    window.resize(window.width() + 200, window.height())
    grid = values(window).grid
    qtbot.waitUntil(lambda: editor.geometry().left() != before.left())
    assert editor.geometry().left() == min(grid.cell_rect(2, 1).left(), grid.viewport().width() - 1 - editor.width())
    grid.set_size(200, 4)
    grid.verticalScrollBar().setValue(grid.verticalScrollBar().maximum())
    assert values(window).editor is None


def test_that_the_average_of_a_model_can_be_all_that_is_kept(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "averaged.pth"
    torch.save({"model": {"w": WEIGHT}, "ema": {"w": WEIGHT + 1}, "epoch": 3}, path)
    session = opened(path)
    expanded(session, qtbot)
    name = next(name for name in names(window) if name.startswith("ema"))
    select(window, session, qtbot, name)
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["keep"].trigger()
    assert session.recipe.source == {"state_dict": "ema"}
    assert sorted(session.recipe.steps[0].table["paths"]) == ["epoch", "model"]
    out = tmp_path / "kept.pth"
    checkpoint = open_checkpoint(str(path))
    save(checkpoint, make_plan(parse_recipe(session.recipe.to_text()), checkpoint), str(out))
    assert torch.load(out, weights_only=True).keys() == {"ema"}


def test_that_return_takes_a_value_once_though_the_editor_loses_its_focus(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    window.activateWindow()
    select(window, session, qtbot, "epoch")
    window.editing.rename()
    editor = value_editor(window, qtbot)
    qtbot.waitUntil(editor.hasFocus)
    changes: list[int] = []
    session.recipe_changed.connect(lambda: changes.append(len(session.recipe.steps)))
    take(session, qtbot, editor, "4")
    qtbot.waitUntil(lambda: quiet(session))
    assert changes == [1]
