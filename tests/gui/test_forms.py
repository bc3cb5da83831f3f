"""The forms of the operations: every step can be filled in, comes back as it was, and is refused in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from sdviewer.core import text
from sdviewer.gui.dialogs.forms import FORMS, form_of
from sdviewer.gui.dialogs.forms.form import ASKED
from sdviewer.gui.dialogs.step_dialog import StepDialog
from sdviewer.gui.editing import numbered
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.session import Session
from sdviewer.repair.operations import OPERATIONS, operation_from_step
from tests.gui.conftest import Opened, expanded, front
from tests.gui.test_editing import in_dialog, names, select

STEPS: tuple[dict[str, Any], ...] = (
    {"op": "split", "from": "{x}.qkv", "into": ["{x}.q", "", "{x}.v"], "dim": 1, "sizes": [2, 1, 1], "groups": 2},
    {"op": "split", "from": "{x}.qkv", "into": ["{x}.q", "{x}.v"]},
    {"op": "fuse", "from": ["{x}.q", "", "{x}.v"], "into": "{x}.qkv", "dim": -1},
    {"op": "stack", "from": "{x}.{e}.w", "over": "e", "into": "{x}.w"},
    {"op": "unstack", "from": "{x}.w", "into": "{x}.{e}.w", "dim": 1},
    {"op": "transpose"},
    {"op": "transpose", "dims": [0, -1], "keys": ["a.*"], "why": "Linear and Conv1D"},
    {"op": "permute", "order": [2, 0, 1]},
    {"op": "reshape", "shape": [12, -1]},
    {"op": "reshape", "shape": []},
    {"op": "flatten", "start": 1, "end": 2},
    {"op": "squeeze", "dims": [0]},
    {"op": "unsqueeze", "dim": 0},
    {"op": "rows", "dim": 1, "slice": [0, 100]},
    {"op": "rows", "take": [2, 0, -1]},
    {"op": "rows", "delete": [3]},
    {"op": "rows", "reverse": True},
    {"op": "rows", "pad": 64, "fill": "mean", "at": 3},
    {"op": "rows", "pad": 64, "fill": 0.5},
    {"op": "rows", "size": 1000, "fill": "mean", "dim": 1},
    {"op": "resize", "to": [24, 24], "prefix": 1, "grid": [14, 14], "mode": "bilinear", "sharp": True},
    {"op": "resize", "to": [8, 8], "of": "image"},
    {"op": "channels", "to": 1, "keys": ["conv1.weight"]},
    {"op": "reorder", "order": [1, 0], "groups": 4, "dim": 1},
    {"op": "permute_rope", "heads": 32, "to": "pairs"},
    {"op": "merge_lora", "scale": 0.5, "alpha": 16.0, "rank": 8, "transposed": True},
    {"op": "take", "from": "b.pth", "keys": ["wte.weight"], "rows": "missing"},
    {"op": "add", "key": "a.b", "shape": [3, 4], "fill": "normal", "mean": 0.5, "std": 0.02, "seed": 7},
    {"op": "add", "key": "a.b", "like": "c[0]", "fill": 1, "dtype": "float16", "after": "c"},
    {"op": "broadcast", "from": "e.weight", "to": "b.{i}.e.weight", "tied": True},
    {"op": "untie", "keys": ["a"]},
    {"op": "edit", "key": "a", "at": [0, -1], "value": 0.1, "round": True},
    {"op": "edit", "key": "a", "value": "nan"},
    {"op": "edit", "key": "a", "values": [1, 2.5, "inf"]},
    {"op": "clean", "nan": 1.0, "posinf": 3.0},
    {"op": "scale", "factor": 0.5},
    {"op": "prune"},
    {"op": "weight_norm", "to": "new"},
    {"op": "spectral_norm"},
    {"op": "metadata", "set": {"format": "pt", "long": "two\nlines", "quoted": '"q"'}, "remove": ["author"]},
    {"op": "cast", "dtype": "float16"},
    {"op": "take", "from": "b.pth"},
    {"op": "take", "from": "/b/c.pth", "state_dict": "ema", "keys": ["a.**"], "to": [["a.**", "**"]]},
    {"op": "clone"},
    {"op": "tie", "from": "a", "to": ["b"]},
)


@pytest.fixture
def session(opened: Opened, checkpoint: Path) -> Session:
    return opened(checkpoint)


def test_that_every_operation_has_a_form() -> None:
    assert {form.op for form in FORMS} == {operation.op for operation in OPERATIONS}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
def test_that_a_step_opens_in_its_form_and_comes_back_as_it_was(
    window: MainWindow, session: Session, step: dict[str, Any]
) -> None:
    form = form_of(step["op"])
    assert form is not None
    dialog = StepDialog(window, session, form, operation_from_step(step).to_step())
    assert operation_from_step(dialog._table()) == operation_from_step(step)
    dialog.reject()
    dialog.deleteLater()


def test_that_only_what_belongs_to_the_choice_above_is_asked_for_and_told(window: MainWindow, session: Session) -> None:
    form = form_of("rows")
    assert form is not None
    dialog = StepDialog(window, session, form, {"op": "rows", "take": [0]})
    dialog.show()
    assert dialog.fields["take"].widget.isVisible()
    assert not dialog.fields["slice"].widget.isVisible()
    dialog.fields[f"{ASKED}what"].set_value("pad")
    dialog.fields["pad"].set_value(2)
    assert not dialog.fields["take"].widget.isVisible()
    assert dialog._table() == {"op": "rows", "pad": 2}
    dialog.reject()
    dialog.deleteLater()


def test_that_shapes_are_shown_before_and_after_and_a_refusal_in_its_place(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    expanded(session, qtbot)
    row = names(window).index("head") + 1
    page = front(window)
    page.tree.select_row(row)
    qtbot.waitUntil(lambda: session.facts.get("key") == "module.head.weight")

    def fill(dialog: StepDialog) -> None:
        assert dialog.fields["keys"].value() == ["module.head.weight"]
        dialog.fields["shape"].set_value([5, 5])
        qtbot.waitUntil(lambda: "has 25 elements" in dialog._wrong.text())
        assert not dialog.add.isEnabled()
        dialog.fields["shape"].set_value([2, -1])
        qtbot.waitUntil(dialog.add.isEnabled)
        assert dialog.preview.words.text() == "1 tensor changes"
        assert dialog.preview.took.text().startswith("evaluated on 10 keys")
        cells = [str(dialog.preview.model.index(0, column).data()) for column in range(4)]
        assert cells == [
            "module.head.weight",
            "module.head.weight",
            "3×4 float32 → 2×6 float32",
            "reshaped",
        ]
        dialog.accept()

    in_dialog(StepDialog, fill)
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["step_reshape"].trigger()
    assert session.recipe.steps[0].table == {"op": "reshape", "shape": [2, -1], "keys": ["module.head.weight"]}


def test_that_several_selected_rows_are_what_a_cast_is_for(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    expanded(session, qtbot)
    select(window, session, qtbot, "head")

    def fill(dialog: StepDialog) -> None:
        assert dialog.fields["keys"].value() == ["module.head.**"]
        dialog.fields["dtype"].set_value("bfloat16")
        qtbot.waitUntil(dialog.add.isEnabled)
        assert dialog.preview.words.text() == "2 tensors change"
        assert dialog.preview.model.index(0, 2).data() == "3×4 float32 → bfloat16"
        dialog.accept()

    in_dialog(StepDialog, fill)
    with qtbot.waitSignal(session.recipe_changed):
        window.actions_by_id["step_cast"].trigger()
    assert session.edit["computed"] == 2


def test_that_a_new_tensor_and_copies_are_shown_for_what_they_are(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    def shown(op: str, step: dict[str, Any]) -> list[list[str]]:
        form = form_of(op)
        assert form is not None
        dialog = StepDialog(window, session, form, {"op": op, **step})
        qtbot.waitUntil(dialog.add.isEnabled)
        model = dialog.preview.model
        rows = [[str(model.index(row, column).data()) for column in range(4)] for row in range(model.rowCount())]
        dialog.reject()
        dialog.deleteLater()
        return rows

    assert shown("add", {"key": "x", "shape": [2], "fill": "ones"}) == [["", "x", "2 float32", "added"]]
    copies = shown("broadcast", {"from": "module.head.bias", "to": "module.blocks.{i}.extra"})
    assert len(copies) == 4
    assert copies[0] == ["module.head.bias", "module.blocks.0.extra", "3 float32", "copied"]
    cut = shown("split", {"from": "module.head.weight", "into": ["q", "k", "v"]})
    assert cut[1] == ["module.head.weight", "k", "3×4 float32 → 1×4 float32", "cut"]


def test_that_a_cut_begins_with_all_blocks_of_the_selected_tensor() -> None:
    assert numbered("blocks.3.attn.0.qkv") == "blocks.{i}.attn.{j}.qkv"
    assert numbered("head.weight") == "head.weight"
    assert numbered("a.{x}.0").startswith("re.full:")


def _menus(menu: QMenu) -> Iterator[QMenu]:
    yield menu
    for action in menu.actions():
        inside = action.menu()
        if isinstance(inside, QMenu):
            yield from _menus(inside)


def test_that_the_repair_menu_is_short_and_its_letters_are_one_commands_each(window: MainWindow) -> None:
    top = next(action.menu() for action in window.menuBar().actions() if action.text() == "&Repair")
    assert isinstance(top, QMenu)
    menus = list(_menus(top))
    assert len(menus) == 5
    steps = [action for menu in menus for action in menu.actions() if action in window.actions_by_id.values()]
    assert sum(action is window.actions_by_id[f"step_{form.op}"] for form in FORMS for action in steps) == len(FORMS)
    for menu in menus:
        shown = [action for action in menu.actions() if not action.isSeparator()]
        assert len(shown) <= 16
        letters = [action.text().partition("&")[2][:1].lower() for action in shown]
        assert "" not in letters
        assert len(set(letters)) == len(letters), letters
    assert all(len(text.visible(form.title)) < 40 for form in FORMS)
    QApplication.processEvents()
