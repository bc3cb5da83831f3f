"""The Overview: what it shows of a file, how it is used by pointer and keys, how it fills as numbers come."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QFontMetricsF
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.formats import open_checkpoint, tensor_source
from sdviewer.gui import resources
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.overview.bytes_card import merged, shades_of
from sdviewer.gui.panels.overview.depth_card import DepthCard
from sdviewer.gui.panels.overview.findings_card import FindingsCard, Shown
from sdviewer.gui.panels.overview.head_card import facts_of, file_words
from sdviewer.gui.panels.overview.tile_map import TileMap, shortened
from sdviewer.gui.panels.overview.tiles_card import TilesCard, limits
from sdviewer.gui.plots.scale import apart
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Settings
from sdviewer.repair.operations.prefix import Prefix
from tests.engine.conftest import write_safetensors
from tests.gui.conftest import Opened, front, write_checkpoint

SLOW = 30_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Four blocks of two matrices; one of a block holds NaN, and in another all is zero."""
    rng = np.random.default_rng(0)
    tensors = {"embed.weight": rng.normal(size=(50, 16))}
    for i in range(4):
        tensors[f"blocks.{i}.fc1.weight"] = rng.normal(size=(32, 16)) * (i + 1)
        tensors[f"blocks.{i}.fc1.bias"] = rng.normal(size=(32,))
        tensors[f"blocks.{i}.fc2.weight"] = rng.normal(size=(16, 32))
    tensors["blocks.1.fc1.weight"][3, 4:6] = np.nan
    tensors["blocks.2.fc2.weight"][:] = 0
    return write_safetensors(tmp_path / "model.safetensors", tensors)


Seen = tuple[Session, DocumentPage]


@pytest.fixture
def seen(window: MainWindow, settings: Settings, opened: Opened, model: Path, qtbot: QtBot) -> Seen:
    """The model, opened on its Overview."""
    settings.set("view/front", "overview")
    session = opened(model)
    page = front(window)
    qtbot.waitUntil(lambda: "depth_card" in page.overview.__dict__, timeout=SLOW)
    qtbot.waitUntil(lambda: bool(page.overview.depth_card.plot.lines), timeout=SLOW)
    return session, page


@pytest.fixture
def measured(seen: Seen, qtbot: QtBot) -> Seen:
    """The same with all its numbers."""
    session, page = seen
    qtbot.waitUntil(lambda: page.overview._measured == (13, 13), timeout=SLOW)
    qtbot.waitUntil(lambda: not session.jobs.busy(), timeout=SLOW)
    return seen


def centre(tiles: TileMap, tile: int) -> QPoint:
    rect = tiles.rect_of(tile)
    return QPoint(round(rect.x + rect.width / 2), round(rect.y + rect.height / 2))


def tile_named(tiles: TileMap, words: str) -> int:
    return next(at for at in range(len(tiles.tiles)) if tiles.describe(at).startswith(words))


# In the window


def test_that_a_file_opens_on_its_overview_and_the_choice_is_remembered(
    seen: Seen, window: MainWindow, settings: Settings, qtbot: QtBot
) -> None:
    _, page = seen
    assert page.overview.isVisible()
    assert not page.shows_tree
    page.bar.segments.buttons()[1].click()
    assert page.shows_tree
    assert page.tree.view.isVisible()
    assert settings.get("view/front") == "tensors"
    window.show_overview()
    assert page.overview.isVisible()
    assert settings.get("view/front") == "overview"


def test_that_the_head_tells_the_numbers_of_the_file(seen: Seen, model: Path) -> None:
    _, page = seen
    shown = [(fact.number.text(), fact.caption.text()) for fact in page.overview.head.facts if fact.isVisible()]
    assert shown[:2] == [("5.02 K", "parameters"), ("13", "tensors")]
    assert ("float32", "all weights") in shown
    assert page.overview.head.path.text() == str(model)


def test_that_a_click_on_a_tile_shows_its_tensor(seen: Seen, qtbot: QtBot) -> None:
    session, page = seen
    tiles = page.overview.tiles.map
    tile = tile_named(tiles, "blocks.2: fc2")
    qtbot.mouseClick(tiles, Qt.MouseButton.LeftButton, pos=centre(tiles, tile))
    qtbot.waitUntil(lambda: session.facts.get("dotted") == "blocks.2.fc2.weight", timeout=SLOW)
    assert page.shows_tree


