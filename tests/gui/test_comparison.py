"""Two checkpoints side by side, in the window with its real workers."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication, QLabel, QMenu, QPushButton
from pytestqt.qtbot import QtBot

from sdviewer.core.aligned import AlignedSheet, Group, Leaf, Side, align, pack
from sdviewer.gui.actions import ACTIONS
from sdviewer.gui.comparison import ComparisonSession, short_names
from sdviewer.gui.dialogs.compare_dialog import CompareDialog
from sdviewer.gui.dialogs.partner_dialog import PartnerDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.compare_model import (
    CHANGE,
    MARK,
    NAME_A,
    NAME_B,
    SHAPE_A,
    SORT_KEYS,
    CompareModel,
    percent,
)
from sdviewer.gui.panels.compare.chips import StatusChips
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.compare.pairs_panel import PairsPanel
from sdviewer.repair.operations import Drop
from tests.gui.conftest import Opened, without_storages, write_checkpoint

WAIT = 60_000


def state_dict(blocks: int = 5) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(2)
    tensors = {"embed.weight": torch.randn(6, 4, generator=made), "embed.bias": torch.randn(4, generator=made)}
    for block in range(blocks):
        tensors[f"blocks.{block}.fc.weight"] = torch.randn(4, 4, generator=made)
        tensors[f"blocks.{block}.fc.bias"] = torch.randn(4, generator=made)
    tensors["head.weight"] = torch.randn(3, 4, generator=made)
    return tensors


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A base and a fine-tuned model: blocks 3 and 4 moved, another head, a bias less and one more."""
    base, tuned = state_dict(), state_dict()
    for block in (3, 4):
        tuned[f"blocks.{block}.fc.weight"] = tuned[f"blocks.{block}.fc.weight"] * (1 + block / 10)
    tuned["head.weight"] = torch.ones(7, 4)
    del tuned["embed.bias"]
    tuned["head.bias"] = torch.zeros(7)
    paths = tmp_path / "net_base.pth", tmp_path / "net_tuned.pth"
    torch.save(base, paths[0])
    torch.save(tuned, paths[1])
    return paths


Compared = Callable[..., ComparePage]


@pytest.fixture
def compared(window: MainWindow, qtbot: QtBot) -> Compared:
    """Compares two files and waits until all pairs are."""

    def compare(a: Path, b: Path, recipe: str = "") -> ComparePage:
        page = window.comparisons.compare(str(a), str(b), recipe)
        settled(page, qtbot)
        return page

    return compare


def settled(page: ComparePage, qtbot: QtBot) -> None:
    session = page.session

    def done() -> bool:
        if session.state == "failed":
            return True
        return session.is_over and bool(session.facts) and not session.jobs.busy()

    qtbot.waitUntil(done, timeout=WAIT)


def rows(page: ComparePage) -> list[tuple[str, str]]:
    """The names in both columns, from the top."""
    model = page.pairs.model
    return [
        (str(model.index(row, NAME_A).data()), str(model.index(row, NAME_B).data())) for row in range(model.rowCount())
    ]


def row_of(page: ComparePage, name: str) -> int:
    return next(row for row, names in enumerate(rows(page)) if name in names)


def current(page: ComparePage) -> str:
    index = page.pairs.view.currentIndex()
    a, b = rows(page)[index.row()]
    return a or b


def said(window: MainWindow) -> str:
    return " ".join(label.text() for label in window.status.findChildren(QLabel))


def test_that_two_files_stand_side_by_side_with_counts_and_gaps(
    window: MainWindow, compared: Compared, files: tuple[Path, Path]
) -> None:
    page = compared(*files)
    assert window.windowTitle() == "base ↔ tuned — sdviewer"
    names = rows(page)
    assert names[:3] == [("embed", "embed"), ("weight", "weight"), ("bias", "")]
    assert names[-2:] == [("head.weight", "head.weight"), ("", "head.bias")]
    chips = page.pairs.chips
    assert chips.all.text() == "All  14"
    assert chips.chips["changed"].text() == "Changed  2"
    assert chips.chips["identical"].text() == "Identical  9"
    assert chips.chips["shape"].text() == "Shape differs  1"
    assert not chips.chips["only_a"].isHidden()
    assert chips.chips["dtype"].isHidden()
    assert "All 14 pairs compared" in said(window)
    assert "Both opened without running anything" in said(window)
    assert page.pairs.cards.a.name.text() == "net_base.pth"


