"""Repair to fit, in the window with its real workers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QAbstractItemModelTester, QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLineEdit, QMenu, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.fit_model import RESULT, SOURCE, TARGET
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from tests.gui.conftest import without_storages

WAIT = 60_000
Fits = Callable[..., WorkbenchPage]


def model(prefix: str = "", fc: str = "mlp.fc1", head: int = 3) -> dict[str, torch.Tensor]:
    made = {f"{prefix}embed.weight": torch.randn(5, 4)}
    for i in range(6):
        made[f"{prefix}blocks.{i}.{fc}.weight"] = torch.randn(8, 4)
        made[f"{prefix}blocks.{i}.{fc}.bias"] = torch.randn(8)
    return made | {f"{prefix}head.weight": torch.randn(head, 4)}


@pytest.fixture
def fits(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> Fits:
    """Opens a workbench of a file with some tensors, to fit a file with others or a text."""

    def repair(a: Any, b: Any) -> WorkbenchPage:
        torch.save(a, tmp_path / "a.pth")
        target = {"name": "pasted text", "text": b} if isinstance(b, str) else {"name": str(tmp_path / "b.pth")}
        if not isinstance(b, str):
            torch.save(b, tmp_path / "b.pth")
        page = window.workbenches.repair(str(tmp_path / "a.pth"), target)
        settled(page, qtbot)
        return page

    return repair


def settled(page: WorkbenchPage, qtbot: QtBot) -> None:
    session = page.session
    document = session.document

    def done() -> bool:
        still = session.is_settled and not session.looking and "foot" in page.__dict__
        return still and document.state == "open" and not document.jobs.busy()

    qtbot.waitUntil(done, timeout=WAIT)


def press(widget: QWidget, qtbot: QtBot, page: WorkbenchPage, key: Qt.Key, *modifiers: Qt.KeyboardModifier) -> None:
    held = Qt.KeyboardModifier.NoModifier
    for modifier in modifiers:
        held |= modifier
    QTest.keyClick(widget, key, held)
    settled(page, qtbot)


def rows(page: WorkbenchPage) -> list[tuple[str, str, str]]:
    """Source key, target key and result of the rows in sight."""
    table = page.pairs.model
    return [
        (
            str(table.index(row, SOURCE).data()),
            str(table.index(row, TARGET).data()),
            str(table.index(row, RESULT).data()),
        )
        for row in range(table.rowCount())
    ]


def test_that_a_wrapped_and_renamed_checkpoint_is_repaired_with_the_keyboard_alone(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    page = fits({"epoch": 1, "state_dict": model("module.", fc="ffn.in")}, model())
    page.suggestions.list.setFocus()
    for _ in range(6):
        if page.session.suggestions:
            press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return)
    assert page.session.problems == 0
    assert page.session.is_done
    assert page.foot.save.property("primary")
    assert "All 14 target keys match" in page.banner.text()
    page.session.document.save(str(tmp_path / "out.pth"), overwrite=False)
    qtbot.waitUntil(lambda: not page.session.document.saving.running, timeout=WAIT)
    out = torch.load(tmp_path / "out.pth")
    assert out.keys() == model().keys()


def test_that_the_suggestions_have_the_keyboard_when_the_file_is_opened_behind_them(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model("module."), model())
    document = window.tabs.pages()[0]
    document.show_tree()
    assert window.focusWidget() is page.suggestions.list


def test_that_bar_chips_and_table_show_what_the_chosen_suggestion_would_give(fits: Fits) -> None:
    page = fits(model("module."), model())
    assert page.session.chosen == 0
    head = page.head
    assert (head.count.text(), head.preview.text()) == ("0", "14 with suggestion 1")
    assert head.chips["missing"].text() == "Missing  14 → 0"
    assert "14 with suggestion 1" in head.bar.accessibleDescription()
    shown = rows(page)
    assert shown[0][0] == "Preview 14 pairs if you accept suggestion 1"
    assert shown[1] == ("module.embed.weight", "embed.weight", "will match")
    assert shown[-1][0] == "6 more"
    assert "14 keys match, all shapes agree, no collisions" in str(page.suggestions.cards[0].effect.text())  # type: ignore[union-attr]


def test_that_an_accepted_suggestion_is_a_step_of_the_document_that_undo_takes_back(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model("module."), model())
    document = page.session.document
    page.session.accept(0)
    settled(page, qtbot)
    assert [step.op for step in document.recipe.steps] == ["strip"]
    assert window.isWindowModified()
    assert window.windowTitle().startswith("Repair a.pth")
    assert page.foot.undo.text() == 'Undo Strip prefix "module."'
    window.actions_by_id["undo"].trigger()
    settled(page, qtbot)
    assert document.recipe.is_empty
    assert page.session.told["counts"]["match"] == 0
    assert page.session.suggestions


def test_that_accept_all_safe_is_one_edit(window: MainWindow, fits: Fits, qtbot: QtBot) -> None:
    page = fits({"state_dict": model("module.", fc="ffn.in")}, model())
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert len(page.session.document.recipe.steps) >= 3
    window.actions_by_id["undo"].trigger()
    settled(page, qtbot)
    assert page.session.document.recipe.is_empty


def test_that_escape_shows_the_rows_as_they_are(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Escape)
    assert page.session.chosen == -1
    assert page.session.told["before"] is None
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Down)
    assert page.session.chosen == 0


def test_that_backspace_dismisses_and_a_link_brings_back(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    before = len(page.session.suggestions)
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Backspace)
    assert len(page.session.suggestions) == before - 1
    assert page.suggestions.back.isVisible()
    page.suggestions.back.click()
    settled(page, qtbot)
    assert len(page.session.suggestions) == before
    assert not page.suggestions.back.isVisible()


def test_that_problems_are_stepped_through_and_a_key_of_another_shape_is_dropped_there(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model(head=7), model() | {"norm.weight": torch.zeros(4)})
    assert page.session.chosen == -1  # what is only ambiguous is not previewed unasked
    window.actions_by_id["next_difference"].trigger()
    settled(page, qtbot)
    met = [page.session.why["status"]]
    window.actions_by_id["previous_difference"].trigger()
    settled(page, qtbot)
    met.append(page.session.why["status"])
    assert met == ["missing", "shape"]
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Delete)
    assert page.session.told["counts"]["shape"] == 0
    assert page.session.told["counts"]["dropped"] == 1


def test_that_why_tells_what_speaks_for_a_pair_and_how_its_values_are_spread(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    qtbot.waitUntil(lambda: page.pairs.why.histogram.isVisible(), timeout=WAIT)
    said = [words.text() for _, words in page.pairs.why._rows]
    assert "Same shape  5×4" in said
    assert page.pairs.why.numbers.text().startswith("std ")
    assert page.pairs.why.histogram.accessibleDescription()


def test_that_a_strict_load_is_told_in_torchs_words_while_one_works(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    page.pairs.show_tab("strict")
    settled(page, qtbot)
    with pytest.raises(RuntimeError) as caught:
        _Net().load_state_dict(model("module."))
    assert page.pairs.strict.text.toPlainText() == str(caught.value).replace("_Net", "Model")
    page.pairs.strict.copy.click()
    settled(page, qtbot)
    assert QGuiApplication.clipboard().text() == page.pairs.strict.text.toPlainText()
    page.session.accept(0)
    settled(page, qtbot)
    assert page.pairs.strict.text.toPlainText() == "<All keys matched successfully>"
    assert page.pairs.strict.said.text() == "A strict load goes through, by names and shapes"


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for key, tensor in model().items():
            *above, name = key.split(".")
            inside: torch.nn.Module = self
            for part in above:
                if part not in dict(inside.named_children()):
                    inside.add_module(part, torch.nn.Module())
                inside = dict(inside.named_children())[part]
            inside.register_parameter(name, torch.nn.Parameter(tensor))


def test_that_a_file_that_fits_is_said_to_fit(fits: Fits) -> None:
    page = fits(model(), model())
    assert page.banner.text().startswith("Nothing to repair: 14 of 14 keys match.")
    assert page.suggestions.empty.text() == "Everything fits."
    assert not page.foot.save.isEnabled()


def test_that_tabs_show_all_keys_and_both_trees_and_the_selection_stays(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    QAbstractItemModelTester(page.pairs.model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    for tab in ("all", "tree", "problems"):
        page.pairs.show_tab(tab)
        settled(page, qtbot)
        assert page.session.why["key_a"] == "module.embed.weight"
    page.pairs.show_tab("tree")
    settled(page, qtbot)
    page.session.expand_all()
    settled(page, qtbot)
    assert ("module", "", "") in rows(page)


def test_that_a_filter_looks_at_both_sides(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    page.pairs.filter.setText("head")
    qtbot.waitUntil(lambda: len(rows(page)) == 3, timeout=WAIT)
    assert rows(page)[-1] == ("module.head.weight", "head.weight", "will match")
    page.pairs.filter.setText("nothing.is.like.it")
    qtbot.waitUntil(lambda: not rows(page), timeout=WAIT)
    page.pairs.filter.clear()
    qtbot.waitUntil(lambda: len(rows(page)) > 3, timeout=WAIT)


def test_that_a_step_made_in_find_and_replace_is_followed(window: MainWindow, fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("net/"), model())
    window.actions_by_id["find"].trigger()
    panel = page.find_panel
    assert panel.isVisible()
    panel.find_field.setText("net/")
    qtbot.waitUntil(panel.add.isEnabled, timeout=WAIT)
    panel.accept()
    qtbot.waitUntil(lambda: len(page.session.document.recipe.steps) == 1, timeout=WAIT)
    settled(page, qtbot)
    assert page.session.problems == 0


def test_that_the_target_can_be_another(fits: Fits, qtbot: QtBot, tmp_path: Path) -> None:
    page = fits(model(), model())
    page.session.fit_to({"name": "pasted text", "text": "embed.weight\nother.weight"})
    settled(page, qtbot)
    assert page.session.told["counts"]["match"] == 1
    assert page.head.b.about.text().startswith("2 keys from a list")


def test_that_what_a_comparison_shows_is_repaired_in_one_click(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    torch.save(model("module."), tmp_path / "a.pth")
    torch.save(model(), tmp_path / "b.pth")
    window.comparisons.compare(str(tmp_path / "a.pth"), str(tmp_path / "b.pth"))
    window.actions_by_id["repair"].trigger()
    (page,) = window.tabs.workbenches()
    settled(page, qtbot)
    assert page.session.suggestions
    assert page.session.target == {"name": str(tmp_path / "b.pth")}


def test_that_closing_a_workbench_leaves_the_recipe_to_the_files_own_tab(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model("module."), model())
    page.session.accept(0)
    settled(page, qtbot)
    document = page.session.document
    window.close_tab()
    assert not window.tabs.workbenches()
    assert len(document.recipe.steps) == 1
    assert document.goal is None
    document.undo()
    qtbot.waitUntil(lambda: document.recipe.is_empty, timeout=WAIT)


def test_that_a_file_that_is_closed_takes_its_workbench_along(window: MainWindow, fits: Fits) -> None:
    page = fits(model("module."), model())
    window.remove_tab(page.session.document)
    assert not window.tabs.count()


def test_that_a_worker_that_died_is_replaced_and_the_recipe_is_still_there(fits: Fits, qtbot: QtBot) -> None:
    page = fits(model("module."), model())
    page.session.accept(0)
    settled(page, qtbot)
    process = page.session._worker._process
    assert process is not None and process.popen is not None
    process.popen.kill()
    qtbot.waitUntil(lambda: page.session._worker._process is None, timeout=WAIT)
    page.session.set_tab("all")
    settled(page, qtbot)
    assert page.session.told["counts"]["match"] == 14


def test_that_a_target_that_is_not_there_is_told(fits: Fits, window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    torch.save(model(), tmp_path / "a.pth")
    page = window.workbenches.repair(str(tmp_path / "a.pth"), {"name": str(tmp_path / "gone.pth")})
    qtbot.waitUntil(lambda: page.session.state == "failed", timeout=WAIT)
    assert page.failed.isVisible()


def test_that_every_control_of_a_workbench_has_a_name(fits: Fits) -> None:
    page = fits({"state_dict": model("module.", fc="ffn.in")}, model())
    for kind in (QAbstractButton, QLineEdit):
        for control in page.findChildren(kind):
            if control.isVisible() and not isinstance(control.parent(), QLineEdit):
                assert control.accessibleName() or getattr(control, "text", str)(), control
    assert page.pairs.view.accessibleName()
    assert page.suggestions.list.accessibleName()


def test_that_the_commands_of_a_workbench_are_there(window: MainWindow, fits: Fits) -> None:
    page = fits(model("module."), model())
    page.session.accept(0)
    enabled = {name for name, action in window.actions_by_id.items() if action.isEnabled()}
    assert {"repair", "accept_safe", "strict", "next_difference", "find", "filter", "expand", "reload"} <= enabled
    assert "take" not in enabled


def test_that_a_head_of_another_size_is_repaired_with_the_keyboard_alone(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    page = fits(model(head=7), model(head=3))
    window.actions_by_id["next_difference"].trigger()
    settled(page, qtbot)
    assert window.focusWidget() is page.pairs.view
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Return)
    choices = page.pairs.why.choices
    assert window.focusWidget() is choices.list
    texts = [str(words) for words, _ in page.session.why["choices"]]
    while texts[choices.at] != "Keep the first 3 of 7 rows.":
        press(choices.list, qtbot, page, Qt.Key.Key_Down)
    assert page.head.preview.text() == "14 with this choice"
    press(choices.list, qtbot, page, Qt.Key.Key_Escape)
    assert window.focusWidget() is page.pairs.view
    assert page.session.told["preview"] is None
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Return)
    while texts[choices.at] != "Keep the first 3 of 7 rows.":
        press(choices.list, qtbot, page, Qt.Key.Key_Down)
    press(choices.list, qtbot, page, Qt.Key.Key_Return)
    assert page.session.problems == 0
    assert [step.op for step in page.session.document.recipe.steps] == ["rows"]


def test_that_what_is_missing_is_left_to_the_model_with_the_keyboard_alone(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model(), model() | {"head.bias": torch.zeros(3), "late.bias": torch.zeros(4)})
    session = page.session
    window.actions_by_id["next_difference"].trigger()
    settled(page, qtbot)
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Return)
    choices = page.pairs.why.choices
    texts = [str(words) for words, _ in session.why["choices"]]
    while not texts[choices.at].startswith("Leave it to the model"):
        press(choices.list, qtbot, page, Qt.Key.Key_Down)
        assert window.focusWidget() is choices.list
    assert session.told["counts"]["missing"] == 0
    press(choices.list, qtbot, page, Qt.Key.Key_Return)
    assert session.problems == 0
    assert sorted(session.document.recipe.head["target"]["allow_missing"]) == ["head.bias", "late.bias"]
    assert "2 may be missing" in page.banner.text()
    window.actions_by_id["undo"].trigger()
    settled(page, qtbot)
    assert session.problems == 2


def test_that_a_key_is_edited_in_place_with_a_check_while_one_types(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(
        {"model": model() | {"zz.oddly": torch.zeros(4)}, "ema": model()}, model() | {"norm.weight": torch.zeros(4)}
    )
    page.session.preview(-1)
    settled(page, qtbot)
    page.session.show_group("unexpected")
    settled(page, qtbot)
    window.actions_by_id["rename"].trigger()
    editor = page.pairs.editor
    assert editor is not None
    assert editor.text() == "zz.oddly"
    editor.setText("head.weight")
    qtbot.waitUntil(lambda: editor.says.text() != "", timeout=WAIT)
    assert editor.property("wrong")
    editor.setText("norm.weight")
    press(editor, qtbot, page, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.session.problems == 0, timeout=WAIT)
    assert page.pairs.editor is None
    assert window.focusWidget() is page.pairs.view
    assert page.session.document.recipe.source["state_dict"] == "model"


def test_that_all_selected_keys_are_dropped_as_one_step(window: MainWindow, fits: Fits, qtbot: QtBot) -> None:
    page = fits(model() | {"x.one": torch.zeros(2), "x.two": torch.zeros(3), "y": torch.zeros(2)}, model())
    page.session.preview(-1)
    settled(page, qtbot)
    page.session.show_group("unexpected")
    settled(page, qtbot)
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Delete)
    assert page.session.told["counts"]["dropped"] == 2
    assert page.session.problems == 1
    assert len(page.session.document.recipe.steps) == 1


def collided(page: WorkbenchPage, window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    """Carry out a recipe that gives all keys to two tensors each."""
    recipe = tmp_path / "both.toml"
    recipe.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "ema."\nwhen = "any"\n')
    window.editing.take_recipe(str(recipe))
    qtbot.waitUntil(lambda: page.session.collisions > 0, timeout=WAIT)
    settled(page, qtbot)


def test_that_keys_that_would_be_one_are_settled_with_the_keyboard_before_a_copy_is_saved(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    page = fits(model() | {f"ema.{key}": tensor for key, tensor in model().items()}, model())
    collided(page, window, qtbot, tmp_path)
    assert page.head.chips["collision"].text() == "Collide  28"
    assert page.banner.text().startswith("28 keys of the file would have the name of another: no copy can be saved")
    shown = rows(page)
    assert shown[0][0] == "Would have one name 28"
    assert shown[1:3] == [
        ("embed.weight", "embed.weight", "collides"),
        ("ema.embed.weight", "embed.weight", "collides"),
    ]
    assert not page.session.suggestions
    page.foot.save.click()  # does not save: it leads to the first of them
    settled(page, qtbot)
    assert not page.session.document.saving.running
    assert window.focusWidget() is page.pairs.view
    assert page.session.why["status"] == "collision"
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Return)
    choices = page.pairs.why.choices
    assert choices.others.text() == "The same for 13 others"
    press(choices.list, qtbot, page, Qt.Key.Key_Down)
    assert page.head.chips["collision"].text() == "Collide  28 → 0"
    press(choices.list, qtbot, page, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.session.is_done, timeout=WAIT)
    assert [step.op for step in page.session.document.recipe.steps] == ["drop", "strip"]
    assert page.session.document.failed_step is None
    assert page.foot.save.isEnabled()
    window.actions_by_id["undo"].trigger()
    qtbot.waitUntil(lambda: page.session.collisions == 28, timeout=WAIT)


def test_that_the_key_of_what_is_missing_is_typed_in_its_row(window: MainWindow, fits: Fits, qtbot: QtBot) -> None:
    content = model()
    content["zz.oddly"] = content.pop("head.weight")
    page = fits(content, model())
    page.session.preview(-1)
    settled(page, qtbot)
    page.session.show_group("missing")
    settled(page, qtbot)
    window.actions_by_id["rename"].trigger()
    editor = page.pairs.editor
    assert editor is not None
    assert "head.weight" in editor.accessibleName()
    editor.setText("zz.od")
    qtbot.waitUntil(lambda: "no key of this name" in editor.says.text(), timeout=WAIT)
    editor.setText("zz.oddly")
    press(editor, qtbot, page, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.session.problems == 0, timeout=WAIT)


def test_that_a_search_is_seen_against_the_target_while_one_types(window: MainWindow, fits: Fits, qtbot: QtBot) -> None:
    page = fits(model(fc="ffn.in") | {"ffn.in": torch.zeros(2)}, model())
    window.actions_by_id["find"].trigger()
    panel = page.find_panel
    panel.find_field.setText("ffn.in")
    panel.replace_field.setText("mlp.fc1")
    qtbot.waitUntil(panel.matches.isVisible, timeout=WAIT)
    settled(page, qtbot)
    assert (panel.matches.text(), panel.astray.text()) == ("12 will match the target", "1 without a target")
    assert page.head.preview.text() == "14 with this search"
    table = panel.preview.model
    effects = {table.index(row, 1).data(): table.index(row, 3).data() for row in range(table.rowCount())}
    assert effects["mlp.fc1"] == "no target key"
    assert effects["blocks.0.mlp.fc1.bias"] == "matches target"
    panel.back_requested.emit()
    settled(page, qtbot)
    assert page.head.preview.text() == ""


def test_that_a_search_keeps_to_what_fits_nothing_and_to_the_selected_rows(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(model() | {"old.embed.weight": torch.zeros(2), "old.b": torch.zeros(2)}, model())
    page.session.preview(-1)
    settled(page, qtbot)
    panel = page.find_panel
    window.actions_by_id["find"].trigger()
    panel.scope.setCurrentIndex(panel.scope.findData("unexpected"))
    panel.find_field.setText("embed")
    panel.replace_field.setText("e")
    qtbot.waitUntil(panel.add.isEnabled, timeout=WAIT)
    assert [row[1][-1][0] for row in panel.preview.model.rows] == [".weight"]
    assert panel.preview.model.rowCount() == 1
    panel.back_requested.emit()
    page.session.show_group("unexpected")
    settled(page, qtbot)
    press(page.pairs.view, qtbot, page, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: len(page.session.selection) == 2 and window.actions_by_id["rename"].isEnabled())
    window.actions_by_id["rename"].trigger()
    qtbot.waitUntil(lambda: panel.isVisible() and panel.scope.currentData() == "rows", timeout=WAIT)
    assert panel.find_field.text() == "old"
    panel.replace_field.setText("new")
    qtbot.waitUntil(panel.add.isEnabled, timeout=WAIT)
    panel.accept()
    qtbot.waitUntil(lambda: len(page.session.document.recipe.steps) == 1, timeout=WAIT)
    settled(page, qtbot)
    page.session.set_tab("all")
    settled(page, qtbot)
    assert {row[0] for row in rows(page) if row[2] == "unexpected"} == {"old.embed.weight", "old.b"}


# A model and its average


def both(**more: Any) -> dict[str, Any]:
    average = model("module.", fc="ffn.in") | {"module.decay": torch.zeros(1)}
    return {"epoch": 1, "model": model("module.", fc="ffn.in"), "ema": average, **more}


def test_that_a_model_and_its_average_are_repaired_in_one_go(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    content = both(other={"conv.weight": torch.zeros(7, 7)})
    page = fits(content, model())
    bar, document = page.head.alike, page.session.document
    assert bar.said.text() == "Also fits: ema (15 keys, has module.decay)"
    assert [button.text() for button in bar.front.buttons()] == ["model", "ema"]
    press(bar.repair_all, qtbot, page, Qt.Key.Key_Space)
    assert document.recipe.source["state_dict"] == ["model", "ema"]
    assert "for model and ema" in page.recipe._guards.text()
    assert bar.repair_all.isChecked()
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert page.session.problems == 0
    assert bar.said.text() == "Repaired alike: ema (15 keys, 14 of 14 match, has decay)"
    assert page.foot.left.text() == "1 problem in ema left"
    assert "Left: 1 problem in ema" in page.banner.text()
    press(bar.front.buttons()[1], qtbot, page, Qt.Key.Key_Space)
    assert page.head.a.about.text().startswith("15 tensors under ema")
    assert page.session.problems == 1
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return)
    assert [one["problems"] for one in page.session.told["alike"]] == [0, 0]
    document.save(str(tmp_path / "out.pth"), overwrite=False)
    qtbot.waitUntil(lambda: not document.saving.running, timeout=WAIT)
    out = torch.load(tmp_path / "out.pth")
    for name in ("model", "ema"):
        assert out[name].keys() == model().keys()
        assert torch.equal(out[name]["embed.weight"], content[name]["module.embed.weight"])
    assert (out["epoch"], out["other"].keys()) == (1, content["other"].keys())
    receipt = document.saving.written.receipt  # type: ignore[union-attr]
    assert (receipt["verified"]["target"], receipt["written"]) == (True, 28)
    assert [check.partition(" of ")[0] for check in receipt["checks"] if "b.pth" in check] == [
        '"model" has the 14 keys',
        '"ema" has the 14 keys',
    ]
    assert any("model" in note and "ema" in note for note in receipt["notes"])


def test_that_repairing_the_other_one_too_is_an_edit_that_undo_takes_back(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits(both(), model())
    bar, document = page.head.alike, page.session.document
    press(bar.repair_all, qtbot, page, Qt.Key.Key_Space)
    press(bar.front.buttons()[1], qtbot, page, Qt.Key.Key_Space)
    assert page.foot.undo.text() == "Undo Repair ema too"
    window.actions_by_id["undo"].trigger()
    settled(page, qtbot)
    assert document.recipe.is_empty
    assert not bar.repair_all.isChecked()
    page.session.accept(next(at for at, one in enumerate(page.session.suggestions) if one["verb"] == "Strip"))
    settled(page, qtbot)
    assert document.recipe.source["state_dict"] == "ema"
    assert [button.isEnabled() for button in bar.front.buttons()] == [False, True]


def test_that_repairing_the_other_one_too_keeps_what_was_accepted_and_unwraps_neither(fits: Fits, qtbot: QtBot) -> None:
    page = fits(both(), model())
    bar, document = page.head.alike, page.session.document
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert document.recipe.steps[0].op == "unwrap"
    assert bar.said.text() == "Also fits: ema (15 keys, 14 of 14 would match, has decay)"
    press(bar.repair_all, qtbot, page, Qt.Key.Key_Space)
    assert [step.op for step in document.recipe.steps] == ["strip", "rename"]
    assert (page.session.problems, document.failed_step) == (0, None)
    assert bar.said.text() == "Repaired alike: ema (15 keys, 14 of 14 match, has decay)"


def test_that_what_one_of_them_does_not_stand_is_refused_and_told(fits: Fits, qtbot: QtBot) -> None:
    average = model("module.") | {"embed.weight": torch.zeros(5, 4)}
    page = fits({"model": model("module."), "ema": average}, model())
    session = page.session
    session.accept(next(at for at, one in enumerate(session.suggestions) if one["verb"] == "Strip"))
    settled(page, qtbot)
    assert not page.head.alike.repair_all.isEnabled()
    assert "embed.weight" in page.head.alike.repair_all.toolTip()
    session.repair_all(True)
    settled(page, qtbot)
    assert session.document.recipe.source["state_dict"] == "model"
    assert "ema" in page.banner.text()


def test_that_a_file_with_one_model_says_nothing_of_others(fits: Fits) -> None:
    assert fits(model("module."), model()).head.alike.isHidden()


# An adapter and its model


def adapted() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    base = {f"layers.{i}.q.weight": torch.randn(6, 5) for i in range(2)} | {"head.weight": torch.randn(3, 6)}
    adapter: dict[str, torch.Tensor] = {}
    for i in range(2):
        name = f"base_model.model.layers.{i}.q"
        adapter |= {f"{name}.lora_A.weight": torch.randn(2, 5), f"{name}.lora_B.weight": torch.randn(6, 2)}
        adapter[f"{name}.alpha"] = torch.tensor(4.0)
    return base, adapter


def test_that_an_adapter_is_merged_into_its_model_with_one_click(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    base, adapter = adapted()
    page = fits(base, adapter)
    document = page.session.document
    assert "An adapter: its 2 pairs change 2 tensors of this file" in page.banner.text()
    next(one for one in page.banner.findChildren(QAbstractButton) if one.text() == "Merge into this file").click()
    settled(page, qtbot)
    assert [step.op for step in document.recipe.steps] == ["take", "merge_lora"]
    assert not page.session.suggestions
    assert page.session.is_done
    document.save(str(tmp_path / "out.pth"), overwrite=False)
    qtbot.waitUntil(lambda: not document.saving.running, timeout=WAIT)
    out = torch.load(tmp_path / "out.pth")
    assert list(out) == list(base)
    for i in range(2):
        name = f"base_model.model.layers.{i}.q"
        product = adapter[f"{name}.lora_B.weight"].double() @ adapter[f"{name}.lora_A.weight"].double()
        expected = (base[f"layers.{i}.q.weight"].double() + 4.0 / 2 * product).float()
        torch.testing.assert_close(out[f"layers.{i}.q.weight"], expected, rtol=0, atol=1e-7)
    assert document.saving.written.receipt["verified"]["target"]  # type: ignore[union-attr]


def test_that_accept_all_safe_merges_an_adapter_as_one_edit(fits: Fits, qtbot: QtBot) -> None:
    page = fits(*adapted())
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert [step.op for step in page.session.document.recipe.steps] == ["take", "merge_lora"]
    assert page.session.is_done


def test_that_an_adapter_whose_prefix_is_another_is_mended_and_can_be_merged_from_there(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    base, adapter = adapted()
    wrong = {key.replace("base_model.model.", "base_model.model.model."): value for key, value in adapter.items()}
    page = fits(wrong, base)
    assert "should begin with" in page.banner.text()
    assert page.session.told["keys"] == 6
    press(page.suggestions.list, qtbot, page, Qt.Key.Key_Return)
    assert page.session.problems == 0
    page.merge_requested.emit()
    other = window.workbenches.page
    assert other is not None and other is not page
    settled(other, qtbot)
    assert other.session.path.endswith("b.pth")
    assert any(one["step"]["op"] == "merge_lora" for one in other.session.suggestions)


class Runs:
    """What a pickle asks Python to call."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("true",)


