"""What a tensor is for, at the end of its facts, and the way from it to what belongs to it."""

from __future__ import annotations

from pathlib import Path

import torch
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from tests.gui.conftest import Opened, front, write_checkpoint

ATTENTION = {"attn.qkv.weight": (48, 16), "attn.qkv.bias": (48,), "attn.proj.weight": (16, 16)}
NORM = {f"bn.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


def test_that_the_facts_end_with_what_a_tensor_is_for(
    window: MainWindow, opened: Opened, qtbot: QtBot, tmp_path: Path
) -> None:
    session = opened(write_checkpoint(tmp_path / "m.safetensors", ATTENTION))
    page = front(window)
    sheet = session.sheet
    assert sheet is not None
    weight = next(i for i in range(len(sheet)) if sheet.shape(i) == "48×16")
    with qtbot.waitSignal(session.facts_changed, timeout=30_000):
        session.reveal(weight)
    assert page.detail.line.accessibleName().endswith("· fused Q·K·V")
    link = page.detail.related.links[0]
    assert (link.text(), link.accessibleName()) == ("bias", "Go to: bias")
    link.setFocus()
    with qtbot.waitSignal(session.facts_changed, timeout=30_000):
        qtbot.keyClick(link, Qt.Key.Key_Space)
    assert session.facts["key"] == "attn.qkv.bias"


def test_that_a_pruning_mask_says_how_much_it_prunes(
    window: MainWindow, opened: Opened, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "pruned.pt"
    torch.save({"l.weight_orig": torch.ones(4, 5), "l.weight_mask": torch.eye(4, 5)}, path)
    session = opened(path)
    page, sheet = window.current_page(), session.sheet
    assert page is not None
    assert sheet is not None
    session.reveal(next(i for i in range(len(sheet)) if sheet.name(i) == "weight_mask"))
    qtbot.waitUntil(
        lambda: page.detail.line.accessibleName().endswith("pruning mask of weight · 80.00 % pruned"), timeout=30_000
    )


def test_that_more_than_fits_is_in_a_menu(window: MainWindow, opened: Opened, qtbot: QtBot, tmp_path: Path) -> None:
    session = opened(write_checkpoint(tmp_path / "m.safetensors", NORM))
    page = front(window)
    page.detail.related.show_related([{"words": f"a & {i}", "row": i} for i in range(5)])
    assert [link.text() for link in page.detail.related.links] == ["a && 0", "a && 1", "a && 2"]
    assert (page.detail.related.more.text(), len(page.detail.related.rest)) == ("2 more", 2)
    session.select([])
    assert page.detail.related.more.isHidden()