def test_that_keys_move_among_tiles_and_enter_shows_one(measured: Seen, qtbot: QtBot) -> None:
    session, page = measured
    tiles = page.overview.tiles.map
    tiles.setFocus()
    qtbot.keyClick(tiles, Qt.Key.Key_Home)
    assert tiles.accessibleDescription().startswith("embed")
    qtbot.keyClick(tiles, Qt.Key.Key_Right)
    assert tiles.accessibleDescription().startswith("blocks.")
    assert "std" in tiles.accessibleDescription()
    chosen = tiles.tiles[tiles.current].row
    qtbot.keyClick(tiles, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: session.selection == [chosen], timeout=SLOW)
    assert page.shows_tree


def test_that_tiles_take_the_colour_of_their_numbers(measured: Seen, settings: Settings) -> None:
    _, page = measured
    tiles = page.overview.tiles.map
    small, large = tile_named(tiles, "blocks.0: fc1"), tile_named(tiles, "blocks.3: fc1")
    assert tiles.shades[small] < tiles.shades[large]
    assert "std" in tiles.describe(small)
    page.overview.tiles.segments.buttons()[0].click()
    assert tiles.shades[small] == tiles.shades[large]
    assert settings.get("overview/colour") == "size"
    page.overview.tiles.segments.buttons()[3].click()
    assert "f32" in page.overview.tiles.scale.accessibleName()


def test_that_findings_lead_to_their_tensors_worst_first(measured: Seen, qtbot: QtBot) -> None:
    session, page = measured
    card = page.overview.findings
    qtbot.waitUntil(lambda: len(card.rows) == len(card.findings), timeout=SLOW)
    assert [found.title for found in card.findings[:2]] == ["1 tensor holds NaN", "1 weight is all zero"]
    card.rows[0].show_button.click()
    qtbot.waitUntil(lambda: session.facts.get("dotted") == "blocks.1.fc1.weight", timeout=SLOW)
    assert page.shows_tree


def test_that_a_finding_about_several_selects_them_all(seen: Seen, qtbot: QtBot) -> None:
    session, page = seen
    sheet = session.sheet
    assert sheet is not None
    rows = [row for row in range(len(sheet)) if sheet.name(row) == "fc2.weight"]
    page.show_rows(rows)
    qtbot.waitUntil(lambda: sorted(session.selection) == rows, timeout=SLOW)


def test_that_lines_across_depth_can_be_chosen_by_key_and_number(
    measured: Seen, settings: Settings, qtbot: QtBot
) -> None:
    session, page = measured
    card = page.overview.depth_card
    qtbot.waitUntil(lambda: bool(card.plot.lines), timeout=SLOW)
    assert [line["name"] for line in card.plot.lines] == ["fc1", "fc2"]
    assert "4 blocks" in card.plot.accessibleDescription()
    before = card.plot.lines
    card.measures.buttons()[3].click()
    qtbot.waitUntil(lambda: card.plot.lines is not before, timeout=SLOW)
    assert settings.get("overview/measure") == "largest"
    card.plot.setFocus()
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Return):
        qtbot.keyClick(card.plot, key)
    qtbot.waitUntil(lambda: session.facts.get("dotted") == "blocks.2.fc2.weight", timeout=SLOW)


def test_that_one_line_has_the_band_of_its_rows_and_another_can_have_it(measured: Seen, qtbot: QtBot) -> None:
    _, page = measured
    card = page.overview.depth_card
    qtbot.waitUntil(lambda: set(card.plot.band) == {0, 1, 2, 3}, timeout=SLOW)
    assert "band: 5–95 % of fc1 rows" in card.subtitle.text()
    rows = np.random.default_rng(0)
    rows.normal(size=(50, 16))
    expected = np.quantile(rows.normal(size=(32, 16)).astype("f4").std(axis=1), (0.05, 0.95))
    np.testing.assert_allclose(card.plot.band[0], expected, rtol=1e-5)
    assert "band of fc1, 5 to 95 %" in card.plot.accessibleDescription()
    assert "(5–95 %: " in card.plot.words_at(0)
    qtbot.waitUntil(lambda: card.plot.axes.view is not None, timeout=SLOW)
    label = next(y for words, y, _ in card.plot._labels() if words == "fc2")
    card.plot._pressed(3.3, label)
    qtbot.waitUntil(lambda: "band: 5–95 % of fc2 rows" in card.subtitle.text(), timeout=SLOW)
    qtbot.waitUntil(lambda: len(card.plot.band) == 4, timeout=SLOW)
    assert card.plot.band[2] == (0.0, 0.0)
    before = card.plot.band
    card.measures.buttons()[1].click()
    qtbot.waitUntil(lambda: card.plot.band != before and len(card.plot.band) == 4, timeout=SLOW)
    assert "times the root" in card.subtitle.accessibleDescription()
    card.kinds.buttons()[1].click()
    qtbot.waitUntil(lambda: "of fc1.bias values" in card.subtitle.text(), timeout=SLOW)