def test_that_blocks_that_did_not_change_are_folded_and_those_that_did_show_how_much(
    compared: Compared, files: tuple[Path, Path]
) -> None:
    page = compared(*files)
    model = page.pairs.model
    fold = row_of(page, "0 – 2")
    assert model.index(fold, MARK).data() == "identical"
    assert model.index(row_of(page, "4"), CHANGE).data().endswith("%")
    assert model.limit == pytest.approx(0.4)


def test_that_the_model_keeps_qts_rules(compared: Compared, files: tuple[Path, Path], qtbot: QtBot) -> None:
    page = compared(*files)
    tester = QAbstractItemModelTester(page.pairs.model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    session = page.session
    for act in (session.collapse_all, session.expand_all):
        with qtbot.waitSignal(session.rows_changed):
            act()
    assert tester.model() is page.pairs.model


def test_that_a_row_is_a_sentence_for_a_screen_reader(compared: Compared, files: tuple[Path, Path]) -> None:
    page = compared(*files)
    model = page.pairs.model
    sentence = model.sentence(model.node(row_of(page, "head.weight")))
    assert sentence == "head.weight, shapes 3 by 4 and 7 by 4, shapes differ, level 1"
    folded = model.sentence(model.node(row_of(page, "0 – 2")))
    assert "module of 6 pairs, identical" in folded
    assert page.pairs.map.accessibleDescription().endswith("of the rows that are shown differ")


def test_that_a_chip_shows_only_its_pairs_and_all_shows_the_tree_again(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    before = rows(page)
    with qtbot.waitSignal(page.session.filtered):
        page.pairs.chips.chips["shape"].click()
    assert rows(page) == [("head.weight", "head.weight")]
    assert page.pairs.place.text() == "1 of 14"
    with qtbot.waitSignal(page.session.filtered):
        page.pairs.chips.all.click()
    assert rows(page) == before
    assert page.pairs.chips.all.isChecked()


def test_that_a_filter_looks_at_both_sides_and_says_when_it_cannot(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    with qtbot.waitSignal(page.session.filtered, check_params_cb=lambda matched, error: matched == 1):
        page.pairs.filter.setText("head.bias")
    with qtbot.waitSignal(page.session.filtered, check_params_cb=lambda matched, error: bool(error)):
        page.pairs.filter.setText("std:>1")
    assert page.pairs.filter.property("wrong") is True
    with qtbot.waitSignal(page.session.filtered, check_params_cb=lambda matched, error: matched == 0):
        page.pairs.filter.setText("nowhere")
    page.pairs.show_all()
    qtbot.waitUntil(lambda: len(rows(page)) > 5)


def test_that_f7_goes_from_difference_to_difference_and_back(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    with qtbot.waitSignal(page.session.rows_changed):
        page.session.collapse_all()
    page.pairs.view.setCurrentIndex(page.pairs.model.index(0, 0))
    seen = []
    for _ in range(3):
        with qtbot.waitSignal(page.session.reveal_requested):
            window.actions_by_id["next_difference"].trigger()
        seen.append(page.session.selected)
    assert seen == sorted(set(seen))
    assert len(seen) == 3
    with qtbot.waitSignal(page.session.reveal_requested):
        window.actions_by_id["previous_difference"].trigger()
    assert page.session.selected == seen[1]


def test_that_hiding_what_is_alike_leaves_what_differs(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    with qtbot.waitSignal(page.session.filtered, check_params_cb=lambda matched, error: matched == 5):
        window.actions_by_id["hide_alike"].trigger()
    assert not any("0 – 2" in names for names in rows(page))
    with qtbot.waitSignal(page.session.filtered, check_params_cb=lambda matched, error: matched == -1):
        window.actions_by_id["hide_alike"].trigger()
    assert any("0 – 2" in names for names in rows(page))


def test_that_a_click_on_a_head_sorts_and_the_third_one_gives_file_order(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    before = rows(page)
    head = page.pairs.view.horizontalHeader()
    with qtbot.waitSignal(page.session.rows_changed):
        head.sectionClicked.emit(CHANGE)
    assert page.pairs.order.text() == "Most changed"
    assert rows(page).index(("4", "4")) < rows(page).index(("3", "3"))
    with qtbot.waitSignal(page.session.rows_changed):
        head.sectionClicked.emit(CHANGE)
    with qtbot.waitSignal(page.session.rows_changed):
        head.sectionClicked.emit(CHANGE)
    assert rows(page) == before
    assert page.pairs.order.text() == "File order"
    assert len(SORT_KEYS) == page.pairs.model.columnCount()


def test_that_a_and_b_are_swapped(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    window.actions_by_id["swap"].trigger()
    settled(page, qtbot)
    assert window.windowTitle() == "tuned ↔ base — sdviewer"
    assert page.pairs.cards.a.name.text() == "net_tuned.pth"
    assert window.tabs.tabText(0) == "tuned ↔ base"
    assert page.pairs.model.index(row_of(page, "head.weight"), SHAPE_A).data() == "7×4"


def test_that_the_selected_pair_is_shown_in_detail_and_a_module_in_numbers(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    session = page.session
    assert session.sheet is not None
    wanted = session.sheet.columns["pair"].tolist().index(10)
    session.reveal(wanted)
    qtbot.waitUntil(lambda: session.facts.get("row") == wanted and page.pair.isVisible())
    module = row_of(page, "blocks")
    page.pairs.view.setCurrentIndex(page.pairs.model.index(module, 0))
    qtbot.waitUntil(lambda: page.summary.isVisible())
    assert page.summary.words.text().startswith("10 pairs · together changed by")


def test_that_a_pair_is_made_by_hand_and_broken_again(
    window: MainWindow, compared: Compared, tmp_path: Path, qtbot: QtBot
) -> None:
    a, b = state_dict(), state_dict()
    b["neck.kernel"] = b.pop("head.weight")
    torch.save(a, tmp_path / "a.pth")
    torch.save(b, tmp_path / "b.pth")
    page = compared(tmp_path / "a.pth", tmp_path / "b.pth")
    page.pairs.view.setCurrentIndex(page.pairs.model.index(row_of(page, "head.weight"), 0))
    qtbot.waitUntil(lambda: page.session.facts.get("key_a") == "head.weight")

    def choose() -> None:
        dialog = next(w for w in QApplication.topLevelWidgets() if isinstance(w, PartnerDialog) and w.isVisible())
        qtbot.waitUntil(lambda: dialog._model.rowCount() > 0)
        assert dialog._model.hits[0].words == "neck.kernel"
        qtbot.keyClick(dialog.field, Qt.Key.Key_Return)

    QTimer.singleShot(0, choose)
    window.actions_by_id["pair_by_hand"].trigger()
    qtbot.waitUntil(lambda: ("head.weight", "neck.kernel") in rows(page), timeout=WAIT)
    settled(page, qtbot)
    row = row_of(page, "neck.kernel")
    assert page.pairs.model.by_hand(page.pairs.model.node(row))
    page.pairs.view.setCurrentIndex(page.pairs.model.index(row, 0))
    qtbot.waitUntil(lambda: page.session.has_pair and page.session.facts.get("key_b") == "neck.kernel")
    window.actions_by_id["break_pair"].trigger()
    qtbot.waitUntil(lambda: ("head.weight", "neck.kernel") not in rows(page), timeout=WAIT)


def test_that_a_summary_is_copied_and_a_table_written(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(*files)
    QApplication.clipboard().clear()
    window.actions_by_id["copy_summary"].trigger()
    qtbot.waitUntil(lambda: "blocks.4.fc.weight" in QApplication.clipboard().text())
    assert QApplication.clipboard().text().startswith("net_base.pth → net_tuned.pth: 9 identical, 2 changed")
    out = files[0].with_name("table.csv")
    monkeypatch.setattr("sdviewer.gui.comparisons.choose_place", lambda *_: str(out))
    window.actions_by_id["export_report"].trigger()
    qtbot.waitUntil(out.exists)
    assert len(out.read_text().splitlines()) == 15


def test_that_a_prefix_difference_is_told_and_matching_by_name_alone_is_offered(
    compared: Compared, tmp_path: Path, qtbot: QtBot
) -> None:
    torch.save(state_dict(), tmp_path / "a.pth")
    torch.save({f"module.{key}": value for key, value in state_dict().items()}, tmp_path / "b.pth")
    page = compared(tmp_path / "a.pth", tmp_path / "b.pth")
    assert page.pairs.matching.text() == "Match by name, prefix exchanged"
    assert page.banner.text().startswith("A and B hold the same tensors.")
    menu = QMenu()
    page.pairs.fill_match_menu(menu)
    by_name = next(action for action in menu.actions() if action.text() == "By name")
    by_name.trigger()
    qtbot.waitUntil(lambda: page.pairs.chips.chips["only_a"].text() == "Only in A  13", timeout=WAIT)


def test_that_one_file_in_two_containers_is_told(compared: Compared, tmp_path: Path) -> None:
    shapes = {"fc.weight": (2, 3), "fc.bias": (3,)}
    b = write_checkpoint(tmp_path / "b.safetensors", shapes)
    tensors = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "a.pth")
    page = compared(tmp_path / "a.pth", b)
    assert page.banner.text().startswith(
        "A and B hold the same tensors in two containers, PyTorch zip and safetensors."
    )


def test_that_a_value_of_one_side_says_which_and_the_tree_begins_above_it(compared: Compared, tmp_path: Path) -> None:
    blocks = {f"h.{i}.{name}.weight": torch.ones(2) * i for i in range(70) for name in "abc"}
    torch.save({"model": blocks, "epoch": 3}, tmp_path / "a.pt")
    torch.save({"model": {key: tensor + 1 for key, tensor in blocks.items()}}, tmp_path / "b.pt")
    page = compared(tmp_path / "a.pt", tmp_path / "b.pt")
    model = page.pairs.model
    assert page.pairs.view.currentIndex().row() == 0
    epoch = row_of(page, "epoch")
    assert model.index(epoch, CHANGE).data() == "only in A"
    assert "only in A" in model.sentence(model.node(epoch))


class Call:
    """What a pickle asks Python to call."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("true",)


def test_that_a_file_that_would_run_a_program_is_told_with_its_side(
    compared: Compared, files: tuple[Path, Path], tmp_path: Path, qtbot: QtBot
) -> None:
    torch.save({"model": {"w": torch.ones(3)}, "x": Call()}, tmp_path / "evil.pt")
    page = compared(files[0], tmp_path / "evil.pt")
    banner = page.files.banners["b"]
    qtbot.waitUntil(banner.isVisible)
    assert banner.text().startswith("B: This file asks Python to run a program when it is loaded.")
    assert [button.text() for button in banner.findChildren(QPushButton) if button.isVisible()][:1] == ["Open B"]
    assert not page.files.banners["a"].isVisible()


def test_that_a_file_that_is_damaged_is_told_with_its_side(compared: Compared, files: tuple[Path, Path]) -> None:
    page = compared(without_storages(files[0], "1"), files[1])
    assert page.files.banners["a"].text().startswith("A: This file is damaged.")
    assert page.files.banners["a"].isVisible()
    assert page.files.banners["b"].isHidden()
    assert "problem" in page.pairs.cards.a.accessibleName()
    assert "problem" not in page.pairs.cards.b.accessibleName()


def test_that_one_file_compared_with_its_own_recipe_does_not_say_that_there_is_nothing_to_compare(
    compared: Compared, files: tuple[Path, Path]
) -> None:
    recipe = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "drop"\nkeys = ["**.bias"]\n'
    page = compared(files[0], files[0], recipe)
    assert "as its recipe makes it" in page.banner.text()


def test_that_a_file_that_cannot_be_read_is_told_by_its_name(
    compared: Compared, files: tuple[Path, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nothing of the kind")
    page = compared(files[0], bad)
    assert page.session.state == "failed"
    assert page.failed.words().startswith("Could not read B, bad.pth")


def test_that_the_file_that_changes_on_disk_is_told_with_its_side(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    with files[1].open("ab") as stream:
        stream.write(b"more")
    with qtbot.waitSignal(page.session.changed_on_disk):
        page.session.disk.look()
    assert page.banner.text().startswith("File B was written to.")


def test_that_a_closed_comparison_opens_again_and_commands_follow_the_tab(
    window: MainWindow, compared: Compared, opened: Opened, files: tuple[Path, Path], checkpoint: Path, qtbot: QtBot
) -> None:
    opened(checkpoint)
    assert not window.actions_by_id["next_difference"].isEnabled()
    page = compared(*files)
    assert window.actions_by_id["next_difference"].isEnabled()
    assert window.actions_by_id["filter"].isEnabled()
    assert not window.actions_by_id["save_as"].isEnabled()
    assert window.current_session() is None
    window.actions_by_id["close"].trigger()
    assert window.tabs.comparisons() == []
    window.actions_by_id["reopen"].trigger()
    (again,) = window.tabs.comparisons()
    assert again is not page
    settled(again, qtbot)
    assert rows(again)[0][0]


def drop(window: MainWindow, paths: list[Path], place: QPoint) -> None:
    """Drag files over the window and let go of them."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    window.dragEnterEvent(QDragEnterEvent(place, copy, data, left, none))
    window.dragMoveEvent(QDragMoveEvent(place, copy, data, left, none))
    window.dropEvent(QDropEvent(QPointF(place), copy, data, left, none))


def test_that_two_files_dropped_are_compared(window: MainWindow, files: tuple[Path, Path], qtbot: QtBot) -> None:
    drop(window, list(files), QPoint(400, 400))
    (page,) = window.tabs.comparisons()
    settled(page, qtbot)
    assert (page.session.a, page.session.b) == tuple(map(str, files))


def test_that_a_file_dropped_on_an_open_one_is_opened_or_compared_by_where_it_falls(
    window: MainWindow, opened: Opened, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    opened(files[0])
    drop(window, [files[1]], QPoint(window.width() // 2, 500))
    (page,) = window.tabs.comparisons()
    settled(page, qtbot)
    assert (page.session.a, page.session.b) == tuple(map(str, files))
    window.tabs.setCurrentIndex(0)
    drop(window, [files[1]], QPoint(200, 500))
    assert len(window.tabs.comparisons()) == 1
    assert len(window.tabs.pages()) == 2
    assert not window._targets.isVisible()


def test_that_ctrl_d_asks_for_the_other_file_and_offers_the_recipe_of_the_first(
    window: MainWindow, opened: Opened, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    opened(files[1])
    session = opened(files[0])
    dialog = CompareDialog(window, [str(path) for path in files], session.path, "", lambda: "", {session.path: 2})
    assert not dialog.compare.isEnabled()
    dialog._fields["B"].setCurrentIndex(dialog._fields["B"].findData(str(files[1])))
    assert dialog.compare.isEnabled()
    assert dialog.paths() == (str(files[0]), str(files[1]))
    assert dialog.carries_out
    dialog.with_recipe.setChecked(False)
    assert not dialog.carries_out
    dialog.deleteLater()

    def accept() -> None:
        shown = next(w for w in QApplication.topLevelWidgets() if isinstance(w, CompareDialog) and w.isVisible())
        assert shown.paths() == (str(files[0]), str(files[1]))
        shown.compare.click()

    QTimer.singleShot(0, accept)
    window.actions_by_id["compare"].trigger()
    (page,) = window.tabs.comparisons()
    settled(page, qtbot)
    assert page.session.recipe == ""


def test_that_a_saved_copy_is_compared_with_what_it_was_saved_from(
    window: MainWindow, opened: Opened, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    opened(files[0])
    page = window.current_page()
    assert page is not None
    page.compare_requested.emit(str(files[0]), str(files[1]))
    assert len(window.tabs.comparisons()) == 1
    settled(window.tabs.comparisons()[0], qtbot)


def test_that_what_is_in_sight_is_measured_first(compared: Compared, files: tuple[Path, Path]) -> None:
    page = compared(*files)
    sight = page.session.watch.sight()
    assert set(sight) <= set(range(14))
    assert len(sight) > 3
    assert isinstance(page.pairs, PairsPanel)


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("/x/vit_base.pth", "/x/vit_tuned.pth", ("base", "tuned")),
        ("/x/model.pth", "/y/model.pth", ("x", "y")),
        ("/x/model.pth", "/x/model.safetensors", ("model.pth", "model.safetensors")),
        ("/x/one.pth", "/x/two.pth", ("one", "two")),
        ("/x/ep1.pth", "/x/ep12.pth", ("ep1", "ep12")),
    ],
)
def test_that_a_tab_has_what_tells_both_files_apart(a: str, b: str, names: tuple[str, str]) -> None:
    assert short_names(a, b) == names


def test_that_changes_read_as_people_write_them() -> None:
    assert [percent(x) for x in (0.1349, 0.0, 12.5, float("inf"))] == ["13.49 %", "0 %", "1,250 %", "∞"]


@pytest.mark.parametrize(
    ("bound", "words", "said"),
    [(0, "8.25 %", "relative change 8.25 %"), (1, "≤ 8.25 %", "change at most 8.25 %"), (2, "8.25 %", "so far 8.25 %")],
)
def test_that_a_module_says_that_its_change_is_at_most_so_much_as_long_as_norms_are_missing(
    qtbot: QtBot, bound: int, words: str, said: str
) -> None:
    sides = [Side(f"block.{name}", "vector", "4", at, at) for at, name in enumerate(("one", "two"))]
    leaves = [Leaf(0, side, side, at, compared=True) for at, side in enumerate(sides)]
    tree = align([Group("model", "model")], leaves)
    buffers = {name: memoryview(buffer) for name, buffer in pack(tree).items()}
    model = CompareModel()
    model.set_sheet(AlignedSheet.from_buffers(buffers), memoryview(array("i", range(3)).tobytes()).cast("i"))
    floats = memoryview(array("f", [0.0825] * 3).tobytes())
    changed = memoryview(bytes([3, 3, 3]))
    bounds = memoryview(bytes([bound, 0, 0]))
    model.set_numbers({"status": changed, "change": floats, "cosine": floats, "bounds": bounds}, 0.0825)
    assert (model.change_words(0), model.change_words(1)) == (words, "8.25 %")
    assert said in model.sentence(0)


def test_that_pairs_of_other_names_are_counted_and_say_what_paired_them(qtbot: QtBot) -> None:
    chips = StatusChips()
    qtbot.addWidget(chips)
    chips.show_counts({"changed": 2}, 5)
    assert chips.chips["renamed"].isHidden()
    chips.show_counts({"changed": 2, "renamed": 3}, 5)
    chips.show_renamed({"content": 2, "hand": 1})
    renamed = chips.chips["renamed"]
    assert not renamed.isHidden()
    assert renamed.text() == "Renamed  3"
    assert "2 pairs by equal content" in renamed.toolTip()
    assert "1 pair by hand" in renamed.toolTip()
    with qtbot.waitSignal(chips.chosen) as chosen:
        renamed.click()
    assert chosen.args == [["renamed"]]


def test_that_every_command_of_a_comparison_says_why_it_is_not_possible(window: MainWindow) -> None:
    for entry in ACTIONS:
        if entry.menu == "&Compare" and entry.id != "compare":
            action = window.actions_by_id[entry.id]
            assert not action.isEnabled()
            assert "Compare two files first (Ctrl+D)." in action.toolTip()


@pytest.mark.parametrize("noticed", [False, True])
def test_that_a_worker_that_dies_is_replaced(
    compared: Compared, files: tuple[Path, Path], qtbot: QtBot, window: MainWindow, noticed: bool
) -> None:
    page = compared(*files)
    session: ComparisonSession = page.session
    worker = session._worker
    process = worker._process
    assert process is not None
    assert process.popen is not None
    process.popen.kill()
    if noticed:
        # Its end was heard of while nobody waited for an answer: the next question goes to a new one.
        qtbot.waitUntil(lambda: worker._process is not process, timeout=WAIT)
    with qtbot.waitSignal(session.opened, timeout=WAIT):
        session.expand_all()
    settled(page, qtbot)
    assert page.pairs.chips.chips["changed"].text() == "Changed  2"


# Taking from B


def changed(page: ComparePage, qtbot: QtBot, act: Callable[[], object]) -> None:
    """Do something that changes A's recipe, and wait until the comparison shows it."""
    before = page.session.recipe
    act()
    qtbot.waitUntil(lambda: page.session.recipe != before, timeout=WAIT)
    settled(page, qtbot)


def test_that_a_tensor_of_b_is_taken_into_a_and_given_back_by_undo(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    page = compared(*files)
    counts = dict(page.session.told["counts"])
    assert not window.actions_by_id["undo"].isEnabled()
    page.session.reveal(page.pairs.model.node(row_of(page, "head.weight")))
    qtbot.waitUntil(lambda: page.session.facts.get("key_a") == "head.weight", timeout=WAIT)
    changed(page, qtbot, window.actions_by_id["take"].trigger)
    assert window.comparisons.page is page
    qtbot.waitUntil(lambda: page.session.facts.get("key_a") == "head.weight", timeout=WAIT)
    assert page.session.told["counts"]["shape"] == counts["shape"] - 1
    assert page.session.told["counts"]["identical"] == counts["identical"] + 1
    assert "1 tensor of B is taken" in page.banner.text()
    assert window.actions_by_id["undo"].isEnabled()
    changed(page, qtbot, window.actions_by_id["undo"].trigger)
    assert page.session.told["counts"] == counts


def test_that_all_differences_taken_make_a_what_b_is_and_the_copy_of_a_has_them(
    window: MainWindow, compared: Compared, files: tuple[Path, Path], tmp_path: Path, qtbot: QtBot
) -> None:
    page = compared(*files)
    changed(page, qtbot, window.actions_by_id["take_all"].trigger)
    counts = page.session.told["counts"]
    assert counts["changed"] == counts["shape"] == counts["only_b"] == 0
    assert counts["only_a"] == 1
    document = next(one for one in window.tabs.pages() if one.session.path == str(files[0]))
    with qtbot.waitSignal(document.session.saved, timeout=WAIT):
        document.session.save(str(tmp_path / "merged.pth"), overwrite=False)
    merged, tuned = (torch.load(path, weights_only=True) for path in (tmp_path / "merged.pth", files[1]))
    assert merged.keys() == {*tuned, "embed.bias"}
    assert all(torch.equal(merged[key], tensor) for key, tensor in tuned.items())


def test_that_nothing_is_taken_into_an_a_that_has_other_edits_than_the_comparison(
    window: MainWindow, compared: Compared, opened: Opened, files: tuple[Path, Path], qtbot: QtBot
) -> None:
    session = opened(files[0])
    with qtbot.waitSignal(session.recipe_changed, timeout=WAIT):
        session.apply(Drop(keys=("embed.weight",)))
    page = compared(*files)
    window.actions_by_id["take_all"].trigger()
    qtbot.waitUntil(lambda: "edits that are not in this comparison" in page.banner.text(), timeout=WAIT)
    assert len(session.recipe.steps) == 1
    button = next(one for one in page.banner.findChildren(QPushButton) if one.text() == "Compare with them")
    changed(page, qtbot, button.click)
    assert ("", "embed.weight") in rows(page)
