"""The views that show all that is in a file: security, raw structure, metadata, problems; and clean copies."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import QModelIndex, QPoint, Qt, QTimer
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from sdviewer.gui.dialogs.save_dialog import SaveDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.rows_model import Column, RowsModel
from sdviewer.gui.models.structure_model import PAGE, StructureModel
from sdviewer.gui.panels.document_page import VIEWS, DocumentPage
from sdviewer.gui.panels.file_view import FileView
from sdviewer.gui.panels.metadata_panel import MetadataPanel
from sdviewer.gui.panels.problems_panel import ProblemsPanel
from sdviewer.gui.panels.security_panel import SecurityPanel
from sdviewer.gui.panels.structure_panel import StructurePanel
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.session import Session
from tests.gui.conftest import Opened, front, without_storages, write_checkpoint


class Runs:
    """What would run a command if anybody unpickled it."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


class Config:
    """A class that nobody else has."""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A checkpoint with weights, a call of os.system and an object of an unknown class."""
    model = OrderedDict(w=torch.ones(2, 3))
    torch.save({"model": model, "hook": Runs(), "args": Config(), "epoch": 3}, tmp_path / "hostile.pt")
    return tmp_path / "hostile.pt"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A checkpoint one of whose storages is missing."""
    torch.save({"a.w": torch.ones(4), "b.w": torch.zeros(4)}, tmp_path / "whole.pt")
    return without_storages(tmp_path / "whole.pt", "1")


Scanned = Callable[[Path], tuple[Session, DocumentPage]]


@pytest.fixture
def scanned(window: MainWindow, opened: Opened, qtbot: QtBot) -> Scanned:
    """Opens a file and waits until it is scanned and nothing is asked any more."""

    def open_file(path: Path) -> tuple[Session, DocumentPage]:
        session = opened(path)
        page = window.current_page()
        assert page is not None
        qtbot.waitUntil(lambda: bool(session.scan) and not session.jobs.busy(), timeout=30_000)
        return session, page

    return open_file


def shown(window: MainWindow, page: DocumentPage, name: str, qtbot: QtBot) -> FileView:
    """The view after its command, with all that it asked for."""
    window.actions_by_id[name].trigger()
    assert page.shown_view() == name
    made = page.views[name]
    qtbot.waitUntil(lambda: made.built and not page.session.jobs.busy(), timeout=30_000)
    return made


def test_that_the_banner_says_first_what_the_file_would_do(window: MainWindow, scanned: Scanned, hostile: Path) -> None:
    _, page = scanned(hostile)
    assert not page.banner.isHidden()
    said = page.banner.text()
    assert said.startswith("This file asks Python to run a program when it is loaded. sdviewer did not run it.")
    assert "would call posix.system" in said or "would call nt.system" in said
    buttons = [button.text() for button in page.banner.findChildren(QPushButton) if not button.isHidden()]
    assert "Show what it calls" in buttons
    assert "Save a clean copy…" in buttons
    assert not any("load" in button.lower() for button in buttons)


def test_that_a_plain_file_has_no_banner(scanned: Scanned, checkpoint: Path) -> None:
    _, page = scanned(checkpoint)
    assert page.banner.isHidden()