def buttons(page: WorkbenchPage, side: str) -> list[QPushButton]:
    return [one for one in page.files.banners[side].findChildren(QPushButton) if one.isVisible() and one.text()]


def test_that_a_file_to_repair_that_would_run_a_program_is_told_as_in_its_own_tab(
    window: MainWindow, fits: Fits, qtbot: QtBot
) -> None:
    page = fits({"model": model("module."), "hook": Runs()}, model())
    a, b = page.files.banners.values()
    qtbot.waitUntil(a.isVisible, timeout=WAIT)
    own = window.tabs.pages()[0]
    qtbot.waitUntil(lambda: "run a program" in own.banner.text(), timeout=WAIT)
    assert a.text() == f"A: {own.banner.text()}"
    assert not b.isVisible()
    assert page.session.suggestions  # and it is repaired as any other
    qtbot.waitUntil(lambda: bool(buttons(page, "a")), timeout=WAIT)  # Qt shows it in its next turn
    buttons(page, "a")[0].click()
    assert window.current_page() is own


def test_that_a_damaged_target_that_would_run_a_program_is_told_with_its_side_and_opened_from_there(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    torch.save(model("module."), tmp_path / "a.pth")
    torch.save({"model": model(), "hook": Runs()}, tmp_path / "whole.pth")
    bad = without_storages(tmp_path / "whole.pth", "1")
    page = window.workbenches.repair(str(tmp_path / "a.pth"), {"name": str(bad)})
    settled(page, qtbot)
    a, b = page.files.banners.values()
    qtbot.waitUntil(lambda: "run a program" in b.text(), timeout=WAIT)
    assert b.text().startswith("B: This file asks Python to run a program when it is loaded.")
    assert "the file is damaged besides" in b.text()
    assert not a.isVisible()
    qtbot.waitUntil(lambda: bool(buttons(page, "b")), timeout=WAIT)  # Qt shows it in its next turn
    buttons(page, "b")[0].click()
    session = window.current_session()
    assert session is not None
    assert session.path == str(bad)


def test_that_damage_is_told_of_either_file_and_once_only(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    torch.save(model("module."), tmp_path / "whole.pth")
    bad = without_storages(tmp_path / "whole.pth", "1")
    page = window.workbenches.repair(str(bad), {"name": str(bad)})
    settled(page, qtbot)
    a, b = page.files.banners.values()
    qtbot.waitUntil(lambda: a.isVisible() and b.isVisible(), timeout=WAIT)
    own = window.tabs.pages()[0].banner.text()
    assert own.startswith("This file is damaged.")
    assert (a.text(), b.text()) == (f"A: {own}", f"B: {own}")
    next(one for one in a.findChildren(QAbstractButton) if one.accessibleName() == "Dismiss").click()
    assert a.isHidden()
    page.session.document.contents_changed.emit()  # nothing more is known
    assert a.isHidden()
    assert b.isVisible()


def test_that_nothing_is_said_of_files_that_are_whole_nor_of_an_earlier_target(
    window: MainWindow, fits: Fits, qtbot: QtBot, tmp_path: Path
) -> None:
    page = fits(model("module."), {"model": model(), "hook": Runs()})
    a, b = page.files.banners.values()
    qtbot.waitUntil(b.isVisible, timeout=WAIT)
    assert not a.isVisible()
    torch.save(model(), tmp_path / "c.pth")
    page.session.fit_to({"name": str(tmp_path / "c.pth")})
    qtbot.waitUntil(lambda: bool(page.session.target_scan), timeout=WAIT)
    assert not a.isVisible()
    assert not b.isVisible()


def test_that_keys_for_which_no_step_is_proposed_are_told_below_the_suggestions(fits: Fits, qtbot: QtBot) -> None:
    letters = random.Random(7)
    names = [".".join(["".join(letters.choices("abcdefgh", k=9)) for _ in range(2)]) for _ in range(3200)]
    # (each is of a shape of its own: so they are paired)
    old = {f"module.{name}": torch.zeros(1).expand(at) for at, name in enumerate(names[:1600], 1)}
    page = fits(old, json.dumps({name: [at] for at, name in enumerate(names[1600:], 1)}))
    panel = page.suggestions
    assert [card.told["verb"] for card in panel.cards] == ["Strip"]
    assert panel.cautions.isVisible()
    assert panel.cautions.text() == "1,600 keys to be renamed have no regular pattern."


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_that_another_state_dict_of_the_file_is_chosen_where_the_file_is_changed(fits: Fits, qtbot: QtBot) -> None:
    other = {f"conv{i}.weight": torch.zeros(7, 7) for i in range(9)}
    page = fits({"g": model("module."), "d": other}, model())
    assert "under g" in page.head.a.about.text()
    page.head.a.change.click()
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    assert [action.text() for action in menu.actions() if action.text()] == ["d (9 tensors)", "Another &file…"]
    QTest.keyClick(menu, Qt.Key.Key_Down)
    QTest.keyClick(menu, Qt.Key.Key_Return)
    settled(page, qtbot)
    assert "under d" in page.head.a.about.text()
