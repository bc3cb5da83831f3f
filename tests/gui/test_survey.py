"""The numbers of all tensors in the window: columns, order, filter, marks, the Problems chip, progress and stopping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.models.tree_model import NAME
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.problems_panel import ProblemsPanel
from sdviewer.gui.panels.tree_panel import TreePanel
from sdviewer.gui.session import Session
from tests.engine.conftest import write_safetensors
from tests.gui.conftest import Opened

SLOW = 30_000


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A model with a healthy matrix, one with NaN, one that is all zero, a bias of zeros, and one far outlier."""
    rng = np.random.default_rng(1)
    broken = rng.normal(size=(4, 5))
    broken[1, 2:4] = np.nan
    far = rng.normal(size=(100,))
    far[7] = 1e9
    tensors = {
        "net.good.weight": rng.normal(size=(8, 8)) * 3,
        "net.good.bias": np.zeros(8),
        "net.bad.weight": broken,
        "net.dead.weight": np.zeros((2, 6)),
        "net.far.scale": far,
    }
    return write_safetensors(tmp_path / "odd.safetensors", tensors)


@pytest.fixture
def surveyed(odd: Path, window: MainWindow, opened: Opened, qtbot: QtBot) -> tuple[Session, DocumentPage]:
    """The odd file, measured whole, all its rows in sight."""
    session = opened(odd)
    qtbot.waitUntil(lambda: session.survey.known.state == "done" and session.noted > 0, timeout=SLOW)
    page = window.current_page()
    assert page is not None
    with qtbot.waitSignal(session.rows_changed, timeout=SLOW):
        session.expand_all()
    return session, page


def row_of(tree: TreePanel, name: str, below: str) -> int:
    """The table row of a tensor by its name and that of the module above."""
    model = tree.model
    return next(
        row
        for row in range(model.rowCount())
        if model.name(model.node(row)) == name and model.name(model.parent_of(model.node(row))) == below
    )


def rows(tree: TreePanel) -> list[str]:
    return [str(tree.model.index(row, NAME).data()) for row in range(tree.model.rowCount())]


def test_that_a_file_is_measured_by_itself_and_what_is_odd_is_marked(surveyed: tuple[Session, DocumentPage]) -> None:
    session, page = surveyed
    model = page.tree.model

    def marks(name: str, below: str) -> tuple[list[str], bool]:
        found, noted = model.marks(model.node(row_of(page.tree, name, below)))
        return [word for word, _ in found], noted

    print(rows(page.tree))
    assert session.survey.known.counts == "5 / 5"
