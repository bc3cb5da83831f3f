"""What the window does about the file as a whole: contents, what is lost, changes on disk, text that is edited."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from PySide6.QtCore import QEvent, QPoint, Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication, QDialog, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot
from safetensors import safe_open
from safetensors.torch import save_file

from sdviewer.gui.contents_watch import Contents
from sdviewer.gui.dialogs.step_dialog import StepDialog
from sdviewer.gui.dialogs.text_dialog import TextDialog
from sdviewer.gui.flow import FlowLayout
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.metadata_panel import MetadataPanel, TextTable, editable
from sdviewer.gui.panels.problems_panel import ProblemsPanel
from sdviewer.gui.panels.security_panel import SecurityPanel
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip
from sdviewer.repair.operations import Metadata
from tests.formats.saved_files import damage
from tests.gui.conftest import Opened, front, without_storages

SLOW = 30_000
Dialog = TypeVar("Dialog", bound=QDialog)


def shown(window: MainWindow, name: str, qtbot: QtBot) -> QWidget:
    page = front(window)
    page.show_view(name)
    made = page.views[name]
    qtbot.waitUntil(lambda: made.built and not page.session.jobs.busy(), timeout=SLOW)
    return made


def button(page: DocumentPage, words: str) -> QPushButton:
    QApplication.processEvents()  # what is put into a window that is shown appears in the next turn
    found = [b for b in page.banner.findChildren(QPushButton) if b.text() == words and not b.isHidden()]
    assert found, [b.text() for b in page.banner.findChildren(QPushButton)]
    return found[0]


def answer(kind: type[Dialog], act: Callable[[Dialog], bool]) -> QTimer:
    """Call `act` with the next dialog of this kind, again and again until it is done with it."""
    timer = QTimer(interval=20)

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, kind) and act(dialog):
            timer.stop()

    timer.timeout.connect(look)
    timer.start()
    return timer


def old(path: Path) -> Path:
    """A file that nobody has just written."""
    os.utime(path, ns=(10**18, 10**18))
    return path


def just_now(path: Path) -> None:
    """A file that somebody is writing, however slow this test is: by a clock that is ahead."""
    ahead = time.time_ns() + 30 * 10**9
    os.utime(path, ns=(ahead, ahead))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save({"a.w": torch.ones(4), "b.w": torch.zeros(4)}, tmp_path / "plain.pt")
    return old(tmp_path / "plain.pt")


# Contents


def test_that_contents_are_verified_by_themselves_and_all_places_say_so(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    session = opened(plain)
    qtbot.waitUntil(lambda: session.contents.known.state == "done", timeout=SLOW)
    known = session.contents.known
    with zipfile.ZipFile(plain) as archive:
        records = sum(1 for info in archive.infolist() if info.file_size)
    assert (known.records, known.wrong, known.unstated) == (records, 0, 0)
    assert f"contents verified: {records} records" in window.status._document.text()
    view = shown(window, "security", qtbot)
    assert isinstance(view, SecurityPanel)
    assert view.statements.words()[0].startswith("Whole.")
    assert f"Contents verified: {records} records" in view.statements.words()[0]
    assert not front(window).banner.isVisible()


def test_that_of_a_file_that_breaks_off_is_told_what_was_verified_and_what_not(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "cut.pt"
    torch.save({f"l{at}.w": torch.ones(200) for at in range(4)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"cut/data/1") + 300])
    session = opened(old(path))
    qtbot.waitUntil(lambda: session.contents.known.state == "done", timeout=SLOW)
    there = session.contents.known.records
    assert f"{there} of {there + 3} records verified, 3 cut off" in window.status._document.text()
    statement = shown(window, "security", qtbot).statements.words()[0]
    assert f"Contents verified: {there} of the {there + 3} records that are known of" in statement
    assert statement.endswith("3 are cut off.")


def test_that_a_wrong_checksum_is_damage_with_record_and_tensor(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    damage(plain, "data/1")
    session = opened(old(plain))
    assert session.problems == []
    with qtbot.waitSignal(session.job_changed):
        window.actions_by_id["check_contents"].trigger()
    qtbot.waitUntil(lambda: session.contents.known.state == "done", timeout=SLOW)
    page = front(window)
    assert page.banner.text().startswith("This file is damaged.")
    assert "data/1" in page.banner.text()
    assert page.tree._problems.text() == "Problems  1"
    model = page.tree.model

    def with_problem() -> list[str]:
        nodes = [model.node(row) for row in range(model.rowCount())]
        return [model.name(node) for node in nodes if "has a problem" in model.sentence(node)]

    qtbot.waitUntil(lambda: with_problem() == ["b.w"], timeout=SLOW)
    assert "1 of" in window.status._document.text()
    view = shown(window, "problems", qtbot)
    assert isinstance(view, ProblemsPanel)
    rows = view.table.rows
    kind, where, what, _ = (str(rows.index(0, at).data()) for at in range(4))
    assert (rows.rowCount(), kind, where) == (1, "Damaged", "b.w")
    assert "plain/data/1" in what
    assert "It holds b.w" in what
    security = shown(window, "security", qtbot)
    assert isinstance(security, SecurityPanel)
    assert security.statements.words()[0].startswith("Damaged.")


def test_that_a_file_without_checksums_offers_no_check_and_says_why(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(old(checkpoint))
    session.check_contents()
    qtbot.waitUntil(lambda: session.contents.known.state == "none", timeout=SLOW)
    assert not window.actions_by_id["check_contents"].isEnabled()
    assert "state no checksums" in window.actions_by_id["check_contents"].toolTip()


def test_that_what_is_large_or_slow_is_offered_and_not_begun(app: QApplication) -> None:
    from PySide6.QtCore import QObject

    from sdviewer.gui.contents_watch import AUTOMATIC, ContentsWatch
    from sdviewer.gui.jobs import Jobs

    owner = QObject()

    def counts(nbytes: int) -> Callable[..., Any]:
        return lambda name, params, done, failed, **_: done({"records": 3, "bytes": nbytes, "unstated": 0}, {})

    def begin(*_: Any) -> Any:
        raise AssertionError("it was begun")

    large = ContentsWatch(Jobs(owner), counts(AUTOMATIC + 1), begin, owner)
    large.opened({}, 0.1)
    large._look()
    assert large.known.state == "offered"
    assert "4\N{NO-BREAK SPACE}GiB would have to be read" in large.known.sentence()
    slow = ContentsWatch(Jobs(owner), counts(10), begin, owner)
    slow.opened({}, 60.0)
    slow._look()
    assert slow.known.words() == "contents not checked"
    assert "it took long to open" in slow.known.sentence()
    assert slow.known.offered


def test_that_a_check_is_cancelled_like_any_job(window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot) -> None:
    session = opened(plain)
    session.check_contents()
    qtbot.waitUntil(lambda: session.contents.known.state == "checking", timeout=SLOW)
    window._cancel_job()
    assert session.contents.known.state == "stopped"
    assert "it was stopped" in session.contents.known.sentence()
    assert not Contents().offered
    # And it can be asked for again.
    session.check_contents()
    qtbot.waitUntil(lambda: session.contents.known.state == "done", timeout=SLOW)


# What is lost


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A checkpoint of which two of three storages are missing, one of them of a state dict that is wrapped."""
    model = OrderedDict((f"m.{name}.w", torch.full((4,), float(at))) for at, name in enumerate("abc"))
    torch.save({"model": model, "epoch": 3}, tmp_path / "whole.pt")
    return old(without_storages(tmp_path / "whole.pt", "0", "2"))


