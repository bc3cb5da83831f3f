"""Editing keys in the window, over real files and workers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtWidgets import QApplication, QFileDialog, QToolButton
from pytestqt.qtbot import QtBot
from safetensors.torch import load_file

from sdviewer.cli.main import run
from sdviewer.formats import open_checkpoint
from sdviewer.gui.dialogs.forms import FORMS
from sdviewer.gui.dialogs.recipe_text import RecipeTextDialog
from sdviewer.gui.dialogs.save_dialog import SaveDialog
from sdviewer.gui.dialogs.script_dialog import ScriptDialog
from sdviewer.gui.dialogs.step_dialog import StepDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.steps_model import StepRow
from sdviewer.gui.models.tree_model import NAME
from sdviewer.gui.panels.find_panel import FILTERED, SELECTED, SUBTREE, FindPanel, Search
from sdviewer.gui.panels.recipe_panel import button_rects
from sdviewer.gui.panels.tree_panel import ROWS_MIME
from sdviewer.gui.session import Session
from sdviewer.repair.export import EXPORTS
from sdviewer.repair.operations import (
    OPERATIONS,
    Cast,
    Drop,
    Operation,
    Prefix,
    Rename,
    Replace,
    ReplacePrefix,
    Strip,
)
from tests.gui.conftest import Opened, expanded, front, quiet, write_checkpoint


def names(window: MainWindow) -> list[str]:
    model = front(window).tree.model
    return [str(model.index(row, NAME).data()) for row in range(model.rowCount())]


@pytest.fixture
def session(window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot) -> Session:
    """A small checkpoint with every row in sight."""
    made = opened(checkpoint)
    with qtbot.waitSignal(made.rows_changed):
        made.expand_all()
    return made


def select(window: MainWindow, session: Session, qtbot: QtBot, name: str) -> None:
    """Select the first row of a name, and wait until it is known."""
    row = names(window).index(name)
    page = front(window)
    page.tree.select_row(row)
    qtbot.waitUntil(lambda: session.facts.get("row") == page.tree.model.node(row))


def in_dialog(kind: type[Any], act: Callable[[Any], None]) -> None:
    """Do something in the next dialog of a kind, as soon as it is there."""
    timer = QTimer(interval=5, parent=QApplication.instance())

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, kind):
            timer.stop()
            timer.deleteLater()
            try:
                act(dialog)
            finally:
                if dialog.isVisible():
                    dialog.reject()

    timer.timeout.connect(look)
    timer.start()


# In the tree


def test_that_what_is_asked_for_before_an_answer_is_there_builds_on_what_was_asked_before(
    session: Session, tmp_path: Path, qtbot: QtBot
) -> None:
    session.apply(Strip(prefix="module."))
    session.apply(Rename(rules=(("head.bias", "head.offset"),)))
    session.apply(Prefix(add="net."))
    session.undo()
    qtbot.waitUntil(lambda: not session.jobs.busy())
    assert [step.op for step in session.recipe.steps] == ["strip", "rename"]
    session.undo()
    session.undo()
    qtbot.waitUntil(lambda: not session.jobs.busy())
    assert session.recipe.steps == ()
    session.redo()
    session.redo()
    session.open()
    qtbot.waitUntil(lambda: session.state == "open" and not session.jobs.busy())
    assert [report["op"] for report in session.edit["steps"]] == ["strip", "rename"]
    session.apply(Prefix(add="net."))
    with qtbot.waitSignal(session.saved, timeout=20_000):
        session.save(str(tmp_path / "copy.safetensors"), overwrite=False)
    assert "net.head.offset" in [info.key for info in open_checkpoint(str(tmp_path / "copy.safetensors")).tensors]


def test_that_what_is_selected_and_dropped_while_an_edit_is_on_its_way_is_what_was_meant(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    select(window, session, qtbot, "head")
    session.apply(ReplacePrefix(old="module.head.", new="module.zoo.deep."))  # rows move
    page = front(window)
    page.tree.select_row(names(window).index("blocks"))
    page.tree.select_row(names(window).index("head") + 2)  # its bias, whose answer comes after that to the edit
    window.editing.drop()
    qtbot.waitUntil(lambda: quiet(session) and len(session.recipe.steps) == 2)
    assert session.recipe.steps[1].table == {"op": "drop", "keys": ["module.zoo.deep.bias"]}
    qtbot.waitUntil(lambda: session.facts["key"] == "module.head.bias" and session.facts["dropped"])
    assert page.tree.model.node(page.tree.view.currentIndex().row()) == session.selection[0]


def test_that_two_rows_dropped_one_after_the_other_are_both_dropped(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    head = names(window).index("head")
    for row in (head + 1, head + 2):
        front(window).tree.select_row(row)
        window.editing.drop()
    qtbot.waitUntil(lambda: quiet(session) and len(session.recipe.steps) == 2)
    assert [step.table["keys"] for step in session.recipe.steps] == [["module.head.weight"], ["module.head.bias"]]


def test_that_a_key_is_renamed_in_place_and_a_taken_name_is_refused_while_typing(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    page = front(window)
    page.tree.select_row(names(window).index("head") + 1)
    qtbot.waitUntil(lambda: session.facts.get("key") == "module.head.weight")
    qtbot.keyClick(page.tree.view, Qt.Key.Key_F2)
    editor = page.tree.editor
    assert editor is not None
    assert editor.selectedText() == "weight"
    editor.setText("module.head.bias")  # taken by the other key of the module
    qtbot.waitUntil(lambda: editor.property("wrong") is True)
    assert "already" in editor.says.text()
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not session.jobs.busy())
    assert editor.isVisible()
    assert session.history.steps == ()
    editor.setText("module.head.offset")
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert "offset" in names(window)
    assert page.tree.view.hasFocus() or not window.isActiveWindow()
    window.actions_by_id["rename"].trigger()
    editor = page.tree.editor
    assert editor is not None
    editor.setText("other")
    qtbot.keyClick(editor, Qt.Key.Key_Escape)
    assert page.tree.editor is None
    assert len(session.history.steps) == 1


def test_that_a_module_is_renamed_with_all_below_it(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    select(window, session, qtbot, "blocks")
    window.editing.rename()
    editor = front(window).tree.editor
    assert editor is not None
    assert editor.text() == "module.blocks"
    editor.setText("module.layers")
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert session.recipe.steps[0].table == {
        "op": "replace_prefix",
        "from": "module.blocks.",
        "to": "module.layers.",
    }
    assert "layers" in names(window)


def test_that_rows_dropped_on_a_module_move_there_in_one_step(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    page = front(window)
    view = page.tree.view
    select(window, session, qtbot, "head")
    target = view.visualRect(page.tree.model.index(names(window).index("blocks"), 0)).center()
    data = QMimeData()
    data.setData(ROWS_MIME, b"rows")
    event = QDropEvent(
        *(QPointF(target), Qt.DropAction.MoveAction, data, Qt.MouseButton.LeftButton),
        Qt.KeyboardModifier.NoModifier,
    )
    with qtbot.waitSignal(session.recipe_changed):
        view.dropEvent(event)
    assert session.recipe.steps[0].table["to"] == "module.blocks.head."
    window.editing.undo()
    qtbot.waitUntil(lambda: not session.history.steps)
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile(session.path)])
    assert not view_takes(view, files, target)


def view_takes(view: Any, data: QMimeData, place: QPoint) -> bool:
    event = QDragEnterEvent(
        *(place, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton), Qt.KeyboardModifier.NoModifier
    )
    view.dragEnterEvent(event)
    return event.isAccepted()


def test_that_what_is_alike_is_shown_and_selected_and_dropped_as_one_step(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    page = front(window)
    page.tree.select_row(names(window).index("0.fc") + 2)
    qtbot.waitUntil(lambda: session.facts.get("key") == "module.blocks.0.fc.bias")
    with qtbot.waitSignal(session.totals_changed):
        window.editing.select_family()
    assert len(session.selection) == 4
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.drop()
    (step,) = session.recipe.steps
    assert sorted(step.table["keys"]) == [f"module.blocks.{i}.fc.bias" for i in range(4)]


def test_that_keys_are_copied_as_text_as_python_and_as_code_that_runs(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {"a.w": torch.ones(2), "a.b": torch.zeros(1)}, "epoch": 3}, path)
    session = opened(path)
    expanded(session, qtbot)
    clipboard = QGuiApplication.clipboard()
    select(window, session, qtbot, "w")
    window.editing.copy_python()
    assert clipboard.text() == "state_dict['a.w']"
    window.editing.copy_snippet()
    qtbot.waitUntil(lambda: "import torch" in clipboard.text())
    found: dict[str, Any] = {}
    exec(clipboard.text(), found)  # the lines as a person would run them
    assert torch.equal(found["tensor"], torch.ones(2))
    select(window, session, qtbot, "a")
    window.editing.copy_key()
    assert clipboard.text() == "a"


# Find and replace


def find_panel(window: MainWindow) -> FindPanel:
    panel = front(window).view("find")
    assert isinstance(panel, FindPanel)
    return panel


def test_that_find_and_replace_shows_what_changes_and_skips_what_collides(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    page = front(window)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Rename(rules=(("module.blocks.3.fc.bias", "module.blocks.2.fc.scale"),)))
    session.select([0])
    window.actions_by_id["find"].trigger()
    panel = find_panel(window)
    assert page.shown_view() == "find"
    panel.scope.setCurrentIndex(0)
    panel.syntax.buttons()[2].click()
    panel.find_field.setText(r"(\d)\.fc\.bias")
    panel.replace_field.setText(r"\1.fc.scale")
    qtbot.waitUntil(panel.add.isEnabled)
    assert panel.preview.words.text() == "3 keys change"
    assert panel.preview.blocked.text() == "1 would collide"
    first = panel.preview.model.index(0, 3)
    assert first.data() == "collides with a key already there"
    assert "carried over: 2" in panel.preview.model.index(0, 0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert panel.add.text() == "Add step, skip 1"
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(panel.replace_field, Qt.Key.Key_Return)
    step = session.recipe.steps[1]
    assert step.op == "replace"
    assert session.edit["steps"][1]["changed"] == 2
    panel.find_field.setText("(")
    qtbot.waitUntil(lambda: panel.find_field.property("wrong") is True)
    assert "no regular expression" in panel.wrong.text()
    assert not panel.add.isEnabled()
    qtbot.keyClick(panel.find_field, Qt.Key.Key_Escape)
    qtbot.keyClick(panel, Qt.Key.Key_Escape)
    assert page.shown_view() == "details"


def test_that_return_waits_for_the_preview_of_what_was_typed(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    window.editing.find_replace()
    panel = find_panel(window)
    qtbot.keyClicks(panel.find_field, "head")
    qtbot.keyClicks(panel.replace_field, "fc")
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(panel.replace_field, Qt.Key.Key_Return)
    assert session.recipe.steps[0].table == {"op": "replace", "find": "head", "with": "fc"}


def test_that_the_scope_follows_selection_and_filter(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    page = front(window)
    select(window, session, qtbot, "head")
    page.show_find(Search("weight", "w"), SUBTREE)
    panel = find_panel(window)
    qtbot.waitUntil(lambda: panel.preview.words.text() == "1 key changes")
    page.tree.view.setFocus()
    select(window, session, qtbot, "blocks")
    qtbot.waitUntil(lambda: panel.preview.words.text() == "4 keys change")
    assert page.shown_view() == "find"
    panel.scope.setCurrentIndex(panel.scope.findData(FILTERED))
    page.tree.filter.setText("blocks.2")
    qtbot.waitUntil(lambda: panel.preview.words.text() == "1 key changes")
    panel.scope.setCurrentIndex(panel.scope.findData(SELECTED))
    qtbot.waitUntil(lambda: panel.preview.words.text() != "1 key changes")


@pytest.mark.parametrize(
    ("search", "changed"),
    [
        (Search("head.", "x."), 2),
        (Search("HEAD.", "x."), 0),
        (Search("HEAD.", "x.", case=False), 2),
        (Search("module.head.bias", "b", whole=True), 1),
        (Search("head", "b", whole=True), 0),
        (Search("module.blocks.{i}.**", "m.{i+1}.**", "template"), 8),
        (Search(r"^module\.", "", "regex"), 10),
        (Search(r"MODULE\.h(.*)", r"\1", "regex", case=False), 2),
    ],
)
def test_that_every_way_to_search_becomes_a_step_that_opens_as_it_was(
    window: MainWindow, session: Session, qtbot: QtBot, search: Search, changed: int
) -> None:
    front(window).show_find(search)
    panel = find_panel(window)
    qtbot.waitUntil(lambda: not session.jobs.busy() and not panel._pause.isActive())
    assert panel.add.isEnabled() == (changed > 0)
    if not changed:
        return
    with qtbot.waitSignal(session.recipe_changed):
        panel.accept()
    assert session.edit["steps"][0]["changed"] == changed
    window.editing.edit_step(0)
    again = panel.search()
    assert again.table() == search.table()


def test_that_several_rows_are_renamed_by_the_part_they_have_in_common(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    select(window, session, qtbot, "0.fc")
    with qtbot.waitSignal(session.totals_changed):
        session.select([front(window).tree.model.node(names(window).index(f"{i}.fc")) for i in range(3)])
    window.editing.rename()
    panel = find_panel(window)
    qtbot.waitUntil(lambda: panel.find_field.text() == "module.blocks")
    panel.replace_field.setText("module.layers")
    qtbot.waitUntil(lambda: panel.preview.words.text() == "6 keys change")


# The recipe


def with_steps(session: Session, qtbot: QtBot) -> None:
    for step in (Strip(prefix="module."), Drop(keys=("head.*",)), Prefix(add="m.")):
        with qtbot.waitSignal(session.recipe_changed):
            session.apply(step)


def labels(session: Session) -> list[str]:
    return [step.op for step in session.recipe.steps]


def test_that_steps_are_moved_switched_changed_and_taken_out_with_the_keyboard_and_all_is_undone(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    view = front(window).recipe.view
    view.setCurrentIndex(view.model().index(2, 0))
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(view, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    assert labels(session) == ["strip", "prefix", "drop"]
    assert view.currentIndex().row() == 1
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(view, Qt.Key.Key_Space)
    assert not session.recipe.steps[1].enabled
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert labels(session) == ["strip", "drop"]
    view.setCurrentIndex(view.model().index(1, 0))

    def change(dialog: StepDialog) -> None:
        field = dialog.fields["keys"]
        assert field.value() == ["head.*"]
        field.set_value(["head.bias"])
        dialog.fields["why"].set_value("not used")
        dialog.fields["expect.matched"].set_value(1)
        qtbot.waitUntil(dialog.add.isEnabled)
        dialog.accept()

    in_dialog(StepDialog, change)
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(view, Qt.Key.Key_Return)
    assert session.recipe.steps[1].table == {
        "op": "drop",
        "keys": ["head.bias"],
        "why": "not used",
        "expect": {"matched": 1},
    }
    assert window.actions_by_id["undo"].text().endswith('Change: Drop "head.bias"')
    for _ in range(4):
        with qtbot.waitSignal(session.recipe_changed):
            window.editing.undo()
    assert labels(session) == ["strip", "drop", "prefix"]
    assert all(step.enabled for step in session.recipe.steps)
    for _ in range(4):
        with qtbot.waitSignal(session.recipe_changed):
            window.editing.redo()
    assert session.recipe.steps[1].table["why"] == "not used"


def test_that_a_step_is_dragged_to_another_place_and_its_buttons_work(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    panel = front(window).recipe
    model = panel.model
    with qtbot.waitSignal(session.recipe_changed):
        model.dropMimeData(model.mimeData([model.index(0, 0)]), Qt.DropAction.MoveAction, 3, 0, model.index(-1, 0))
    assert labels(session)[2] == "strip"
    eye = button_rects(panel.view.visualRect(model.index(0, 0)))["eye"].center()
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.mouseClick(panel.view.viewport(), Qt.MouseButton.LeftButton, pos=eye)
    assert not session.recipe.steps[0].enabled
    out = button_rects(panel.view.visualRect(model.index(1, 0)))["x"].center()
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.mouseClick(panel.view.viewport(), Qt.MouseButton.LeftButton, pos=out)
    assert len(session.recipe.steps) == 2


def test_that_a_step_that_fails_says_so_in_its_place_and_nothing_can_be_saved(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    with qtbot.waitSignal(session.recipe_changed):
        session.move_step(0, 2)  # now `module.` stands behind `m.`, and no key begins with it
    panel = front(window).recipe
    rows: list[StepRow] = panel.model.rows
    assert [row.count for row in rows] == ["0 keys", "10 keys", "fails"]
    assert rows[2].error.startswith("10 of 10 keys lack")
    assert rows[0].second_line.startswith("Matches nothing")
    assert not window.actions_by_id["save_as"].isEnabled()
    assert "does not go through" in window.actions_by_id["save_as"].toolTip()
    said = panel.model.index(2, 0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert "does not go through" in said
    with qtbot.waitSignal(session.recipe_changed):
        session.move_step(2, 0)
    assert [row.count for row in panel.model.rows] == ["10 keys", "2 keys", "8 keys"]
    assert window.actions_by_id["save_as"].isEnabled()


def test_that_the_recipe_is_edited_as_text_with_its_guards(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    with_steps(session, qtbot)

    def write(dialog: RecipeTextDialog) -> None:
        qtbot.waitUntil(lambda: 'op = "strip"' in dialog.text.toPlainText())
        good = dialog.text.toPlainText()
        dialog.text.setPlainText(good + "\n[source]\nrequire = 3\n")
        qtbot.waitUntil(lambda: "require" in dialog._wrong.text())
        assert not dialog.apply.isEnabled()
        guards = 'require = ["module.head.bias"]\nforbid = ["m.**"]\ntensors = 10\n'
        dialog.text.setPlainText(good + f"\n[source]\n{guards}")
        qtbot.waitUntil(dialog.apply.isEnabled)
        dialog.accept()

    in_dialog(RecipeTextDialog, write)
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.edit_recipe()
    assert session.recipe.source["forbid"] == ["m.**"]
    assert "requires module.head.bias" in front(window).recipe._guards.text()
    assert session.failed_step is None
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    assert not session.recipe.source


def test_that_a_saved_recipe_opens_on_another_file_and_repair_carries_it_out_too(
    window: MainWindow, session: Session, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    recipe, out = tmp_path / "r.toml", tmp_path / "out.safetensors"
    assert session.modified
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.write_recipe(session, str(recipe))
    assert not session.modified
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(recipe))])
    event = QDropEvent(
        *(QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton), Qt.KeyboardModifier.NoModifier
    )
    with qtbot.waitSignal(session.recipe_changed):
        window.dropEvent(event)
    assert len(window.tabs.pages()) == 1
    assert labels(session) == ["strip", "drop", "prefix"]
    assert window.actions_by_id["undo"].text().endswith("Open r.toml")
    assert run(["repair", str(checkpoint), "--recipe", str(recipe), "-o", str(out), "-q"]) == 0
    keys = open_checkpoint(str(out)).state_dicts[0].keys
    assert all(key.startswith("m.blocks.") for key in keys)
    assert len(keys) == 8


def test_that_a_file_that_changed_shows_which_step_does_not_go_through_any_more(
    window: MainWindow, session: Session, checkpoint: Path, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module."))
    write_checkpoint(checkpoint, {"module.a": (2,), "b": (2,)})
    with qtbot.waitSignal(session.recipe_changed):
        window.files.reload()
    assert front(window).recipe.model.rows[0].error.startswith("1 of 2 keys lack")
    assert session.modified


def test_that_saving_again_goes_where_it_was_saved_before(
    window: MainWindow, session: Session, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy.safetensors"
    with_steps(session, qtbot)
    with qtbot.waitSignal(session.saved, timeout=30_000):
        session.save(str(out), overwrite=False)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Prefix(add="n."))
    asked: list[object] = []
    monkeypatch.setattr(SaveDialog, "exec", lambda dialog: asked.append(dialog) or 0)
    with qtbot.waitSignal(session.saved, timeout=30_000):
        window.files.save()
    assert not asked
    assert open_checkpoint(str(out)).state_dicts[0].keys[0].startswith("n.m.")
    window.files.save_as()
    assert len(asked) == 1


def test_that_the_recipe_is_exported_in_the_words_of_a_loader_or_why_not(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    seen: dict[str, tuple[str, str]] = {}

    def look(dialog: ScriptDialog) -> None:
        for button, form in zip(dialog.forms.buttons(), ("program", *[one.name for one in EXPORTS]), strict=True):
            button.click()
            qtbot.waitUntil(lambda: bool(dialog.text or dialog.why), timeout=20_000)
            assert dialog.save.isEnabled() == dialog.copy.isEnabled() == bool(dialog.text)
            seen[form] = dialog.text, dialog.why

    def export_after(step: Operation) -> None:
        with qtbot.waitSignal(session.recipe_changed):
            session.apply(step)
        in_dialog(ScriptDialog, look)
        window.actions_by_id["export_script"].trigger()

    export_after(Prefix(add="m."))
    assert not any(why for _, why in seen.values())
    mapping: dict[str, dict[str, str]] = {}
    exec(seen["key_mapping"][0], mapping)  # as a person would paste it
    ((pattern, result),) = mapping["key_mapping"].items()
    assert re.sub(pattern, result, "a.w") == "m.a.w"
    export_after(Cast(dtype="float16"))
    assert seen["program"][0]
    assert seen["key_mapping"][0] == ""
    assert "cannot be said as a key_mapping" in seen["key_mapping"][1]


def test_that_the_recipe_is_exported_as_a_program_that_makes_the_same_copy(
    window: MainWindow,
    session: Session,
    checkpoint: Path,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_steps(session, qtbot)
    script, out = tmp_path / "model_repair.py", tmp_path / "out.safetensors"
    named: list[str] = []

    def choose_it(chooser: QFileDialog) -> int:
        named.extend(Path(name).name for name in chooser.selectedFiles())
        return QFileDialog.DialogCode.Accepted.value

    monkeypatch.setattr(QFileDialog, "exec", choose_it)

    def save(dialog: ScriptDialog) -> None:
        qtbot.waitUntil(dialog.save.isEnabled, timeout=20_000)
        dialog.save.click()

    in_dialog(ScriptDialog, save)
    window.actions_by_id["export_script"].trigger()
    qtbot.waitUntil(script.exists)
    assert named == ["model_repair.py"]
    assert session.modified  # a program is no recipe that can be opened again
    subprocess.run([sys.executable, str(script), str(checkpoint), str(out)], check=True, capture_output=True)
    assert sorted(load_file(out)) == sorted(f"m.blocks.{i}.fc.{leaf}" for i in range(4) for leaf in ("weight", "bias"))


def test_that_a_recipe_that_cannot_be_written_leaves_the_file_that_was_there(
    window: MainWindow, session: Session, tmp_path: Path, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    resource = pytest.importorskip("resource")
    recipe = tmp_path / "r.toml"
    recipe.write_text("the one of before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with qtbot.waitSignal(session.trouble):
            window.editing.write_recipe(session, str(recipe))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert recipe.read_text() == "the one of before"
    assert session.modified
    assert "r.toml was not written" in front(window).banner.text()


def test_that_a_step_is_changed_where_it_stands_now_and_not_what_stands_in_its_place(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    strip, drop, prefix = session.recipe.steps
    session.remove_step(0)
    session.change_step(2, prefix, Prefix(add="other."))
    qtbot.waitUntil(lambda: quiet(session))
    assert [step.table.get("add") for step in session.recipe.steps] == [None, "other."]
    with qtbot.waitSignal(session.trouble):
        session.change_step(0, strip, Prefix(add="wrong."))
    assert len(session.recipe.steps) == 2
    assert session.recipe.steps[0] == drop


def test_that_find_and_replace_follows_the_step_that_it_edits(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module."))
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Replace(find="fc", new="mlp"))
    window.editing.edit_step(1)
    panel = front(window).view("find")
    assert isinstance(panel, FindPanel)
    with qtbot.waitSignal(session.recipe_changed):
        session.remove_step(0)
    panel.replace_field.setText("linear")
    qtbot.waitUntil(panel.add.isEnabled)
    with qtbot.waitSignal(session.recipe_changed):
        panel.accept()
    assert [step.table["with"] for step in session.recipe.steps] == ["linear"]
    # Where it is gone, what is typed is a step of its own.
    window.editing.edit_step(0)
    with qtbot.waitSignal(session.recipe_changed):
        session.remove_step(0)
    panel.replace_field.setText("dense")
    qtbot.waitUntil(panel.add.isEnabled)
    assert panel.add.text() == "Add step"
    with qtbot.waitSignal(session.recipe_changed):
        panel.accept()
    assert [step.table["with"] for step in session.recipe.steps] == ["dense"]


def test_that_a_double_click_on_a_cross_takes_out_one_step(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    with_steps(session, qtbot)
    view = front(window).recipe.view
    place = button_rects(view.visualRect(view.steps.index(0, 0)))["x"].center()
    taken: list[int] = []
    view.removed.connect(taken.append)
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert taken == [0]
    # A press that was let go of elsewhere does nothing.
    other = button_rects(view.visualRect(view.steps.index(1, 0)))["eye"].center()
    qtbot.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=other)
    qtbot.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: quiet(session))
    assert labels(session) == ["drop", "prefix"]
    assert all(step.enabled for step in session.recipe.steps)


# Forms


def test_that_every_operation_has_a_form_whose_fields_are_those_of_its_step() -> None:
    known = {operation.op: operation for operation in OPERATIONS}
    for form in FORMS:
        assert form.op in known
    for entries in (form.entries for form in FORMS):
        assert len({entry.name for entry in entries}) == len(entries)
        letters = [entry.label.partition("&")[2][:1].lower() for entry in entries]
        assert len(set(letters)) == len(letters)


def test_that_a_form_asks_live_and_refuses_what_is_none(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    def fill(dialog: StepDialog) -> None:
        dialog.fields["prefix"].set_value("")
        dialog.fields["components"].set_value(["a.b"])
        qtbot.waitUntil(lambda: "no path component" in dialog._wrong.text())
        assert not dialog.add.isEnabled()
        dialog.fields["components"].set_value(["module", "fc"])
        qtbot.waitUntil(dialog.add.isEnabled)
        assert dialog.preview.words.text() == "10 keys change"
        dialog.accept()

    in_dialog(StepDialog, fill)
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["step_strip"].trigger()
    assert session.recipe.steps[0].table == {"op": "strip", "components": ["module", "fc"], "when": "any"}


def test_that_all_that_takes_the_focus_in_find_and_recipe_has_a_name(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    with_steps(session, qtbot)
    front(window).show_find(Search("head", "x"))
    for part in (find_panel(window), front(window).recipe):
        for button in part.findChildren(QToolButton):
            assert button.accessibleName() or button.text()
    assert find_panel(window).scope.accessibleName()
    assert front(window).recipe.view.accessibleName()
