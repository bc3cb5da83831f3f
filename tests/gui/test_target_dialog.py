"""The target dialog with its real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLineEdit
from pytestqt.qtbot import QtBot

from sdviewer.gui.dialogs.target.checkpoint import CheckpointPage
from sdviewer.gui.dialogs.target.config import ConfigPage
from sdviewer.gui.dialogs.target.model import ModelPage, with_colon
from sdviewer.gui.dialogs.target.page import TargetPage
from sdviewer.gui.dialogs.target.paste import MOST_SHOWN, PastePage
from sdviewer.gui.dialogs.target.ways import WAYS
from sdviewer.gui.dialogs.target_dialog import TargetDialog
from sdviewer.gui.main_window import MainWindow

WAIT = 60_000
KEYS = {"embed.weight": (5, 4), "head.weight": (3, 4)}
ERROR = (
    "RuntimeError: Error(s) in loading state_dict for Net:\n"
    '\tMissing key(s) in state_dict: "embed.weight", "head.weight". \n'
    '\tUnexpected key(s) in state_dict: "module.embed.weight", "module.head.weight". '
)
CODE = """
import sys, time
from pathlib import Path
import torch
Path(__file__).with_suffix(".ran").touch()
class Net(torch.nn.Module):
    def __init__(self, rows=3, wait=0):
        super().__init__()
        if wait:
            print(f"fetching {rows} \x1b[31mrows", file=sys.stderr, flush=True)
        time.sleep(wait)
        self.head = torch.nn.Linear(4, rows, bias=False)
        self.embed = torch.nn.Embedding(5, 4)
def broken():
    print("about to fail", file=sys.stderr)
    raise ValueError("no such variant")
