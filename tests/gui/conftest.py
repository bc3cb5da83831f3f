"""A window in tests: offscreen, with settings in memory, over files the tests write."""

from __future__ import annotations

import gc
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_cache_path
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import NumbersPool
from sdviewer.gui import resources
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.plots.library import library
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Memory, Settings

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

Tensors = dict[str, tuple[int, ...]]
MODEL: Tensors = {
    "module.head.weight": (3, 4),
    "module.head.bias": (3,),
    **{f"module.blocks.{i}.fc.weight": (8, 8) for i in range(4)},
    **{f"module.blocks.{i}.fc.bias": (8,) for i in range(4)},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The offscreen platform says on every window with a smallest size that it has no frame to tell it to."""
    for item in items:
        item.add_marker(pytest.mark.qt_log_ignore("propagateSizeHints", extend=True))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured in tests is not kept among what the user's files are; the compiled loops stay where they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR") or str(user_cache_path("sdviewer") / "numba"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="package", autouse=True)
def _no_collector() -> Iterator[None]:
    """The cyclic collector is off as in the window: while something is painted it would end windows of tests before."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """What a test leaves goes when it has ended."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def app(qapp: QApplication) -> QApplication:
    """The application in its clothes."""
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)
    resources.dress(qapp, "light")
    library().load_now()
    return qapp


def write_checkpoint(path: Path, tensors: Tensors) -> Path:
    """A safetensors file with float32 tensors of these shapes, their values 0, 1, 2 ..."""
    header: dict[str, object] = {}
    data = b""
    for key, shape in tensors.items():
        values = np.arange(int(np.prod(shape)), dtype="<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return path


def without_storages(path: Path, *records: str) -> Path:
    """A damaged copy of an archive beside it: these of its storages are gone ("1")."""
    out = path.with_name("damaged.pt")
    gone = tuple(f"/data/{record}" for record in records)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(out, "w") as rest:
        for info in whole.infolist():
            if not info.filename.endswith(gone):
                rest.writestr(info, whole.read(info))
    return out


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint whose keys all begin with `module.`."""
    return write_checkpoint(tmp_path / "model.safetensors", MODEL)


@pytest.fixture
def settings() -> Settings:
    """Settings that are gone after the test; a file opens on its tensors, where most tests have to do."""
    made = Settings(Memory())
    made.set("view/front", "tensors")
    return made


@pytest.fixture
def window(app: QApplication, qtbot: QtBot, settings: Settings) -> Iterator[MainWindow]:
    """A main window without a file, and a clipboard without what an earlier test put there: a load error is offered."""
    QGuiApplication.clipboard().clear()
    pool = NumbersPool(1)
    made = MainWindow(settings, pool)
    # Not given to qtbot, which closes before fixtures end: a window with steps would ask, and wait for ever.
    made.show()
    yield made
    for page in made.tabs.pages():
        made.remove_tab(page.session)
    made.close()
    made.deleteLater()
    pool.stop()


Opened = Callable[[Path], Session]


@pytest.fixture
def opened(window: MainWindow, qtbot: QtBot) -> Opened:
    """Opens a file in the window and waits until its first row is selected and known."""

    def open_file(path: Path) -> Session:
        window.open_paths([str(path)])
        session = window.current_session()
        assert session is not None
        qtbot.waitUntil(lambda: session.state == "failed" or bool(session.facts), timeout=20_000)
        return session

    return open_file


def front(window: MainWindow) -> DocumentPage:
    """The page of the file in front."""
    page = window.current_page()
    assert page is not None
    return page


def sheet_of(window: MainWindow) -> Sheet:
    """The rows of the file in front."""
    sheet = front(window).session.sheet
    assert sheet is not None
    return sheet


def expanded(session: Session, qtbot: QtBot) -> None:
    """Show all rows of the tree."""
    with qtbot.waitSignal(session.rows_changed):
        session.expand_all()


def quiet(session: Session) -> bool:
    """Whether a session waits for nothing."""
    return not session.jobs.busy()
