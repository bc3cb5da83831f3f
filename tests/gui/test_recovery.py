"""Edits that a crash left: a real window is killed, and the next one offers what it had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from sdviewer.engine.client import NumbersPool, worker_environment
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.settings import Settings
from tests.gui.conftest import MODEL, front, write_checkpoint

EDITOR = """
import sys
from pathlib import Path
from sdviewer.engine.client import NumbersPool
from sdviewer.gui.app import make_application, make_window
from sdviewer.gui.settings import Memory, Settings
from sdviewer.repair.operations import Drop, Prefix, Strip

app = make_application()
window = make_window(Settings(Memory()), NumbersPool(1), Path(sys.argv[1]))
window.open_paths([sys.argv[2]])
session = window.current_session()

def opened():
    session.apply(Strip(prefix="module."))
    session.apply(Drop(keys=("head.*",)))
    session.apply(Prefix(add="net."), then=lambda: session.undo())

def changed():
    if session.history.can_redo:
        assert window.recovery.journals.wait()
        print("safe", flush=True)

session.opened.connect(opened)
session.recipe_changed.connect(changed)
app.exec()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A file whose window was killed with three edits of which one was undone; its journals are beside it."""
    path = write_checkpoint(tmp_path / "model.safetensors", MODEL)
    environment = {**worker_environment(), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", EDITOR, str(tmp_path / "journals"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"safe\n"
        child.kill()
    return path


@pytest.fixture
def window(app: QApplication, settings: Settings, tmp_path: Path) -> Iterator[MainWindow]:
    """A window that keeps edits."""
    pool = NumbersPool(1)
    made = MainWindow(settings, pool, tmp_path / "journals")
    made.show()
    yield made
    for page in made.tabs.pages():
        made.remove_tab(page.session)
    made.close()
    made.recovery.close()
    made.deleteLater()
    pool.stop()


def offered(window: MainWindow, qtbot: QtBot, path: Path) -> DocumentPage:
    window.open_paths([str(path)])
    page = front(window)
    qtbot.waitUntil(lambda: page.offer.isVisibleTo(page), timeout=20_000)
    return page


def press(page: DocumentPage, words: str) -> None:
    button = next(one for one in page.offer.findChildren(QPushButton) if one.text() == words and not one.isHidden())
    button.click()


def journals(window: MainWindow, path: Path) -> list[Path]:
    assert window.recovery.journals is not None
    assert window.recovery.journals.wait()
    return list((path.parent / "journals").iterdir())


def test_that_edits_of_a_killed_window_are_offered_and_come_back_with_their_undo(
    window: MainWindow, killed: Path, qtbot: QtBot
) -> None:
    page = offered(window, qtbot, killed)
    session = page.session
    assert "2 steps" in page.offer.text()
    assert session.recipe.is_empty  # nothing is put in unasked
    press(page, "Bring them back")
    qtbot.waitUntil(lambda: len(session.recipe.steps) == 2 and not session.jobs.busy())
    assert [step.op for step in session.recipe.steps] == ["strip", "drop"]
    assert session.modified
    assert session.edit["dropped"] == 2
    assert session.history.redo_label.startswith("Add")
    assert not page.offer.isVisibleTo(page)
    # They are safe again, in one journal: that of this window.
    assert len(journals(window, killed)) == 1
    session.undo()
    session.undo()
    qtbot.waitUntil(lambda: session.recipe.is_empty and not session.jobs.busy())
    window.remove_tab(session)
    assert journals(window, killed) == []


def test_that_a_file_that_changed_meanwhile_gets_them_by_name_and_only_when_asked(
    window: MainWindow, killed: Path, qtbot: QtBot
) -> None:
    write_checkpoint(killed, {"module.other.weight": (2, 2), "module.head.weight": (3, 4)})
    page = offered(window, qtbot, killed)
    assert "changed since" in page.offer.text()
    press(page, "Apply by name")
    qtbot.waitUntil(lambda: len(page.session.recipe.steps) == 2 and not page.session.jobs.busy())
    assert page.session.edit["dropped"] == 1


def test_that_what_is_discarded_is_not_offered_again(window: MainWindow, killed: Path, qtbot: QtBot) -> None:
    page = offered(window, qtbot, killed)
    press(page, "Discard")
    assert not page.offer.isVisibleTo(page)
    assert journals(window, killed) == []
    assert page.session.recipe.is_empty


def test_that_the_start_page_says_where_edits_were_left(
    window: MainWindow, settings: Settings, killed: Path, qtbot: QtBot
) -> None:
    settings.add_recent(str(killed), 10, 100, 1000)
    window.recovery.look()
    qtbot.waitUntil(lambda: "2 steps not saved" in window.start.recent_words()[0])