def test_that_a_pickle_that_breaks_off_is_told_as_loudly(scanned: Scanned, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/extra.pkl", b"\x80\x02]q\x00(K\x01")
    _, page = scanned(path)
    assert page.banner.text().startswith("What loading this file in Python would run cannot be told.")
    buttons = [button.text() for button in page.banner.findChildren(QPushButton) if not button.isHidden()]
    assert "Show what is known" in buttons


def test_that_security_makes_three_statements_and_lists_every_name(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    session, page = scanned(hostile)
    view = shown(window, page, "security", qtbot)
    assert isinstance(view, SecurityPanel)
    file, loading, ours = view.statements.words()
    assert file.startswith("Whole.")
    assert loading.startswith("Runs commands.")
    assert "refuses it by default" in loading
    assert ours.startswith("Opened without running anything.")
    assert "system('exit 1')" in view.calls.code.toPlainText()
    names = view.names.table.rows
    listed = [[str(names.index(row, at).data()) for at in range(4)] for row in range(names.rowCount())]
    assert len(listed) == len(session.scan["globals"])
    assert listed[0][1:] == ["runs a program", "hook", "1"]
    assert listed[1][1:3] == ["unknown, called", "args"]
    assert ["collections.OrderedDict", "torch's own list"] in [row[:2] for row in listed]
    assert view.names.chips["dangerous"].text() == "1 dangerous"
    everything = " ".join([*view.statements.words(), view.choices.words(), view.summary.text()])
    assert "safe" not in everything.lower()
    left_out = view.choices.table.rows
    assert [str(left_out.index(row, 0).data()) for row in range(left_out.rowCount())] == ["hook", "args"]
    assert "without 2 objects" in view.choices.words()


def test_that_security_is_reached_from_status_bar_chip_and_banner(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    _, page = scanned(hostile)
    label = window.status._document
    qtbot.mouseClick(label, Qt.MouseButton.LeftButton, pos=QPoint(20, 8))
    assert page.shown_view() == "security"
    qtbot.keyClick(page.views["security"], Qt.Key.Key_Escape)
    assert page.shown_view() == "details"
    qtbot.mouseClick(page.tree._security, Qt.MouseButton.LeftButton)
    assert page.shown_view() == "security"
    page.show_details()
    show = next(b for b in page.banner.findChildren(QPushButton) if b.text() == "Show what it calls")
    qtbot.mouseClick(show, Qt.MouseButton.LeftButton)
    assert page.shown_view() == "security"


def test_that_what_would_run_is_marked_in_the_tree(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    session, page = scanned(hostile)
    model = page.tree.model
    nodes = [model.node(row) for row in range(model.rowCount())]
    marked = [model.name(node) for node in nodes if "not run" in model.sentence(node)]
    assert marked == ["hook"]
    row = next(row for row in range(model.rowCount()) if model.name(model.node(row)) == "hook")
    with qtbot.waitSignal(session.facts_changed):
        page.tree.select_row(row)
    assert page.detail.value_page._card.title_label.text() == "Call, not run"
    assert "system('exit 1')" in page.detail.value_page._text.toPlainText()


def test_that_selecting_in_the_tree_leads_back_to_the_details(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    _, page = scanned(hostile)
    shown(window, page, "metadata", qtbot)
    window.activateWindow()
    page.tree.view.setFocus()
    qtbot.waitUntil(page.tree.view.hasFocus)
    qtbot.keyClick(page.tree.view, Qt.Key.Key_Down)
    assert page.shown_view() == "details"


class _Chooses:
    """Presses Save in the sheet as soon as it knows what would be written, with another name."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.suggested = self.title = ""
        self.timer = QTimer(interval=20)
        self.timer.timeout.connect(self._look)
        self.timer.start()

    def _look(self) -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, SaveDialog) and dialog.order is not None:
            self.timer.stop()
            self.title = dialog.windowTitle()
            self.suggested = Path(dialog.order.out).name
            dialog.where.setText(str(self.out))
            dialog.where.textEdited.emit(str(self.out))
            dialog.accept()


def test_that_a_clean_copy_is_saved_without_the_objects_and_leaves_the_recipe_alone(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    session, _ = scanned(hostile)
    out = hostile.with_name("out.pt")
    chooses = _Chooses(out)
    with qtbot.waitSignal(session.saved, timeout=60_000) as answer:
        window.actions_by_id["clean_copy"].trigger()
    assert (chooses.title, chooses.suggested) == ("Save a clean copy", "hostile_clean.pt")
    loaded = torch.load(out, weights_only=True)
    assert list(loaded) == ["model", "epoch"]
    assert torch.equal(loaded["model"]["w"], torch.ones(2, 3))
    assert answer.args is not None
    assert answer.args[0]["verified"]["weights_only"] is True
    assert not session.modified
    assert session.recipe.steps == ()
    assert session.saving.written is not None
    assert '"op": "drop_objects"' in session.saving.written.draft.to_text()


def test_that_the_clean_copy_of_a_whole_module_is_its_state_dict(
    window: MainWindow, scanned: Scanned, tmp_path: Path, qtbot: QtBot
) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    torch.save(net, tmp_path / "net.pt")
    session, page = scanned(tmp_path / "net.pt")
    view = shown(window, page, "security", qtbot)
    assert isinstance(view, SecurityPanel)
    qtbot.waitUntil(lambda: "state dict of the module" in view.choices.words(), timeout=20_000)
    assert view.choices.button.isEnabled()
    out = tmp_path / "out.pt"
    chooses = _Chooses(out)
    with qtbot.waitSignal(session.saved, timeout=60_000):
        window.actions_by_id["clean_copy"].trigger()
    assert chooses.suggested == "net_clean.pt"
    torch.nn.Sequential(torch.nn.Linear(2, 3)).load_state_dict(torch.load(out, weights_only=True), strict=True)
    assert not session.modified


def test_that_no_clean_copy_is_offered_of_a_file_without_pickles(
    window: MainWindow, scanned: Scanned, checkpoint: Path, qtbot: QtBot
) -> None:
    _, page = scanned(checkpoint)
    action = window.actions_by_id["clean_copy"]
    assert not action.isEnabled()
    assert "no pickle" in action.toolTip()
    view = shown(window, page, "security", qtbot)
    assert isinstance(view, SecurityPanel)
    assert view.statements.words()[1].startswith("Plain data. There is no pickle in it")
    assert not view.choices.button.isEnabled()


def test_that_the_structure_is_opened_branch_by_branch(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    session, page = scanned(hostile)
    view = shown(window, page, "structure", qtbot)
    assert isinstance(view, StructurePanel)
    model, tree = view.objects.model, view.objects.view

    def first() -> QModelIndex:
        return model.index(0, 0, model.index(0, 0))

    # What is expanded is asked for when the view lays itself out.
    qtbot.waitUntil(lambda: first().isValid() and model.rowCount(first()) > 0, timeout=30_000)
    root = first()
    assert root.data() == "returns"
    assert tree.isExpanded(root)
    labels = [str(model.index(row, 0, root).data()) for row in range(model.rowCount(root))]
    assert labels == ["model", "hook", "args", "epoch"]
    hook = model.index(1, 0, root)
    assert model.index(1, 2, root).data().endswith("system('exit 1')")
    assert model.rowCount(hook) == 0
    tree.expand(hook)
    qtbot.waitUntil(lambda: model.rowCount(hook) == 2)
    qtbot.waitUntil(lambda: not session.jobs.busy(), timeout=10_000)
    assert [model.index(row, 0, hook).data() for row in range(2)] == ["function", "arguments"]


def test_that_records_and_storages_are_listed_and_a_text_record_is_shown(
    window: MainWindow, scanned: Scanned, hostile: Path, qtbot: QtBot
) -> None:
    _session, page = scanned(hostile)
    view = shown(window, page, "structure", qtbot)
    assert isinstance(view, StructurePanel)
    view.show_page("records")
    table = view.records.table.rows
    qtbot.waitUntil(lambda: table.rowCount() > 0)
    names = [str(table.index(row, 0).data()) for row in range(table.rowCount())]
    view.records.table.selectRow(names.index("hostile/byteorder"))
    qtbot.waitUntil(lambda: view.records.text.toPlainText() == "little")
    view.show_page("storages")
    qtbot.waitUntil(lambda: view.storages.table.rows.rowCount() == 1)
    assert view.storages.table.rows.index(0, 4).data() == "w"
    assert "1 storage, 24 B" in view.summary.text()


def test_that_metadata_are_shown_in_groups(window: MainWindow, scanned: Scanned, tmp_path: Path, qtbot: QtBot) -> None:
    model = OrderedDict(w=torch.ones(1))
    model._metadata = OrderedDict({"": {"version": 1}, "<b>bn</b>": {"version": 2}})  # type: ignore[attr-defined]
    torch.save(model, tmp_path / "m.pt")
    _, page = scanned(tmp_path / "m.pt")
    view = shown(window, page, "metadata", qtbot)
    assert isinstance(view, MetadataPanel)
    rows = view.tables[-1].rows
    assert [(rows.index(row, 0).data(), rows.index(row, 1).data()) for row in range(2)] == [
        ("(whole)", "version 1"),
        ("<b>bn</b>", "version 2"),
    ]
    assert "&lt;b&gt;" in str(rows.index(1, 0).data(Qt.ItemDataRole.ToolTipRole))


def test_that_damage_leads_to_the_list_of_problems_and_from_there_to_the_row(
    window: MainWindow, scanned: Scanned, damaged: Path, qtbot: QtBot
) -> None:
    session, page = scanned(damaged)
    assert "damaged" in page.banner.text()
    details = next(b for b in page.banner.findChildren(QPushButton) if b.text() == "Details" and not b.isHidden())
    qtbot.mouseClick(details, Qt.MouseButton.LeftButton)
    assert page.shown_view() == "problems"
    view = page.views["problems"]
    assert isinstance(view, ProblemsPanel)
    table = view.table.rows
    qtbot.waitUntil(lambda: table.rowCount() == 1)
    kind, where, what, follows = (str(table.index(0, at).data()) for at in range(4))
    assert (kind, where) == ("Damaged", "b.w")
    assert "not in the file" in what
    assert follows == "This tensor has no numbers here; all others do."
    with qtbot.waitSignal(session.reveal_requested):
        view.table.activated.emit(table.index(0, 0))
    assert page.shown_view() == "details"
    page.show_details()
    qtbot.mouseClick(page.tree._problems, Qt.MouseButton.LeftButton)
    assert page.shown_view() == "problems"


@pytest.mark.parametrize("name", VIEWS)
def test_that_a_view_shows_another_file_after_reload(
    window: MainWindow, scanned: Scanned, tmp_path: Path, qtbot: QtBot, name: str
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(1)}, path)
    session, page = scanned(path)
    shown(window, page, name, qtbot)
    torch.save({"w": torch.ones(1), "hook": Runs(), "v": torch.ones(5)}, path)
    with qtbot.waitSignal(session.scanned, timeout=30_000):
        page.reload()
    made = page.views[name]
    qtbot.waitUntil(lambda: made.built and not session.jobs.busy(), timeout=30_000)
    if name == "security":
        view = page.view(name)
        assert isinstance(view, SecurityPanel)
        assert "exit 1" in view.calls.code.toPlainText()
    assert not page.banner.isHidden()


def test_that_a_page_that_comes_late_is_not_put_in_a_wrong_place(app: QApplication) -> None:
    model = StructureModel()
    asked: list[tuple[int, int]] = []
    model.wanted.connect(lambda item, start: asked.append((item, start)))
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    assert tester.model() is model

    def rows(first: int, n: int) -> list[list[Any]]:
        return [[first + i, f"r{first + i}", "int", "1", "", "", False, "value"] for i in range(n)]

    model.ask(0)
    model.ask(0)
    assert asked == [(0, 0)]
    model.add(0, 0, rows(1, PAGE), PAGE + 5)
    assert model.rowCount() == PAGE + 1
    last = model.index(PAGE, 0)
    assert last.data() == "… 5 more"
    assert model.more_of(last) == 0
    model.ask(model.more_of(last))
    assert asked[-1] == (0, PAGE)
    model.add(0, 0, rows(1000, 3), PAGE + 5)
    assert model.rowCount() == PAGE + 1
    model.add(0, PAGE, rows(1 + PAGE, 5), PAGE + 5)
    assert model.rowCount() == PAGE + 5
    assert model.index(PAGE + 4, 0).data() == f"r{PAGE + 5}"
    model.forget()
    model.add(77, 0, rows(1, 1), 1)
    assert model.rowCount() == 0


def test_that_rows_come_in_pages_in_order(app: QApplication) -> None:
    model = RowsModel((Column("Name", lambda row: str(row[0])), Column("More", lambda row: str(row[1]), right=True)))
    QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    wanted: list[int] = []
    model.wanted.connect(wanted.append)
    model.show_rows([["a", 1], ["b", 2]], 4)
    model.fetchMore(QModelIndex())
    model.fetchMore(QModelIndex())
    assert wanted == [2]
    model.add_rows(0, [["x", 0]])
    assert model.rowCount() == 2
    model.add_rows(2, [["c", 3], ["d", 4]])
    model.came()
    assert not model.canFetchMore(QModelIndex())
    assert model.as_text([0, 3]) == "a\t1\nd\t4"


@pytest.mark.parametrize("text", ["<img src='file:///etc/hostname'>", "a < b", "<b>x</b>\n<i>y</i>"])
def test_that_a_tooltip_shows_text_and_never_html(text: str) -> None:
    tip = plain_tip(text)
    assert "<img" not in tip
    assert "<b>x" not in tip
    assert "&lt;" in tip
    assert plain_tip("plain & simple") == "plain & simple"


def test_that_a_key_that_is_html_is_escaped_in_its_tooltips(window: MainWindow, opened: Opened, tmp_path: Path) -> None:
    opened(write_checkpoint(tmp_path / "h.safetensors", {"<img src='x'>" * 20: (2,)}))
    page = front(window)
    model = page.tree.model
    tips = [model.index(row, 0).data(Qt.ItemDataRole.ToolTipRole) for row in range(model.rowCount())]
    assert any(tip and "&lt;img" in tip for tip in tips)
    assert not any(tip and "<img" in tip for tip in tips)
