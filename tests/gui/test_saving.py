"""Saving in the window: the sheet before it, one copy at a time, what is said of a failure, the receipt after it."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QLabel, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot
from safetensors.torch import load_file

from sdviewer.cli.main import run
from sdviewer.engine.naming import look
from sdviewer.formats.converting import CONTAINERS
from sdviewer.formats.file import identity_of
from sdviewer.formats.saving import CONTAINERS_OF_SUFFIX
from sdviewer.gui.dialogs.containers import PURPOSES, container_of, with_suffix_of
from sdviewer.gui.dialogs.save_dialog import SaveDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.load_code import snippets
from sdviewer.gui.panels.receipt_page import KeysCard, RecipeCard, write_receipt
from sdviewer.gui.panels.save_failures import FAILURES, words
from sdviewer.gui.saving import Kind, SaveOrder
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import CodeBlock
from sdviewer.gui.writing import Pace
from sdviewer.repair.history import Draft
from sdviewer.repair.operations import Strip
from tests.gui.conftest import MODEL, Opened, front, write_checkpoint

SLOW = 60_000
Sheet = Callable[..., SaveDialog]


@pytest.fixture
def sheet(window: MainWindow, qtbot: QtBot) -> Sheet:
    """Shows the sheet for a session and waits until it knows what a save would do."""

    def show(session: Session, kind: Kind = "repaired", before: SaveOrder | None = None) -> SaveDialog:
        made = SaveDialog(window, session, kind, before)
        qtbot.addWidget(made)
        made.show()
        qtbot.waitUntil(lambda: settled(made), timeout=SLOW)
        return made

    return show


def settled(dialog: SaveDialog) -> bool:
    busy = dialog.session.jobs.busy
    return dialog.would is not None and not busy("would save") and not busy("slim")


def said(widget: object) -> str:
    return " ".join(label.text() for label in widget.findChildren(QLabel) if not label.isHidden())  # type: ignore[attr-defined]


def put(dialog: SaveDialog, where: Path, qtbot: QtBot) -> None:
    """Type a place."""
    dialog.where.setText(str(where))
    dialog.where.textEdited.emit(str(where))
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)


def choose(dialog: SaveDialog, container: str, qtbot: QtBot) -> None:
    at = dialog.container.findData(container)
    dialog.container.setCurrentIndex(at)
    dialog.container.activated.emit(at)
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)


def keys_of(window: MainWindow, qtbot: QtBot) -> KeysCard:
    """The list of keys of the receipt, which is made a turn later than the rest."""
    qtbot.waitUntil(lambda: front(window).receipt.keys is not None, timeout=SLOW)
    keys = front(window).receipt.keys
    assert keys is not None
    return keys


def stripped(session: Session, qtbot: QtBot) -> None:
    with qtbot.waitSignal(session.recipe_changed):
        session.apply(Strip(prefix="module."))


def saved(session: Session, order: SaveOrder, qtbot: QtBot) -> None:
    with qtbot.waitSignal(session.saved, timeout=SLOW):
        session.carry_out(order)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"embed.weight": shared, "head.weight": shared}, tmp_path / "tied.pt")
    return tmp_path / "tied.pt"


# The sheet


def test_that_the_sheet_says_what_is_written_and_return_saves_it(
    window: MainWindow, opened: Opened, sheet: Sheet, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    dialog = sheet(session)
    assert Path(dialog.where.text()).name == "model_repaired.safetensors"
    words = said(dialog)
    assert "10 entries" in words
    assert "10 renamed" in words
    assert "Nothing: safetensors holds all that is written." in words
    qtbot.keyClick(dialog.where, Qt.Key.Key_Return)
    assert dialog.result() == SaveDialog.DialogCode.Accepted
    assert dialog.order is not None
    saved(session, dialog.order, qtbot)
    out = checkpoint.with_name("model_repaired.safetensors")
    assert sorted(load_file(out)) == sorted(key.removeprefix("module.") for key in MODEL)
    assert not session.modified


def test_that_the_sheet_says_which_copies_would_still_call_what_a_hostile_file_calls(
    window: MainWindow, opened: Opened, tmp_path: Path, sheet: Sheet, qtbot: QtBot
) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    torch.save({"model": {"w": torch.ones(3)}, "hook": Runs()}, tmp_path / "hostile.pt")
    session = opened(tmp_path / "hostile.pt")
    qtbot.waitUntil(lambda: bool(session.scan), timeout=SLOW)
    dialog = sheet(session)
    assert "Unpickling the copy will call" in said(dialog)
    choose(dialog, "safetensors", qtbot)
    qtbot.waitUntil(lambda: "Unpickling the copy" not in said(dialog), timeout=SLOW)
    assert "Unpickling the copy" not in said(sheet(session, "clean"))


def test_that_return_before_the_answer_saves_as_soon_as_it_is_there(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    dialog = SaveDialog(window, session, "repaired")
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.would is None
    with qtbot.waitSignal(dialog.accepted, timeout=SLOW):
        dialog.accept()
    assert dialog.order is not None


def test_that_a_file_that_is_there_goes_only_when_that_was_said(
    opened: Opened, sheet: Sheet, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    out = checkpoint.with_name("model_repaired.safetensors")
    out.write_bytes(b"somebody else's")
    os.link(out, checkpoint.with_name("other"))
    dialog = sheet(session)
    assert not dialog.save.isEnabled()
    assert "1 other name of it keeps the old bytes" in dialog.replace_it.text()
    qtbot.keyClick(dialog.where, Qt.Key.Key_Return)
    assert dialog.result() != SaveDialog.DialogCode.Accepted
    dialog.replace_it.setChecked(True)
    assert dialog.save.isEnabled()
    put(dialog, checkpoint.with_name("new.safetensors"), qtbot)
    assert dialog.replace_it.isHidden()
    assert dialog.order is not None
    assert not dialog.order.overwrite
    put(dialog, out, qtbot)
    assert not dialog.save.isEnabled()  # it was another file that might go
    dialog.replace_it.setChecked(True)
    dialog.accept()
    saved(session, dialog.order, qtbot)
    assert len(load_file(out)) == 10
    assert checkpoint.with_name("other").read_bytes() == b"somebody else's"


def test_that_a_place_that_cannot_be_is_told_and_not_saved_to(
    opened: Opened, sheet: Sheet, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    dialog = sheet(session)
    put(dialog, checkpoint, qtbot)
    assert not dialog.save.isEnabled()
    assert "inputs are never written" in said(dialog)
    put(dialog, checkpoint.with_name("no") / "copy.safetensors", qtbot)
    assert not dialog.save.isEnabled()
    assert "The folder does not exist." in said(dialog)
    put(dialog, Path("copy.safetensors"), qtbot)
    assert dialog.order is not None
    assert dialog.order.out == str(checkpoint.with_name("copy.safetensors"))  # a name alone: beside the file
    dialog.where.clear()
    dialog.where.textEdited.emit("")
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)
    assert not dialog.save.isEnabled()


def test_that_the_desktops_own_dialog_gives_the_place(
    opened: Opened, sheet: Sheet, checkpoint: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    dialog = sheet(session)
    out = checkpoint.with_name("elsewhere.npz")

    def choose_it(chooser: QFileDialog) -> int:
        assert chooser.selectedFiles() == [str(checkpoint.with_name("model_repaired.safetensors"))]
        chooser.selectFile(str(out))
        return QFileDialog.DialogCode.Accepted.value

    monkeypatch.setattr(QFileDialog, "exec", choose_it)
    dialog.choose_place()
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)
    assert dialog.order is not None
    assert (dialog.order.out, dialog.order.container) == (str(out), "npz")


def test_that_a_name_with_any_bytes_keeps_them(opened: Opened, sheet: Sheet, tmp_path: Path, qtbot: QtBot) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.safetensors"))
    session = opened(write_checkpoint(path, MODEL))
    stripped(session, qtbot)
    dialog = sheet(session)
    assert dialog.order is not None
    saved(session, dialog.order, qtbot)
    assert (os.fsencode(tmp_path) + b"/odd\xff_repaired.safetensors") in [os.fsencode(p) for p in tmp_path.iterdir()]


def test_that_a_container_changes_the_name_and_a_name_the_container(
    opened: Opened, sheet: Sheet, checkpoint: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    dialog = sheet(session)
    choose(dialog, "npz", qtbot)
    assert dialog.where.text().endswith("model_repaired.npz")
    assert "For NumPy" in said(dialog)
    put(dialog, checkpoint.with_name("copy.pth"), qtbot)
    assert dialog.container.currentData() == "torch-zip"
    choose(dialog, "hf-index", qtbot)
    assert dialog.where.text() == str(checkpoint.with_name("copy"))
    assert not dialog.shard_size.isHidden()
    assert dialog.order is not None
    assert dialog.order.draft(Draft()).head["save"] == {"format": "hf-index", "max_shard_size": "5GB"}


def test_that_ties_are_asked_about_only_where_the_container_has_none(
    opened: Opened, sheet: Sheet, tied: Path, qtbot: QtBot
) -> None:
    session = opened(tied)
    dialog = sheet(session, "converted")
    assert Path(dialog.where.text()).name == "tied.safetensors"
    assert not dialog.ties.isHidden()
    assert "head.weight = embed.weight" in said(dialog)
    assert dialog.would is not None
    small = int(dialog.would["size"])
    qtbot.mouseClick(dialog.ties.buttons()[1], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)
    assert int(dialog.would["size"]) > small
    dialog.accept()
    assert dialog.order is not None
    saved(session, dialog.order, qtbot)
    assert sorted(load_file(tied.with_name("tied.safetensors"))) == ["embed.weight", "head.weight"]
    again = sheet(session, "converted")
    choose(again, "torch-zip", qtbot)
    assert again.ties.isHidden()


def test_that_a_slim_copy_goes_without_what_is_ticked(
    opened: Opened, sheet: Sheet, tmp_path: Path, qtbot: QtBot
) -> None:
    weights = OrderedDict(w=torch.ones(3))
    parts = {"model": weights, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "param_groups": []}, "epoch": 3}
    torch.save(parts, tmp_path / "run.pt")
    session = opened(tmp_path / "run.pt")
    dialog = sheet(session, "slim")
    boxes = {box.text(): box for box, _ in dialog._parts}
    assert {name: box.isChecked() for name, box in boxes.items()} == {"optimizer": True, "epoch": False}
    boxes["optimizer"].setChecked(False)
    qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)
    assert not dialog.save.isEnabled()
    boxes["optimizer"].setChecked(True)
    qtbot.waitUntil(lambda: settled(dialog) and dialog.order is not None, timeout=SLOW)
    dialog.accept()
    saved(session, dialog.order, qtbot)
    loaded = torch.load(tmp_path / "run_slim.pt", weights_only=True)
    assert list(loaded) == ["model", "epoch"]
    assert session.recipe.is_empty
    assert session.order_again is None  # a plain save does not go over a copy of another kind


def test_that_of_several_state_dicts_one_is_chosen_for_a_container_of_tensors(
    opened: Opened, sheet: Sheet, tmp_path: Path, qtbot: QtBot
) -> None:
    torch.save({"g": {"a": torch.ones(3)}, "d": {"b": torch.ones(9)}}, tmp_path / "gan.pt")
    session = opened(tmp_path / "gan.pt")
    dialog = sheet(session, "converted")
    assert not dialog.state_dict.isHidden()
    assert dialog.state_dict.currentData() == session.state_dict_of_selection() == "g"
    dialog.state_dict.setCurrentIndex(dialog.state_dict.findData("d"))
    dialog.state_dict.activated.emit(0)
    qtbot.waitUntil(lambda: settled(dialog) and dialog.order is not None, timeout=SLOW)
    dialog.accept()
    saved(session, dialog.order, qtbot)
    assert list(load_file(tmp_path / "gan.safetensors")) == ["b"]


def test_that_every_container_has_its_words_and_its_names() -> None:
    assert set(PURPOSES) == set(CONTAINERS)
    for suffix, containers in CONTAINERS_OF_SUFFIX.items():
        assert container_of(f"x{suffix}", "hf-index") == containers[0]
    for name in CONTAINERS:
        named = with_suffix_of("/a/b.v2.pt", name)
        assert container_of(named, name) == name
        assert named.startswith("/a/b.v2")
    assert with_suffix_of("/a/b.safetensors", "torch-zip", ".ckpt") == "/a/b.ckpt"
    assert with_suffix_of("/a/b.pth.tar", "safetensors") == "/a/b.safetensors"


def test_that_the_same_recipe_on_the_command_line_makes_the_same_copy(opened: Opened, tied: Path, qtbot: QtBot) -> None:
    session = opened(tied)
    saved(session, SaveOrder(str(tied.with_name("window.bin")), "safetensors", shared="clone"), qtbot)
    assert session.saving.written is not None
    recipe = tied.with_name("recipe.json")
    recipe.write_text(session.saving.written.draft.to_text())
    out = tied.with_name("line.safetensors")
    assert run(["repair", str(tied), "--recipe", str(recipe), "-o", str(out)]) == 0
    assert out.read_bytes() == tied.with_name("window.bin").read_bytes()


# While it is saved


def test_that_a_save_that_is_stopped_leaves_nothing_and_says_so(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    before = sorted(tmp_path.iterdir())
    session.carry_out(SaveOrder(str(tmp_path / "copy.safetensors")))
    with qtbot.waitSignal(session.save_stopped, timeout=SLOW):
        session.cancel_job()
    assert sorted(tmp_path.iterdir()) == before
    assert "Saving was stopped." in front(window).banner.text()
    assert not session.saving.running
    again = next(button for button in front(window).banner.findChildren(QPushButton) if button.text() == "Save again")
    with qtbot.waitSignal(session.saved, timeout=SLOW):
        again.click()
    assert (tmp_path / "copy.safetensors").read_bytes() == checkpoint.read_bytes()


def test_that_what_became_of_a_save_is_told_until_the_next_and_what_is_wrong_with_the_file_stays(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    banner = front(window).banner
    session.changed_on_disk.emit({"state": "written", "young": False, "file": str(checkpoint)})
    standing = banner.text()
    assert "Changed on disk." in standing
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(tmp_path / "nowhere" / "copy.safetensors")))
    assert "Not saved." in banner.text()
    session.carry_out(SaveOrder(str(tmp_path / "copy.safetensors")))
    assert banner.text() == standing
    qtbot.waitUntil(lambda: not session.saving.running, timeout=SLOW)
    assert banner.text() == standing
    assert banner.isVisibleTo(front(window))
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(tmp_path / "nowhere" / "copy.safetensors")))
    banner._close.click()
    assert banner.text() == standing
    banner._close.click()
    assert not banner.isVisibleTo(front(window))


def test_that_a_tab_whose_copy_is_being_written_is_closed_only_when_that_may_stop(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(checkpoint)
    before = sorted(tmp_path.iterdir())
    answers = iter(("Keep writing", "Stop it and close"))
    asked: list[str] = []

    def answer(box: QMessageBox) -> int:
        asked.append(box.text())
        wanted = next(answers)
        next(button for button in box.buttons() if button.text() == wanted).click()
        return 0

    monkeypatch.setattr(QMessageBox, "exec", answer)
    session.carry_out(SaveOrder(str(tmp_path / "copy.safetensors")))
    assert not session.modified
    window.close()
    assert window.isVisible()
    assert session.saving.running
    window.close_tab()
    assert not window.tabs.pages()
    assert asked == ["A copy of model.safetensors is still being written."] * 2
    qtbot.waitUntil(lambda: sorted(tmp_path.iterdir()) == before)


def test_that_a_second_save_is_refused_while_the_first_goes_on(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    with qtbot.waitSignal(session.saved, timeout=SLOW) as first:
        session.carry_out(SaveOrder(str(tmp_path / "one.safetensors")))
        session.carry_out(SaveOrder(str(tmp_path / "two.safetensors")))
        assert "One copy at a time." in front(window).banner.text()
        assert not window.files.ask_and_save(session)  # no sheet either
    assert first.args is not None
    assert first.args[0]["output"] == str(tmp_path / "one.safetensors")
    assert not (tmp_path / "two.safetensors").exists()


def test_that_progress_is_told_in_bytes_rate_and_time_left() -> None:
    pace = Pace("copy.pt")
    mib = 1 << 20
    assert pace.tell(0, 800 * mib, 0.0) == "Writing copy.pt: 0 B of 400 MiB"
    assert pace.tell(50 * mib, 800 * mib, 0.1) == pace.words  # too soon for other words
    told = pace.tell(100 * mib, 800 * mib, 1.0)
    assert re.fullmatch(r"Writing copy\.pt: 100 MiB of 400 MiB, 100 MiB/s, 7 s left", told)
    later = pace.tell(500 * mib, 800 * mib, 5.0)
    assert later.startswith("Checking copy.pt: 100")
    assert pace.tell(800 * mib, 800 * mib, 5.1) == "Putting copy.pt in its place"


# What goes wrong


def test_that_each_failure_of_a_save_has_words_of_its_own() -> None:
    firsts = [what for what, _ in FAILURES.values()]
    assert len(set(firsts)) == len(firsts)
    listed = Path(__file__).parent.parent.parent / "docs" / "problems.md"
    section = listed.read_text(encoding="utf-8").split("## Errors: saving")[1].split("\n## ")[0]
    codes = set(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE))
    assert codes - {"write_failed", "save_running", "receipt_lost"} <= set(FAILURES)


def test_that_a_copy_that_is_there_without_its_receipt_is_not_told_as_lost_and_can_be_saved_again(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    out = tmp_path / "copy.safetensors"
    saved(session, SaveOrder(str(out)), qtbot)
    there = look(str(out), asdict(identity_of(out.stat())))
    assert there is not None
    job = session.saving._job
    assert job is not None
    job.failed(there)
    banner = front(window).banner
    assert banner.text().startswith("Saved, without a receipt.")
    again = next(button for button in banner.findChildren(QPushButton) if button.text() == "Save again")
    with qtbot.waitSignal(session.saved, timeout=SLOW):
        again.click()


@pytest.mark.parametrize(
    ("place", "first", "button"),
    [
        ("no/copy.safetensors", "There can be no file copy.safetensors in ", "Save elsewhere…"),
        ("protected.safetensors", "protected.safetensors cannot be written in ", "Save elsewhere…"),
        ("there.safetensors", "There is a there.safetensors in ", "Replace it"),
    ],
)
def test_that_a_failed_save_names_its_cause_and_what_helps(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, place: str, first: str, button: str
) -> None:
    session = opened(checkpoint)
    for name, mode in (("there.safetensors", 0o644), ("protected.safetensors", 0o444)):
        checkpoint.with_name(name).write_bytes(b"old")
        checkpoint.with_name(name).chmod(mode)
    out = checkpoint.with_name("x").parent / place
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(out), overwrite="protected" in place))
    banner = front(window).banner
    assert f"Not saved. {first}" in banner.text()
    assert button in [made.text() for made in banner.findChildren(QPushButton)]


def test_that_a_folder_that_is_there_is_not_offered_to_be_replaced_and_long_places_are_shortened() -> None:
    path = f"/data/{'deep/' * 60}run"
    said = words(
        {
            "code": "exists",
            "message": "exists already, and a folder is never overwritten",
            "remedy": "Choose another name.",
            "path": path,
        }
    )
    assert [act for _, act in said.buttons] == ["elsewhere"]
    assert said.why.startswith('"run" exists already, and a folder is never overwritten.')
    assert "/data/deep/" in said.what and "…" in said.what and len(said.what) < 140


def test_that_a_receipt_does_not_stand_below_the_words_of_another_save_that_failed(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    saved(session, SaveOrder(str(tmp_path / "copy.safetensors")), qtbot)
    page = front(window)
    assert page.receipt.isVisibleTo(page)
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(tmp_path / "no" / "copy.safetensors")))
    assert not page.receipt.isVisibleTo(page)
    assert page.shows_tree


def test_that_a_file_that_was_damaged_since_is_told_as_changed_and_offered_to_be_read_again(
    window: MainWindow, opened: Opened, tied: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(tied)
    tied.write_bytes(tied.read_bytes().replace(b"_rebuild_tensor_v2", b"\xff" * 18))
    with qtbot.waitSignal(session.save_failed, timeout=SLOW) as failure:
        session.carry_out(SaveOrder(str(tmp_path / "copy.pt")))
    assert failure.args is not None
    assert failure.args[0]["code"] == "file_changed"
    assert "This file was changed on disk." in front(window).banner.text()


def test_that_a_change_on_disk_is_told_behind_the_words_of_a_save_that_failed_for_it(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    banner = front(window).banner
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(tmp_path / "nowhere" / "copy.safetensors")))
    session.changed_on_disk.emit({"state": "written", "young": False, "file": str(checkpoint)})
    assert banner.text().startswith("Not saved.")
    banner._dismiss()
    assert banner.text().startswith("Changed on disk.")
    assert not banner.isHidden()


def test_that_saving_elsewhere_begins_with_what_was_ordered(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(checkpoint)
    lost = checkpoint.with_name("no") / "copy.npz"
    with qtbot.waitSignal(session.save_failed, timeout=SLOW):
        session.carry_out(SaveOrder(str(lost), "npz"))
    begun: list[tuple[str, str]] = []

    def look(dialog: SaveDialog) -> int:
        qtbot.waitUntil(lambda: settled(dialog), timeout=SLOW)
        begun.append((dialog.where.text(), str(dialog.container.currentData())))
        return 0

    monkeypatch.setattr(SaveDialog, "exec", look)
    elsewhere = next(b for b in front(window).banner.findChildren(QPushButton) if b.text() == "Save elsewhere…")
    elsewhere.click()
    assert begun == [(str(lost), "npz")]


# The receipt


def test_that_the_receipt_shows_what_became_of_the_keys_and_searches_them(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    saved(session, SaveOrder(str(tmp_path / "copy.safetensors")), qtbot)
    keys = keys_of(window, qtbot)
    qtbot.waitUntil(lambda: len(keys.table.rows.rows) == 10, timeout=SLOW)
    assert keys.table.rows.rows[0][:2] == ["module.head.weight", "head.weight"]
    assert keys.subtitle.text() == "10 of 10 changed"
    keys.filter.setText("blocks.3")
    qtbot.waitUntil(lambda: len(keys.table.rows.rows) == 2, timeout=SLOW)


def test_that_the_receipt_has_the_recipe_and_the_same_as_a_program(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    saved(session, SaveOrder(str(tmp_path / "copy.safetensors")), qtbot)
    keys_of(window, qtbot)
    card = front(window).receipt.findChild(RecipeCard)
    assert isinstance(card, RecipeCard)
    assert card.table.rows.rows == [[1, 'Strip prefix "module."']]
    card.show_as("toml")
    qtbot.waitUntil(lambda: 'op = "strip"' in card.code.toPlainText(), timeout=SLOW)
    card.show_as("python")
    qtbot.waitUntil(lambda: "import torch" in card.code.toPlainText(), timeout=SLOW)
    program = tmp_path / "same.py"
    program.write_text(card.code.toPlainText())
    compile(program.read_text(), "same.py", "exec")


def test_that_a_copy_without_changes_shows_all_its_keys(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    saved(session, SaveOrder(str(tmp_path / "copy.pt"), "torch-zip", kind="converted"), qtbot)
    keys = keys_of(window, qtbot)
    qtbot.waitUntil(lambda: len(keys.table.rows.rows) == 10, timeout=SLOW)
    assert keys.subtitle.text() == "all 10 as they were"


def test_that_escape_leaves_the_receipt_and_so_does_an_undo(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    page = front(window)
    saved(session, SaveOrder(str(tmp_path / "copy.safetensors")), qtbot)
    assert not page.shows_tree
    qtbot.keyClick(page.receipt, Qt.Key.Key_Escape)
    assert page.shows_tree
    saved(session, SaveOrder(str(tmp_path / "other.safetensors")), qtbot)
    assert not page.shows_tree
    with qtbot.waitSignal(session.recipe_changed):
        window.editing.undo()
    assert page.shows_tree


def test_that_the_receipt_is_saved_whole_as_json_and_as_text(
    window: MainWindow, opened: Opened, checkpoint: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    session = opened(checkpoint)
    stripped(session, qtbot)
    saved(session, SaveOrder(str(tmp_path / "copy.safetensors")), qtbot)
    written = session.saving.written
    assert written is not None
    write_receipt(written, session, str(tmp_path / "r.json"))
    write_receipt(written, session, str(tmp_path / "r.txt"))
    whole = json.loads((tmp_path / "r.json").read_text())
    assert whole["map"]["module.head.bias"] == "head.bias"
    assert whole["sha256"] == written.receipt["sha256"]
    assert whole["sha256"] in (tmp_path / "r.txt").read_text()
    with qtbot.waitSignal(session.trouble):
        write_receipt(written, session, str(tmp_path / "no" / "r.json"))


@pytest.mark.parametrize("container", ["torch-zip", "torch-legacy", "safetensors", "hf-index", "npz", "torchscript"])
def test_that_the_lines_that_load_a_copy_load_it(
    window: MainWindow, opened: Opened, tied: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    session = opened(tied)
    out = Path(with_suffix_of(str(tied.with_name("copy.pt")), container))
    saved(session, SaveOrder(str(out), container), qtbot)
    written = session.saving.written
    assert written is not None
    monkeypatch.chdir(tied.parent)
    ways = snippets(written.receipt, written.place, mappable=written.mappable)
    shown = [block.toPlainText() for block in front(window).receipt.findChildren(CodeBlock)]
    assert ways[0].code in shown
    loose = snippets(written.receipt, written.place, mappable=written.mappable, left=2)
    if "model.load_state_dict(sd)" in ways[0].code:
        assert "model.load_state_dict(sd, strict=False)  # 2 keys keep what the model begins with" in loose[0].code
    ran = 0
    for way in ways:
        if "sd = " not in way.code:
            continue
        scope: dict[str, object] = {"model": torch.nn.Module()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is still what C++ reads
            exec(way.code.replace("model.load_state_dict(sd)", ""), scope)  # the lines as a person would run them
        found = scope["sd"]
        assert isinstance(found, dict)
        assert sorted(found) == ["embed.weight", "head.weight"]
        assert torch.equal(found["head.weight"], torch.arange(6.0).reshape(2, 3))
        ran += 1
    assert ran


def test_that_a_copy_whose_records_are_compressed_is_not_offered_mapped(
    window: MainWindow, opened: Opened, tied: Path, qtbot: QtBot
) -> None:
    import zipfile

    packed = tied.with_name("packed.pt")
    with zipfile.ZipFile(tied) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    session = opened(packed)
    saved(session, SaveOrder(str(tied.with_name("copy.pt"))), qtbot)
    assert session.saving.written is not None
    assert not session.saving.written.mappable


def test_that_the_commands_for_other_copies_work_on_a_file_that_is_not_edited(
    window: MainWindow, opened: Opened, tmp_path: Path
) -> None:
    opened(write_checkpoint(tmp_path / "plain.safetensors", MODEL))
    assert window.actions_by_id["convert"].isEnabled()
    assert window.actions_by_id["slim_copy"].isEnabled()
    assert not window.actions_by_id["save_as"].isEnabled()
