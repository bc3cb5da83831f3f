"""Where a repair begins: the clipboard, the bar of a document, the start page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QGuiApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.clipboard import clipboard_text, holds_load_error, text_in
from sdviewer.gui.clipboard_offer import ClipboardOffer
from sdviewer.gui.dialogs.target_dialog import TargetDialog
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.widgets import ClickCard
from tests.gui.conftest import Opened, front
from tests.gui.test_editing import in_dialog

ERROR = 'RuntimeError: Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "a". '


def offered(window: MainWindow, qtbot: QtBot, data: QMimeData, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the banner says where another program has put this on the clipboard."""
    clipboard = QGuiApplication.clipboard()
    monkeypatch.setattr(type(clipboard), "ownsClipboard", lambda self: False)
    page = front(window)
    page.banner.hide()
    clipboard.setMimeData(data)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=10_000)
    window._look_at_clipboard()
    return page.banner.text() if page.banner.isVisible() else ""


def of_text(text: str) -> QMimeData:
    data = QMimeData()
    data.setText(text)
    return data


def test_that_a_load_error_on_the_clipboard_is_offered_once(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(checkpoint)
    said = offered(window, qtbot, of_text(ERROR), monkeypatch)
    assert said.startswith("The clipboard holds a load error: repair to fit?")
    front(window).banner.hide()
    window._look_at_clipboard()
    assert not front(window).banner.isVisible()
    assert offered(window, qtbot, of_text(ERROR), monkeypatch)  # it was copied again


def test_that_any_other_text_and_a_secret_are_left_alone(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(checkpoint)
    assert not offered(window, qtbot, of_text("hello"), monkeypatch)
    secret = of_text(ERROR)
    secret.setData("x-kde-passwordManagerHint", b"secret")
    assert not offered(window, qtbot, secret, monkeypatch)
    pixels = QMimeData()
    pixels.setData("image/png", b"Missing key(s)")
    assert not offered(window, qtbot, pixels, monkeypatch)


def test_that_the_offer_leads_to_the_question_about_this_file(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(checkpoint)
    asked: list[str] = []
    window._offer = ClipboardOffer(window, asked.append)
    assert offered(window, qtbot, of_text(ERROR), monkeypatch)
    front(window).banner._buttons[0].click()
    assert asked == [str(checkpoint)]
    assert not front(window).banner.isVisible()


def test_that_a_long_clipboard_is_looked_at_at_its_ends() -> None:
    assert holds_load_error(b"x" * 9_000_000 + ERROR.encode())
    assert holds_load_error(ERROR.encode() + b"x" * 9_000_000)
    assert not holds_load_error(b"x" * 9_000_000)


def test_that_text_comes_as_utf_8_in_whatever_kind_it_is_offered() -> None:
    assert text_in(of_text("schlüssel")) == "schlüssel".encode()
    data = QMimeData()
    data.setData("text/plain;charset=utf-8", "schlüssel".encode())
    assert text_in(data) == "schlüssel".encode()
    assert text_in(QMimeData()) == b""
    QGuiApplication.clipboard().setText("a")
    assert clipboard_text() == b"a"


def test_that_the_bar_of_a_document_compares_repairs_and_exports(
    window: MainWindow, opened: Opened, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(checkpoint)
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(window.workbenches, "ask_for", lambda path: asked.append(("repair", path)))
    monkeypatch.setattr(window.comparisons, "ask_with", lambda path: asked.append(("compare", path)))
    bar = front(window).bar
    assert bar.isVisible()
    bar.repair.click()
    bar.compare.click()
    assert asked == [("repair", str(checkpoint)), ("compare", str(checkpoint))]
    assert bar._exports[0].text() == "Con&vert…"


def test_that_the_start_page_offers_to_open_compare_and_repair(window: MainWindow, qtbot: QtBot) -> None:
    cards = window.start.findChildren(ClickCard)
    assert [card.accessibleName().partition(":")[0] for card in cards] == ["Open", "Compare", "Repair"]
    with qtbot.waitSignal(window.start.fit_requested, timeout=1000):
        window.start.fit_requested.disconnect(window.workbenches.ask)
        cards[2].clicked.emit()


def drag(window: MainWindow, data: QMimeData, place: QPoint) -> bool:
    """Drop something on the window as a desktop does; whether it was taken."""
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entered = QDragEnterEvent(place, copy, data, left, none)
    entered.ignore()
    window.dragEnterEvent(entered)
    window.dragMoveEvent(QDragMoveEvent(place, copy, data, left, none))
    dropped = QDropEvent(QPointF(place), copy, data, left, none)
    dropped.ignore()
    window.dropEvent(dropped)
    return entered.isAccepted() and dropped.isAccepted()


def of_file(path: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    return data


def test_that_a_load_error_is_pasted_or_dropped_on_a_file_that_it_is_about(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    opened(checkpoint)
    QGuiApplication.clipboard().setText(ERROR)
    seen: list[str] = []

    def look(dialog: TargetDialog) -> None:
        seen.append(dialog.paste.field.toPlainText())
        dialog.reject()

    in_dialog(TargetDialog, look)
    window.actions_by_id["paste_error"].trigger()
    QGuiApplication.clipboard().clear()
    in_dialog(TargetDialog, look)
    assert drag(window, of_text(ERROR), QPoint(400, 400))
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=10_000)
    assert all("Missing key(s)" in said for said in seen)
    assert not drag(window, of_text("hello"), QPoint(400, 400))
    window.actions_by_id["paste_error"].trigger()
    assert front(window).banner.text().startswith("The clipboard holds no load error")


def test_that_a_file_dropped_on_a_workbench_is_offered_as_its_target(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, tmp_path: Path
) -> None:
    opened(checkpoint)
    target = tmp_path / "target.pth"
    torch.save({"other.weight": torch.zeros(2)}, target)
    page = window.workbenches.repair(str(checkpoint), {"name": "pasted text", "text": "a.weight"})
    qtbot.waitUntil(lambda: page.session.is_settled, timeout=60_000)

    def use(dialog: TargetDialog) -> None:
        qtbot.waitUntil(dialog.use.isEnabled, timeout=60_000)
        dialog.use.click()

    in_dialog(TargetDialog, use)
    assert drag(window, of_file(target), QPoint(window.width() - 200, 500))
    qtbot.waitUntil(lambda: page.session.target.get("name") == str(target), timeout=60_000)
    qtbot.waitUntil(lambda: page.session.is_settled, timeout=60_000)
    assert page.head.b.name.text() == "target.pth"
    assert len(window.tabs.pages()) == 1
    assert drag(window, of_file(target), QPoint(200, 500))  # the other half opens it
    assert len(window.tabs.pages()) == 2
