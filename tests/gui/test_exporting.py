"""Tensors taken out through the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PySide6.QtWidgets import QDialog, QFileDialog, QLabel
from pytestqt.qtbot import QtBot

from sdviewer.formats.exporting import EXPORTS
from sdviewer.gui.dialogs import export_dialog
from sdviewer.gui.dialogs.export_dialog import ExportDialog, file_name
from sdviewer.gui.exporting import KINDS, ONE, ExportOrder
from sdviewer.gui.main_window import MainWindow
from tests.gui.conftest import Opened, front, sheet_of

NARROW = {"w.weight": torch.arange(6).reshape(2, 3).bfloat16(), "w.bias": torch.zeros(2)}


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    path = tmp_path / "narrow.pt"
    torch.save(NARROW, path)
    return path


def row_of(window: MainWindow, name: str) -> int:
    sheet = sheet_of(window)
    return next(row for row in range(len(sheet)) if sheet.name(row) == name)


def test_that_the_window_offers_what_the_engine_can_write() -> None:
    assert {name: suffix for name, (_, suffix) in KINDS.items()} == {n: e.suffix for n, e in EXPORTS.items()}
    assert set(ONE) == {name for name, export in EXPORTS.items() if export.one}


def test_that_a_module_is_exported_and_that_is_told(
    window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot, tmp_path: Path
) -> None:
    session = opened(checkpoint)
    out = tmp_path / "head.npz"
    order = ExportOrder((row_of(window, "head"),), str(out), "npz")
    with qtbot.waitSignal(session.exporting.exported, timeout=30_000):
        session.export(order)
    assert set(np.load(out)) == {"module.head.weight", "module.head.bias"}
    page = front(window)
    said = [label.text() for label in page.banner.findChildren(QLabel)]
    assert any("Exported 2 tensors to head.npz" in words for words in said)


def test_that_types_that_numpy_lacks_are_asked_about(
    window: MainWindow, opened: Opened, narrow: Path, qtbot: QtBot
) -> None:
    session = opened(narrow)
    dialog = ExportDialog(window, session, (row_of(window, "weight"),), "npy")
    qtbot.addWidget(dialog)
    qtbot.waitUntil(lambda: dialog.would is not None, timeout=30_000)
    assert not dialog.narrow.isHidden()
    assert dialog.order("x", overwrite=False).raw is False
    dialog.narrow.buttons()[1].click()
    assert not dialog.export.isEnabled()
    qtbot.waitUntil(lambda: dialog.would is not None, timeout=30_000)
    assert dialog.order("x", overwrite=False).raw is True
    dialog.container.setCurrentIndex(dialog.container.findData("safetensors"))
    qtbot.waitUntil(lambda: dialog.would is not None, timeout=30_000)
    assert dialog.narrow.isHidden()
    assert dialog.order("x", overwrite=False).raw is False


def test_that_several_begin_with_a_format_that_holds_them(
    window: MainWindow, opened: Opened, narrow: Path, qtbot: QtBot
) -> None:
    session = opened(narrow)
    dialog = ExportDialog(window, session, (row_of(window, "w"),))
    qtbot.addWidget(dialog)
    qtbot.waitUntil(lambda: dialog.would is not None, timeout=30_000)
    assert dialog.kind == "safetensors"
    dialog.container.setCurrentIndex(dialog.container.findData("csv"))
    qtbot.waitUntil(lambda: dialog.would is not None, timeout=30_000)
    assert not dialog.export.isEnabled()


def test_that_the_command_asks_where_and_exports(
    window: MainWindow,
    opened: Opened,
    checkpoint: Path,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = opened(checkpoint)
    with qtbot.waitSignal(session.facts_changed, timeout=30_000):
        session.reveal(row_of(window, "head"))
    suggested = []

    def run(self: ExportDialog) -> int:
        qtbot.waitUntil(lambda: self.would is not None, timeout=30_000)
        return QDialog.DialogCode.Accepted

    def choose(parent: object, title: str, at: str, filters: str) -> tuple[str, str]:
        suggested.append(Path(at).name)
        return str(tmp_path / "mine"), filters

    monkeypatch.setattr(export_dialog.ExportDialog, "exec", run)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    with qtbot.waitSignal(session.exporting.exported, timeout=30_000):
        window.actions_by_id["export"].trigger()
    assert suggested == ["module.head.safetensors"]
    assert (tmp_path / "mine.safetensors").exists()


def test_that_a_key_becomes_a_plain_file_name() -> None:
    assert file_name("a/../b.weight", ".npy") == "a_.._b.weight.npy"
    assert file_name("..", ".npy") == "tensor.npy"
    assert file_name("x\u202ey\n", ".npy").isascii()