def test_that_a_refused_save_offers_to_drop_what_is_lost_and_to_save_again(
    window: MainWindow, opened: Opened, damaged: Path, qtbot: QtBot
) -> None:
    from sdviewer.repair.operations import Strip

    session = opened(damaged)
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="m."), "model")
    out = damaged.with_name("out.pt")
    with qtbot.waitSignal(session.save_failed, timeout=60_000):
        session.save(str(out), overwrite=False)
    page = front(window)
    assert page.banner.text().startswith("Not saved.")
    seen: list[list[Any]] = []

    def accept(dialog: StepDialog) -> bool:
        if dialog.add.isEnabled():
            seen.extend(dialog.preview.model.rows)
            dialog.add.click()
            return True
        return False

    timer = answer(StepDialog, accept)
    with qtbot.waitSignal(session.recipe_changed, timeout=SLOW):
        qtbot.mouseClick(button(page, "Drop what is lost…"), Qt.MouseButton.LeftButton)
    assert not timer.isActive()
    assert [("".join(part for part, _ in row[0]), row[1]) for row in seen] == [("a.w", None), ("c.w", None)]
    assert [step.op for step in session.recipe.steps] == ["strip", "drop"]
    assert page.banner.text().startswith("2 tensors that cannot be read are left out of the copy.")
    with qtbot.waitSignal(session.saved, timeout=60_000):
        qtbot.mouseClick(button(page, "Save again"), Qt.MouseButton.LeftButton)
    loaded = torch.load(out, weights_only=True)
    assert list(loaded["model"]) == ["b.w"]
    assert loaded["model"]["b.w"].tolist() == [1.0] * 4
    assert loaded["epoch"] == 3


