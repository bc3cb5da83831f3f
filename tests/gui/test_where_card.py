"""Where it changed: the matrix, the bars, what is frozen, and how one gets from there to a pair."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.panels.compare.where_card import WhereCard
from sdviewer.gui.panels.compare.where_grid import ChangeGrid
from sdviewer.gui.panels.compare.where_words import frozen_words, scale_words, share_words
from sdviewer.gui.plots import colours

CELLS = [0.0, 0.02, 0.16, math.nan, 0.08, 0.01]
ROWS = [10, 11, 12, 13, -1, 15]


def body(**more: Any) -> dict[str, Any]:
    parts = {"components": ["fc.weight", "fc.bias"], "depths": ["0", "1", "2"], "limit": 0.16, "frozen": []}
    return {**parts, "pairs": 4, "bars": None, **more}


def buffers(cells: list[float] = CELLS, rows: list[int] = ROWS) -> dict[str, memoryview]:
    return {"cells": memoryview(array("d", cells).tobytes()), "rows": memoryview(array("i", rows).tobytes())}


@pytest.fixture
def card(app: QApplication, qtbot: QtBot) -> WhereCard:
    made = WhereCard()
    qtbot.addWidget(made)
    made.resize(560, 240)
    made.show_where(body(frozen=["embed", "blocks.0", "blocks.1"]), buffers())
    made.show()
    return made


def centre(grid: ChangeGrid, cell: int) -> QPoint:
    return grid.cell_rect(cell).center().toPoint()


def test_that_a_click_on_a_cell_goes_to_its_pair(card: WhereCard, qtbot: QtBot) -> None:
    with qtbot.waitSignal(card.pair_chosen) as told:
        qtbot.mouseClick(card.matrix, Qt.MouseButton.LeftButton, pos=centre(card.matrix, 2))
    assert told.args == [12]
    gone = []
    card.pair_chosen.connect(gone.append)
    qtbot.mouseClick(card.matrix, Qt.MouseButton.LeftButton, pos=centre(card.matrix, 4))
    assert not gone, "there is no pair"


def test_that_the_keyboard_goes_from_cell_to_cell_over_gaps_and_to_the_pair(card: WhereCard, qtbot: QtBot) -> None:
    told: list[int] = []
    card.pair_chosen.connect(told.append)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Return):
        qtbot.keyClick(card.matrix, key)
    assert told == [15], "from the first cell down, then over the cell that has no pair"
    assert card.subtitle.text() == "fc.bias of 2: 1.00 %"
    assert card.matrix.accessibleName() == "fc.bias of 2: 1.00 %"


def test_that_the_pointer_is_told_which_pair_and_how_much(
    card: WhereCard, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda place, words, *rest: said.append(words))
    for cell in (2, 3):
        at = centre(card.matrix, cell)
        QApplication.sendEvent(card.matrix, QHelpEvent(QEvent.Type.ToolTip, at, card.matrix.mapToGlobal(at)))
    assert "fc.weight of 2: 16.00 %" in said[0] and "not compared" in said[1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_that_cells_have_the_colours_of_their_amounts_on_one_scale(card: WhereCard, theme: Any) -> None:
    resources.theme().apply(theme)
    picture = card.matrix.grab().toImage()
    for cell, share in ((0, 0.0), (1, 0.125), (2, 1.0)):
        assert picture.pixelColor(centre(card.matrix, cell)) == colours.amount(share), cell
    assert picture.pixelColor(centre(card.matrix, 3)) == resources.colour("panel"), "not compared is no amount"
    resources.theme().apply("light")


def test_that_a_limit_of_nothing_and_an_infinite_change_are_shown(card: WhereCard) -> None:
    card.show_where(body(limit=0.0), buffers([0.0] * 6))
    assert card.matrix.amount(0) == 0.0
    card.show_where(body(limit=0.5), buffers([math.inf, *CELLS[1:]]))
    assert card.matrix.amount(0) == 1.0 and card.matrix.said(0).endswith("∞")
    assert not card.matrix.grab().isNull()


def test_that_the_pair_in_detail_is_framed(card: WhereCard) -> None:
    before = card.matrix.grab().toImage()
    card.show_chosen(12)
    assert card.matrix.chosen_cell == 2
    assert card.matrix.grab().toImage() != before
    card.show_chosen(999)
    assert card.matrix.chosen_cell == -1


def test_that_where_there_is_no_depth_the_most_changed_are_bars(card: WhereCard, qtbot: QtBot) -> None:
    names = [[f"layer{i}.conv.weight", 40 + i, 0.1 / (i + 1)] for i in range(20)]
    names[0][2] = "inf"  # JSON has no number for it
    card.show_where(body(components=[], depths=[], limit=0.05, bars=names), {"cells": memoryview(b"")})
    assert card.bars.isVisible() and not card.matrix.isVisible()
    assert card.bars.said(0) == "layer0.conv.weight: ∞" and card.bars.said(1) == "layer1.conv.weight: 5.00 %"
    with qtbot.waitSignal(card.pair_chosen) as told:
        qtbot.mouseClick(card.bars, Qt.MouseButton.LeftButton, pos=centre(card.bars, 1))
    assert told.args == [41]
    assert card.height() < 20 * card.bars.HEIGHT, "a long list is scrolled"
    card.show_where(body(components=[], depths=[], bars=[]), {})
    assert not card.bars.isVisible() and "No number has changed" in card._none.text()


def test_that_it_is_described_in_words(card: WhereCard) -> None:
    said = card.matrix.accessibleDescription()
    assert "2 components by 3 blocks" in said and "16 %" in said
    assert said.index("fc.weight of 2: 16.00 %") < said.index("fc.weight of 1: 2.00 %"), "the most first"
    assert card.frozen.text() == "embed and blocks 0–1 are identical"
    assert card._pairs.text() == "4 pairs"


def test_that_names_out_of_a_file_cannot_play_tricks(card: WhereCard) -> None:
    card.show_where(body(components=["<b>x</b>\n", "y\u202e"], frozen=["<i>\x1b[2J"]), buffers())
    assert card.matrix.components == ["<b>x</b>\\n", "y\\u202e"]
    assert card.frozen.textFormat() == Qt.TextFormat.PlainText and "\x1b" not in card.frozen.text()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["embed"], "embed is identical"),
        (["embed", "norm"], "embed and norm are identical"),
        (["embed", *(f"blocks.{i}" for i in range(6))], "embed and blocks 0–5 are identical"),
        ([f"blocks.{i}" for i in (0, 1, 2, 5, 7, 8)], "blocks 0–2, 5, 7–8 are identical"),
        (["layer1", "layer2", "fc"], "layer 1–2 and fc are identical"),
        (["blocks.3"], "blocks.3 is identical"),
        (["blocks.0 – 3"], "blocks 0–3 are identical"),
        (["embed", "a.b.0 – 3", "a.b.7", "a.b.8"], "embed, a.b 0–3 and a.b 7–8 are identical"),
        ([f"part{c}" for c in "abcdefghi"], "parta, partb, partc, partd, parte, partf and 3 other parts are identical"),
    ],
)
def test_that_frozen_parts_are_named_in_words(names: list[str], words: str) -> None:
    assert frozen_words(names) == words


def test_that_shares_are_written_as_people_read_them() -> None:
    assert [share_words(value) for value in (None, math.nan, math.inf, 0.1349)] == [
        *("not compared", "not compared", "∞", "13.49 %")
    ]
    assert [scale_words(value) for value in (0.0, 0.16, 0.004, 3e-7)] == ["0", "16 %", "0.4 %", "3.000e−05 %"]
