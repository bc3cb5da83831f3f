"""Where a repair begins: the clipboard, the bar of a document, the start page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.clipboard import clipboard_text, holds_load_error, text_in
from sdviewer.gui.clipboard_offer import ClipboardOffer
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.widgets import ClickCard
from tests.gui.conftest import Opened, front

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