def test_that_what_is_lost_is_dropped_from_the_list_of_problems_and_undone(
    window: MainWindow, opened: Opened, damaged: Path, qtbot: QtBot
) -> None:
    session = opened(damaged)
    view = shown(window, "problems", qtbot)
    assert isinstance(view, ProblemsPanel)
    assert view.drop.isVisible()
    answer(StepDialog, lambda dialog: bool(dialog.add.isEnabled() and (dialog.add.click() or True)))
    with qtbot.waitSignal(session.recipe_changed, timeout=SLOW):
        view.drop.click()
    assert session.edit["dropped"] == 2
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.mouseClick(button(front(window), "Undo"), Qt.MouseButton.LeftButton)
    assert session.recipe.steps == ()


def test_that_a_whole_file_has_nothing_to_drop(window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot) -> None:
    opened(plain)
    view = shown(window, "problems", qtbot)
    assert isinstance(view, ProblemsPanel)
    assert not view.drop.isVisible()


# Changes on disk


def look(session: Session, qtbot: QtBot) -> None:
    with qtbot.waitSignal(session.changed_on_disk, timeout=SLOW):
        pass


def test_that_each_change_on_disk_is_told_in_its_own_words(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    session = opened(plain)
    page, data = front(window), plain.read_bytes()
    with plain.open("ab") as stream:
        stream.write(b"more")
    just_now(plain)
    look(session, qtbot)
    assert page.banner.text().startswith("Changed on disk. It was written to in place.")
    assert "may still be being written" in page.banner.text()
    assert session.opened_at.toString("HH:mm:ss") in page.banner.text()
    os.utime(plain, ns=(1, 1))
    look(session, qtbot)
    assert "being written" not in page.banner.text()
    other = plain.with_name("other")
    other.write_bytes(data)
    old(other).replace(plain)
    look(session, qtbot)
    assert page.banner.text().startswith("Replaced on disk. Another file has its name now.")
    kept = plain.rename(plain.with_name("kept"))
    look(session, qtbot)
    assert page.banner.text().startswith("The file is gone. It was moved or deleted.")
    assert not [b for b in page.banner.findChildren(QPushButton) if b.text() == "Reload" and not b.isHidden()]
    kept.rename(plain)
    look(session, qtbot)
    with qtbot.waitSignal(session.opened, timeout=SLOW):
        qtbot.mouseClick(button(page, "Reload"), Qt.MouseButton.LeftButton)
    assert page.banner.isHidden()


def test_that_a_file_that_comes_back_takes_the_word_back(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    session = opened(plain)
    kept = plain.rename(plain.with_name("kept"))
    look(session, qtbot)
    kept.rename(plain)
    look(session, qtbot)
    assert front(window).banner.isHidden()


def test_that_a_reload_keeps_the_steps_and_tells_the_one_that_does_not_fit(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    from sdviewer.repair.operations import Drop, Strip

    session = opened(plain)
    for step in (Strip(prefix="a.", when="any"), Drop(keys=("b.w",))):
        with qtbot.waitSignal(session.recipe_changed):
            session.apply(step)
    torch.save({"a.w": torch.ones(2), "b.w": torch.zeros(2)}, plain)
    with qtbot.waitSignal(session.opened, timeout=SLOW):
        front(window).reload()
    assert session.edit["dropped"] == 1
    assert session.failed_step is None
    # Stripping would make a key twice here.
    torch.save({"a.w": torch.ones(2), "w": torch.zeros(2)}, plain)
    with qtbot.waitSignal(session.opened, timeout=SLOW):
        front(window).reload()
    assert [step.op for step in session.recipe.steps] == ["strip", "drop"]
    assert session.failed_step is not None and session.failed_step["step"] == 0
    assert session.modified


def test_that_a_young_file_is_said_to_be_perhaps_unfinished_until_it_rests(
    window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot
) -> None:
    just_now(plain)
    session = opened(plain)
    assert session.young
    assert "may still be being written" in window.status._document.text()
    session.disk._looked({"state": "same", "young": False, "file": str(plain)}, {})
    assert "being written" not in window.status._document.text()


# The text of a safetensors file


@pytest.fixture
def written(tmp_path: Path) -> Path:
    save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors", {"author": "nobody", "draft": "yes", "long": "a\nb"})
    return old(tmp_path / "m.safetensors")


def table_of(window: MainWindow, qtbot: QtBot) -> TextTable:
    view = shown(window, "metadata", qtbot)
    assert isinstance(view, MetadataPanel)
    assert view.editor is not None
    return view.editor.table


def cells(table: TextTable) -> dict[str, tuple[str, str]]:
    rows = table.texts
    return {
        str(rows.index(row, 0).data()): (str(rows.index(row, 1).data()), str(rows.index(row, 2).data()))
        for row in range(rows.rowCount())
    }


def row_of(table: TextTable, name: str) -> int:
    return list(cells(table)).index(name)


def test_that_texts_are_edited_in_place_removed_undone_and_saved(
    window: MainWindow, opened: Opened, written: Path, qtbot: QtBot
) -> None:
    session = opened(written)
    table = table_of(window, qtbot)
    QAbstractItemModelTester(table.texts, QAbstractItemModelTester.FailureReportingMode.Fatal)
    assert cells(table) == {"author": ("nobody", ""), "draft": ("yes", ""), "long": ("a\\nb", "")}
    window.activateWindow()
    table.setFocus()
    table.setCurrentIndex(table.texts.index(row_of(table, "author"), 1))
    qtbot.keyClick(table, Qt.Key.Key_F2)
    field = table.findChild(QLineEdit)
    assert field is not None
    field.selectAll()
    qtbot.keyClicks(field, "me & <b>you</b>")
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(field, Qt.Key.Key_Return)
    assert cells(table)["author"] == ("me & <b>you</b>", "edited")
    table.selectRow(row_of(table, "draft"))
    with qtbot.waitSignal(session.recipe_changed):
        qtbot.keyClick(table, Qt.Key.Key_Delete)
    assert cells(table)["draft"] == ("yes", "removed")
    assert session.edit["dropped"] == 0
    with qtbot.waitSignal(session.recipe_changed):
        session.undo()
    assert cells(table)["draft"] == ("yes", "")
    out = written.with_name("out.safetensors")
    with qtbot.waitSignal(session.saved, timeout=60_000):
        session.save(str(out), overwrite=False)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"author": "me & <b>you</b>", "draft": "yes", "long": "a\nb"}
    assert not session.modified


def test_that_an_entry_is_renamed_and_one_added_and_a_name_that_is_there_refused(
    window: MainWindow, opened: Opened, written: Path, qtbot: QtBot
) -> None:
    session = opened(written)
    table = table_of(window, qtbot)
    with qtbot.waitSignal(session.recipe_changed):
        table.texts.setData(table.texts.index(row_of(table, "author"), 0), "writer")
    assert cells(table)["writer"] == ("nobody", "added")
    assert cells(table)["author"] == ("nobody", "removed")
    with qtbot.waitSignal(session.trouble):
        table.texts.setData(table.texts.index(row_of(table, "draft"), 0), "long")
    typed = iter(["licence", "MIT\n2026"])

    def fill(dialog: TextDialog) -> bool:
        words = next(typed)
        dialog._line.setText(words)
        dialog._lines.setPlainText(words)
        dialog.accept()
        return "\n" in words

    timer = answer(TextDialog, fill)
    with qtbot.waitSignal(session.recipe_changed, timeout=SLOW):
        view = front(window).views["metadata"]
        assert isinstance(view, MetadataPanel)
        assert view.editor is not None
        view.editor.add.click()
    assert not timer.isActive()
    assert session.edit["metadata"]["licence"] == "MIT\n2026"


def test_that_f2_and_delete_in_the_table_are_not_the_commands_of_the_tree(
    window: MainWindow, opened: Opened, written: Path, qtbot: QtBot
) -> None:
    opened(written)
    table = table_of(window, qtbot)
    for key in (Qt.Key.Key_F2, Qt.Key.Key_Delete):
        event = QKeyEvent(QEvent.Type.ShortcutOverride, key, Qt.KeyboardModifier.NoModifier)
        event.ignore()
        QApplication.sendEvent(table, event)
        assert event.isAccepted()


def test_that_a_text_that_an_editor_would_change_is_not_edited(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    header = {"__metadata__": {"half": "\ud800", "turn": "a\u202eb"}}
    header |= {"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}  # type: ignore[dict-item]
    data = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data + b"x")
    session = opened(old(path))
    table = table_of(window, qtbot)
    for row in range(2):
        with qtbot.waitSignal(session.trouble) as told:
            table.doubleClicked.emit(table.texts.index(row, 1))
        assert told.args is not None
        assert "an editor would change" in told.args[0]["message"]
    assert editable("a\n\tä ✓")
    assert session.recipe.steps == ()


def test_that_a_torch_file_has_no_text_to_edit(window: MainWindow, opened: Opened, plain: Path, qtbot: QtBot) -> None:
    session = opened(plain)
    view = shown(window, "metadata", qtbot)
    assert isinstance(view, MetadataPanel)
    assert view.editor is None
    with qtbot.waitSignal(session.trouble) as told:
        session.apply(Metadata(values=(("a", "b"),)))
    assert told.args is not None
    assert "carry no text metadata" in told.args[0]["message"]


# Chips


def test_that_chips_that_have_no_room_go_to_a_second_line(app: QApplication) -> None:
    inside = QWidget()
    flow = FlowLayout(6)
    inside.setLayout(flow)
    chips = [Chip(f"Chip number {at}") for at in range(7)]
    for at, chip in enumerate(chips):
        flow.insert(at, chip)
    one = flow.heightForWidth(5000)
    two = flow.heightForWidth(flow.sizeHint().width() - 1)
    assert (one, two) == (chips[0].sizeHint().height(), 2 * one + 6)
    inside.resize(320, flow.heightForWidth(320))
    inside.show()
    assert all(inside.rect().contains(chip.geometry()) for chip in chips)
    assert chips[0].pos() == QPoint(0, 0)
    chips[0].hide()
    flow.activate()
    assert chips[1].pos() == QPoint(0, 0)
    inside.deleteLater()


def test_that_the_filter_and_the_list_of_problems_have_names_of_their_own(
    window: MainWindow, opened: Opened, damaged: Path
) -> None:
    opened(damaged)
    tree = front(window).tree
    words = [chip.text().split("  ")[0] for chip in (*tree._chips.values(), tree._problems)]
    assert "Unreadable" in words
    assert len(set(words)) == len(words)
