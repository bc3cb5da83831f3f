"""Colours in a line edit: what is typed, the caret, the selection and the undo stay what they are without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QColor, QInputMethodEvent
from PySide6.QtWidgets import QApplication, QLineEdit
from pytestqt.qtbot import QtBot

from sdviewer.core.regex_marks import regex_marks
from sdviewer.gui import resources
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.find_panel import FindPanel, Search
from sdviewer.gui.regex_highlight import TOKENS, RegexHighlight
from tests.gui.conftest import Opened


@pytest.fixture
def line(app: QApplication, qtbot: QtBot) -> QLineEdit:
    made = QLineEdit()
    qtbot.addWidget(made)
    made.resize(300, 30)
    made.show()
    RegexHighlight(made, regex_marks)
    return made


def colours_of(line: QLineEdit) -> set[str]:
    """The colours of whole pixels."""
    image = line.grab().toImage()
    return {QColor(image.pixel(x, y)).name() for x in range(image.width()) for y in range(image.height())}


def test_that_pieces_have_their_colours_and_follow_the_theme(line: QLineEdit, qtbot: QtBot) -> None:
    font = line.font()
    font.setPixelSize(40)
    line.setFont(font)
    line.resize(500, 70)
    line.setText("a(b)|c")
    line.setCursorPosition(0)
    group = resources.colour(TOKENS["group"]).name()
    assert group in colours_of(line)
    line.setText("abc")
    assert group not in colours_of(line)
    line.setText("a)b")
    assert resources.colour(TOKENS["error"]).name() in colours_of(line)
    assert line.accessibleDescription() == "no group is open here, at character 2"


def test_that_typing_undo_caret_and_selection_are_as_without_colours(line: QLineEdit, qtbot: QtBot) -> None:
    plain = QLineEdit()
    qtbot.addWidget(plain)
    steps = [(r"a(b)\d+", 0), ("", Qt.Key.Key_Left), ("", Qt.Key.Key_Left), ("[z", 0), ("", Qt.Key.Key_Backspace)]
    for one in (line, plain):
        for words, key in steps:
            qtbot.keyClicks(one, words)
            if key:
                qtbot.keyClick(one, key)
    for _ in range(6):
        assert (line.text(), line.cursorPosition()) == (plain.text(), plain.cursorPosition())
        assert line.isUndoAvailable() == plain.isUndoAvailable()
        line.undo()
        plain.undo()
    line.redo()
    plain.redo()
    assert line.text() == plain.text()
    line.setText("a(b)c")
    line.setSelection(4, -3)
    line.findChild(RegexHighlight).refresh()
    assert (line.selectedText(), line.cursorPosition()) == ("(b)", 1)


def test_that_an_input_method_can_compose_in_it(line: QLineEdit, qtbot: QtBot) -> None:
    line.setText("(a)")
    QCoreApplication.sendEvent(line, QInputMethodEvent("か", []))
    line.findChild(RegexHighlight).refresh()
    end = QInputMethodEvent("", [])
    end.setCommitString("か")
    QCoreApplication.sendEvent(line, end)
    assert line.text() == "(a)か"


def test_that_the_filter_and_find_mark_their_expressions(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot
) -> None:
    opened(checkpoint)
    page = window.current_page()
    assert page is not None
    page.tree.filter.setText(r"fc /blocks\.(/")
    assert [mark.start for mark in page.tree.highlight.marks] == [10, 12, 12]
    assert page.tree.highlight.wrong == "this group is not closed, at character 13"
    qtbot.waitUntil(lambda: not page.tree._wrong.isHidden(), timeout=30_000)
    assert "is no regular expression" in page.tree._wrong.text()
    page.show_find(Search(r"(\d)", r"x\1", "regex"))
    find = page.views["find"]
    assert isinstance(find, FindPanel)
    assert [len(highlight.marks) for highlight in find.highlights] == [3, 1]
    find.syntax.buttons()[0].click()
    assert [len(highlight.marks) for highlight in find.highlights] == [0, 0]