def test_that_a_tensor_is_shown_in_the_overview_and_escape_goes_back(
    measured: Seen, window: MainWindow, qtbot: QtBot
) -> None:
    session, page = measured
    card, tiles = page.overview.depth_card, page.overview.tiles.map
    page.show_details()
    assert session.sheet is not None
    row = next(at for at in range(len(session.sheet)) if session.sheet.name(at) == "fc2.weight")
    session.reveal(row)
    qtbot.waitUntil(lambda: session.selection == [row] and session.facts.get("row") == row, timeout=SLOW)
    key = str(session.facts["dotted"])
    window.actions_by_id["show_in_overview"].trigger()
    assert page.overview.isVisible()
    qtbot.waitUntil(lambda: tiles.marked >= 0 and card.plot.marked[1] == 1, timeout=SLOW)
    block = key.split(".")[1]
    assert tiles.describe(tiles.marked).startswith(f"blocks.{block}: fc2")
    assert card.plot.marked == (int(block), 1)
    assert f"marked: {block}: std fc2" in card.plot.accessibleDescription()
    qtbot.waitUntil(lambda: "of fc2 rows" in card.subtitle.text(), timeout=SLOW)
    assert window.status._cursor.text().endswith("Esc goes back to it")
    qtbot.keyClick(tiles, Qt.Key.Key_Escape)
    assert page.shows_tree
    assert not window.status._cursor.text()
    qtbot.waitUntil(lambda: session.selection == [row], timeout=SLOW)
    page.detail.tensor_page.in_overview.click()
    assert page.overview.isVisible()


def test_that_a_vector_is_shown_among_the_vectors_where_the_overview_was_never_open(
    window: MainWindow, settings: Settings, opened: Opened, model: Path, qtbot: QtBot
) -> None:
    settings.set("view/front", "tensors")
    session = opened(model)
    page = window.current_page()
    assert page is not None
    assert session.sheet is not None
    row = next(at for at in range(len(session.sheet)) if session.sheet.name(at) == "bias")
    session.reveal(row)
    qtbot.waitUntil(lambda: session.facts.get("row") == row, timeout=SLOW)
    page.show_in_overview()
    qtbot.waitUntil(lambda: page.overview.tiles.map.marked >= 0, timeout=SLOW)
    qtbot.waitUntil(lambda: page.overview.depth_card.plot.marked[1] == 0, timeout=SLOW)
    assert page.overview.depth_card.kind == "vectors"
    session.apply(Prefix(add="net."))
    qtbot.waitUntil(lambda: page.overview.tiles.map.marked < 0, timeout=SLOW)
    qtbot.waitUntil(lambda: page.overview.depth_card.plot.marked == (-1, -1), timeout=SLOW)


def test_that_what_is_selected_and_not_seen_cannot_be_edited(seen: Seen, window: MainWindow) -> None:
    session, page = seen
    assert session.selection
    assert not window.actions_by_id["drop"].isEnabled()
    page.show_details()
    assert window.actions_by_id["drop"].isEnabled()


def test_that_tensors_that_look_equal_are_read_again_only_while_somebody_looks(
    measured: Seen, model: Path, qtbot: QtBot
) -> None:
    session, page = measured
    overview, busy = page.overview, session.jobs.busy
    checkpoint = open_checkpoint(model)
    wanted = [(at, tensor_source(checkpoint, at).to_json()) for at in (1, 4)]
    page.show_tree()
    overview._compare(wanted)
    assert not busy("overview digest")
    page.show_overview()
    assert busy("overview digest")
    page.show_tree()
    assert not busy("overview digest")
    assert [at for at, _ in overview._to_compare] == [4, 1]
    page.show_overview()
    qtbot.waitUntil(lambda: not busy("overview digest") and not busy("overview equal"), timeout=SLOW)
    assert not overview._to_compare