"""
Page = TypeVar("Page", bound=TargetPage)


@pytest.fixture
def dialog(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> Iterator[TargetDialog]:
    """The dialog about a file whose keys begin with `module.`."""
    QGuiApplication.clipboard().clear()
    made = TargetDialog(window, saved(tmp_path / "a.pth", "module."), [saved(tmp_path / "b.pth")])
    made.open()
    settled(made, qtbot)
    yield made
    made.reject()
    made.deleteLater()


def saved(path: Path, prefix: str = "") -> str:
    torch.save({prefix + key: torch.zeros(shape) for key, shape in KEYS.items()}, path)
    return str(path)


def settled(dialog: TargetDialog, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not dialog._pause.isActive() and not dialog._jobs.busy(), timeout=WAIT)


def turned(dialog: TargetDialog, way: str, kind: type[Page]) -> Page:
    dialog.ways.choose(way)
    page = dialog.page
    assert isinstance(page, kind)
    return page


def begin_building(dialog: TargetDialog, qtbot: QtBot, code: Path, name: str, arguments: str = "") -> None:
    """Name a class of `CODE`, and say that it may run."""
    code.write_text(CODE)
    page = turned(dialog, "class", ModelPage)
    page.name.setText(f"{code}:{name}")
    page.arguments.setText(arguments)
    settled(dialog, qtbot)
    dialog.use.click()


def of_text(text: str) -> QMimeData:
    data = QMimeData()
    data.setText(text)
    return data


def test_that_the_paste_field_is_filled_with_an_error_from_the_clipboard(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.pth", "module.")
    QGuiApplication.clipboard().setText(ERROR)
    dialog = TargetDialog(window, path)
    assert dialog.paste.field.toPlainText() == ERROR
    settled(dialog, qtbot)
    assert dialog.card.words().startswith(
        "Understood Net load error, 2 keys in the model 2 missing 2 unexpected 0 size"
    )
    dialog.use.click()
    assert dialog.chosen.target == {"name": "pasted text", "text": ERROR}
    assert dialog.chosen.built["built"]
    QGuiApplication.clipboard().setText("some other text")
    other = TargetDialog(window, path)
    assert other.paste.field.toPlainText() == ""
    other.reject()


def test_that_a_text_is_read_while_it_is_typed_and_used_with_the_keyboard(dialog: TargetDialog, qtbot: QtBot) -> None:
    assert not dialog.use.isEnabled()
    QTest.keyClicks(dialog.paste.field, "hello there")
    settled(dialog, qtbot)
    assert "This is no load error" in dialog.card.words()
    assert not dialog.use.isEnabled()
    dialog.paste.field.setPlainText("head.weight [3, 4]")
    assert not dialog.use.isEnabled()  # of what was read before nothing is used
    settled(dialog, qtbot)
    assert "list of keys, 1 key in the model" in dialog.card.words()
    QTest.keyClick(dialog.paste.field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert dialog.chosen.target["text"] == "head.weight [3, 4]"


def test_that_a_long_text_is_read_whole_and_shown_in_part(dialog: TargetDialog, qtbot: QtBot) -> None:
    log = "INFO step 12 loss 0.123\n" * 400_000
    dialog.paste.field.insertFromMimeData(of_text(log + ERROR))
    settled(dialog, qtbot)
    assert "2 missing 2 unexpected" in dialog.card.words()
    assert len(dialog.paste.field.toPlainText()) == MOST_SHOWN
    assert dialog.paste.field.isReadOnly()
    assert dialog.paste.note.text().startswith("Read whole; the last")
    dialog.use.click()
    assert set(json.loads(dialog.chosen.target["text"])) == set(KEYS)


def test_that_a_text_that_is_dropped_takes_the_place_of_what_is_there(dialog: TargetDialog, qtbot: QtBot) -> None:
    turned(dialog, "config", ConfigPage)
    data = of_text(ERROR)
    action, buttons, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(500, 300), action, data, buttons, keys)
    dialog.dragEnterEvent(enter)
    assert enter.isAccepted()
    dialog.dropEvent(QDropEvent(QPointF(500, 300), action, data, buttons, keys))
    settled(dialog, qtbot)
    assert dialog.ways.current == "message"
    assert dialog.paste.field.toPlainText() == ERROR


def test_that_a_file_that_is_dropped_is_told_by_its_content(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text(ERROR)
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    met = []
    for name in ("b.pth", "error.txt", "net.py", "config.json"):
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(tmp_path / name))])
        action, buttons, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        dialog.dropEvent(QDropEvent(QPointF(500, 300), action, data, buttons, keys))
        settled(dialog, qtbot)
        met.append((dialog.ways.current, dialog._read.get("kind")))
    assert met == [("checkpoint", "checkpoint"), ("keys", "message"), ("class", None), ("config", "config")]
    assert not (tmp_path / "net.ran").exists()


def test_that_another_checkpoint_is_a_target(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    page = turned(dialog, "checkpoint", CheckpointPage)
    page.list.setCurrentRow(0)
    settled(dialog, qtbot)
    assert "b.pth checkpoint, 2 keys in the model 2 missing 2 unexpected" in dialog.card.words()
    dialog.use.click()
    assert dialog.chosen.target == {"name": str(tmp_path / "b.pth"), "state_dict": ""}


@pytest.mark.parametrize("way", [way.id for way in WAYS])
def test_that_tab_goes_from_a_way_to_its_page_and_then_to_the_buttons(
    dialog: TargetDialog, qtbot: QtBot, way: str
) -> None:
    for other in WAYS:
        dialog.ways.choose(other.id)  # all of them are made
    dialog.ways.choose(way)
    settled(dialog, qtbot)
    checked = next(button for button in dialog.ways.findChildren(QAbstractButton) if button.isChecked())
    checked.setFocus()
    QTest.keyClick(dialog, Qt.Key.Key_Tab)
    assert dialog.page.isAncestorOf(dialog.focusWidget())
    while dialog.page.isAncestorOf(dialog.focusWidget()):
        QTest.keyClick(dialog, Qt.Key.Key_Tab)
    assert not dialog.ways.isAncestorOf(dialog.focusWidget())
    while not dialog.ways.isAncestorOf(dialog.focusWidget()):
        QTest.keyClick(dialog, Qt.Key.Key_Backtab)
    assert dialog.focusWidget() is checked


def test_that_one_of_several_state_dicts_is_chosen(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "ema": {"a": torch.zeros(1), "b": torch.zeros(1)}}, tmp_path / "c.pth")
    page = turned(dialog, "checkpoint", CheckpointPage)
    page.take_file(str(tmp_path / "c.pth"))
    settled(dialog, qtbot)
    assert page.places.isVisible()
    page.places.setCurrentIndex(page.places.findData("ema"))
    page.places.activated.emit(page.places.currentIndex())
    settled(dialog, qtbot)
    assert "2 keys in the model" in dialog.card.words()
    dialog.use.click()
    assert dialog.chosen.target["state_dict"] == "ema"


def test_that_a_class_is_run_only_when_somebody_says_so(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(CODE)
    page = turned(dialog, "class", ModelPage)
    page.name.setText(str(code))
    settled(dialog, qtbot)
    assert [page.names.itemText(at) for at in range(1, page.names.count())] == ["Net  —  class", "broken  —  function"]
    page.names.activated.emit(1)
    page.arguments.setText("rows=7")
    settled(dialog, qtbot)
    assert "This runs your code: net.py is imported, and Net is called." in dialog.card.words()
    assert dialog.use.text() == "Run it and build"
    assert not code.with_suffix(".ran").exists()
    dialog.use.click()
    assert dialog.card.words() == "Building net.py:Net…"
    settled(dialog, qtbot)
    assert code.with_suffix(".ran").exists()
    assert "Understood Net model class, 2 keys in the model 2 missing 2 unexpected" in dialog.card.words()
    dialog.use.click()
    target = dialog.chosen.target
    assert target == {"name": f"{code}:Net(rows=7)", "run": True, "timeout": 60, "folder": ""}
    assert dialog.chosen.built["built"]


def test_that_why_a_class_is_not_built_is_told_with_what_it_printed(
    dialog: TargetDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    begin_building(dialog, qtbot, tmp_path / "net.py", "broken")
    settled(dialog, qtbot)
    assert dialog.card.words().startswith("Not built ValueError: no such variant.")
    assert "about to fail" in dialog.card.details.block.toPlainText()
    assert dialog.use.isEnabled()  # it can be tried again


def test_that_building_is_stopped(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    begin_building(dialog, qtbot, tmp_path / "net.py", "Net", "wait=600")
    qtbot.waitUntil((tmp_path / "net.ran").exists, timeout=WAIT)
    dialog.card.cancel_requested.emit()
    settled(dialog, qtbot)
    assert "This runs your code" in dialog.card.words()
    assert dialog.card.details.button.isHidden()
    assert dialog.use.isEnabled()


def test_that_what_a_model_prints_is_there_while_it_is_built(
    dialog: TargetDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    begin_building(dialog, qtbot, tmp_path / "net.py", "Net", "wait=600")
    qtbot.waitUntil(dialog.card.details.button.isVisible, timeout=WAIT)
    assert dialog.card.details.block.isHidden()
    dialog.card.details.button.click()
    assert dialog.card.details.block.isVisible()
    assert "fetching 3 " in dialog.card.details.block.toPlainText()
    assert "\x1b" not in dialog.card.details.block.toPlainText()
    assert dialog.card.words().startswith("Building")


def test_that_a_config_says_what_is_needed(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "vit_of_nobody"}')
    page = turned(dialog, "config", ConfigPage)
    page.path.setText(str(tmp_path / "config.json"))
    settled(dialog, qtbot)
    assert "timm" in dialog.card.words()
    assert dialog._read["builds"] == dialog.use.isEnabled()


def test_that_a_file_that_is_not_there_is_told(dialog: TargetDialog, qtbot: QtBot, tmp_path: Path) -> None:
    page = turned(dialog, "keys", PastePage)
    page.take_file(str(tmp_path / "gone.txt"))
    settled(dialog, qtbot)
    assert dialog.card.words().startswith("Not understood")
    assert not dialog.use.isEnabled()


def test_that_turning_to_another_way_takes_back_what_was_understood(dialog: TargetDialog, qtbot: QtBot) -> None:
    dialog.paste.take(ERROR.encode())
    settled(dialog, qtbot)
    assert dialog.use.isEnabled()
    dialog.ways.choose("keys")
    assert not dialog.use.isEnabled()
    settled(dialog, qtbot)
    assert not dialog.use.isEnabled()
    dialog.ways.choose("message")
    settled(dialog, qtbot)
    assert dialog.use.isEnabled()


def test_that_a_workbench_whose_model_is_not_built_tells_why_and_offers_another_target(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(CODE)
    target = {"name": f"{tmp_path / 'net.py'}:broken", "run": True}
    page = window.workbenches.repair(saved(tmp_path / "a.pth"), target)
    qtbot.waitUntil(lambda: page.session.state == "failed", timeout=WAIT)
    assert "no such variant" in page.failed.words()
    assert "about to fail" in page.failed.details.block.toPlainText()
    assert page.failed.other.isVisible()
    page.target_change_requested.disconnect()
    with qtbot.waitSignal(page.target_change_requested, timeout=1000):
        page.failed.other.click()
    page.session.fit_to({"name": saved(tmp_path / "b.pth")})
    qtbot.waitUntil(lambda: page.session.state == "open", timeout=WAIT)
    assert page.session.problems == 0
    assert not page.failed.isVisible()


def test_that_a_dot_before_a_class_is_meant_as_a_colon() -> None:
    assert with_colon("models.vit.Net") == "models.vit:Net"
    assert with_colon("models.vit.Net(depth=3.5)") == "models.vit:Net(depth=3.5)"
    assert with_colon("models.vit:Net") == "models.vit:Net"
    assert with_colon("net.py") == "net.py"
    assert with_colon("net.py:build") == "net.py:build"


def test_that_every_control_has_a_name(dialog: TargetDialog) -> None:
    for way in WAYS:
        dialog.ways.choose(way.id)
        assert dialog.ways.accessibleName()
        for kind in (QAbstractButton, QLineEdit):
            for control in dialog.findChildren(kind):
                if control.isVisible() and not isinstance(control.parent(), QLineEdit):
                    assert control.accessibleName() or getattr(control, "text", str)(), control


def test_that_a_workbench_tells_what_its_model_prints_while_it_is_built(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(CODE)
    target = {"name": f"{tmp_path / 'net.py'}:Net(wait=600)", "run": True}
    page = window.workbenches.repair(saved(tmp_path / "a.pth"), target)
    qtbot.waitUntil(page._opening.printed.button.isVisible, timeout=WAIT)
    page._opening.printed.button.click()
    assert "fetching 3 " in page._opening.printed.block.toPlainText()
    page.session.cancel_opening()
    qtbot.waitUntil(lambda: page.session.state == "failed", timeout=WAIT)