def test_that_the_overview_follows_the_recipe(seen: Seen, qtbot: QtBot) -> None:
    session, page = seen
    session.put_recipe(session.recipe, "")
    session.apply(Prefix(add="net."))
    tiles = page.overview.tiles.map
    qtbot.waitUntil(lambda: bool(tiles.groups) and tiles.groups[0].name.startswith("net."), timeout=SLOW)


def test_that_a_file_without_tensors_says_so(
    window: MainWindow, settings: Settings, tmp_path: Path, qtbot: QtBot
) -> None:
    settings.set("view/front", "overview")
    window.open_paths([str(write_checkpoint(tmp_path / "none.safetensors", {}))])
    page = front(window)
    with qtbot.waitSignal(page.tree_painted, timeout=SLOW):
        pass
    qtbot.waitUntil(lambda: "depth_card" in page.overview.__dict__, timeout=SLOW)
    qtbot.waitUntil(lambda: "no depth" in page.overview.depth_card._nothing.text(), timeout=SLOW)
    assert not page.overview.tiles.map.isVisible()


# One card at a time


def test_that_findings_that_stay_keep_their_rows_and_others_go(app: QApplication, qtbot: QtBot) -> None:
    card = FindingsCard()
    qtbot.addWidget(card)
    one, two = Shown("error", "nan", "A", "a", (1,)), Shown("info", "zero", "B", "b", (2, 3))
    card.show_findings([one, two])
    qtbot.waitUntil(lambda: len(card.rows) == 2, timeout=SLOW)
    card.show_findings([two])
    assert [row.title.text() for row in card.rows if not row.isHidden()] == ["B"]
    with qtbot.waitSignal(card.rows_chosen) as chosen:
        card.rows[0].show_button.click()
    assert chosen.args == [[2, 3]]
    assert card.count.text() == "1"


def test_that_the_measuring_is_told_and_offered(app: QApplication, qtbot: QtBot) -> None:
    card = FindingsCard()
    qtbot.addWidget(card)
    card.say(3, 9, "It took long to open.")
    assert card._progress.text() == "Statistics of 3 of 9 tensors so far"
    assert not card.measure.isHidden()
    card.say(9, 9)
    assert card.measure.isHidden()


def test_that_a_cut_tile_says_so(app: QApplication, qtbot: QtBot) -> None:
    tiles = TileMap()
    qtbot.addWidget(tiles)
    tiles.resize(600, 300)
    tiles.show_groups(
        [[1, "embed", 9000, 0, [[1, "embed", 9000, "float32", 1, 1]]]]
        + [[row, f"h.{row}", 100, 9, [[row, "fc", 100, "float32", 1, 1]]] for row in range(2, 6)]
    )
    assert tiles.describe(0).endswith("drawn smaller than it is")
    assert not tiles.is_cut(1)


def test_that_ten_thousand_numbers_of_a_line_are_no_more_than_the_window_paints(
    app: QApplication, qtbot: QtBot
) -> None:
    card = DepthCard("std")
    qtbot.addWidget(card)
    card.resize(900, 300)
    body: dict[str, Any] = {
        "series": [["h", 4]],
        "chosen": 0,
        "kind": "weights",
        "kinds": ["weights"],
        "blocks": ["0", "1", "2", "3"],
        "every": 1,
        "more": 2,
        "lines": [{"name": "fc", "places": [0, 1, 3], "values": [1.0, None, 2.0], "rows": [5, 6, 7]}],
    }
    card.show_depth(body)
    assert "2 smaller ones not drawn" in card.subtitle.text()
    assert card.plot.words_at(3) == "3: std fc 2"
    with qtbot.waitSignal(card.row_chosen) as chosen:
        card.plot._pressed(2.9, 2.0)
    assert chosen.args == [7]


def test_that_a_band_of_a_part_of_the_rows_says_so_and_leaves_the_lines_their_room(
    app: QApplication, qtbot: QtBot
) -> None:
    card = DepthCard("std")
    qtbot.addWidget(card)
    card.resize(900, 300)
    line = {"name": "fc", "places": [0, 1], "values": [1.0, 2.0], "rows": [5, 6]}
    shown = {"series": [["h", 2]], "chosen": 0, "kind": "weights", "kinds": ["weights"], "blocks": ["0", "1"]}
    body: dict[str, Any] = {**shown, "every": 1, "more": 0, "lines": [line]}
    card.show_depth(body)
    whole = {"norm": None, "mean": None, "largest": None, "rows": 4096}
    card.show_band({0: {**whole, "sampled": 256, "std": [-50.0, 50.0]}, 1: None})
    assert card.plot.band == {0: (-50.0, 50.0)}
    assert "band: ≈ 5–95 % of fc rows" in card.subtitle.text()
    assert "from 256 of 4,096 rows" in card.subtitle.accessibleDescription()
    assert -0.3 < card.plot._span[0] < card.plot._span[1] < 3.3
    card.show_depth({**body, "kind": "vectors"})
    assert not card.plot.band
    assert "band" not in card.subtitle.text()


def test_that_names_of_lines_are_moved_apart() -> None:
    places = apart([0.5, 0.49, 0.48, 0.1], 0.1, 0.0, 1.0)
    assert all(above - below >= 0.0999 for above, below in itertools.pairwise(places))
    assert min(apart([0.03, 0.02, 0.01], 0.1, 0.0, 1.0)) >= 0.05


def test_that_small_parts_of_the_bytes_are_put_together() -> None:
    parts = [["model", 100, "model"], *[[f"optimizer {i}", i, "optimizer"] for i in range(9)]]
    told = merged(parts)
    assert sum(nbytes for _, nbytes, _ in told) == 136
    assert told[-1][0] == "4 more"
    assert len(set(shades_of(told[:3]))) == 3


def test_that_a_scale_leaves_out_what_is_far_off_and_small() -> None:
    values = [(0.02 + i / 1000, 100) for i in range(50)]
    assert limits([*values, (7.0, 1)]) == (0.02, 0.069)
    assert limits([]) == (0.0, 0.0)


def test_that_a_name_loses_what_stands_before_its_block_first(app: QApplication) -> None:
    metrics = QFontMetricsF(resources.font(resources.SMALL))
    assert shortened("model.layers.12", metrics, 400) == "model.layers.12"
    assert shortened("model.layers.12", metrics, metrics.horizontalAdvance("layers.12") + 1) == "layers.12"
    assert shortened("model.layers.12", metrics, metrics.horizontalAdvance("12") + 1) == "12"
    assert shortened("embed_tokens", metrics, 40).endswith("…")


def test_that_a_head_tells_what_there_is() -> None:
    head = {
        "parameters": 0,
        "tensors": 0,
        "weights": 0,
        "optimizer": 0,
        "average": 0,
        "dtype": None,
        "values": 3,
        "size": 1319,
        "told": [["epoch", "3"], ["best_loss", "0.25"]],
        "container": "torch-zip",
        "files": 2,
        "writer": "",
        "byte_order": "little",
        "saved": 1_000_000.0,
    }
    assert [(number, caption) for number, caption, _ in facts_of(head)] == [
        ("3", "values"),
        ("1.29 KiB", "file"),
        ("epoch 3", "best_loss 0.25"),
    ]
    assert file_words(head, 1_000_100.0).startswith("PyTorch zip, 2 files, little-endian, 1.29 KiB, saved today")


def test_that_the_colour_of_tiles_survives_numbers_of_other_tiles(app: QApplication, qtbot: QtBot) -> None:
    card = TilesCard("std")
    qtbot.addWidget(card)
    card.show_groups({"groups": [[1, "a", 10, 0, [[1, "a", 10, "float32", 1, 1]]]], "left_out": ""})
    card.show_numbers({"std": [1.0, 2.0], "norm": [1.0, 2.0]})
    assert card.map.words == [""]
    card.show_numbers({"std": [1.5], "norm": [3.0]})
    assert card.map.words == ["std 1.5"]


def test_that_a_file_that_cannot_be_read_has_no_views(
    window: MainWindow, settings: Settings, opened: Opened, model: Path
) -> None:
    settings.set("view/front", "overview")
    model.write_bytes(b"nothing")
    assert opened(model).state == "failed"
    page = front(window)
    assert not page.bar.isVisible()
    assert page.failed.isVisible()
