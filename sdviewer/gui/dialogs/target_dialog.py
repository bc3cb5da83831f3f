"""Asking what a file has to fit: the error that somebody saw, a checkpoint, a class, a config, or a list of keys.

All of it is read by a worker, also while somebody types; a model is built by a process of its own, on that person's
word. The dialog tells what was understood, and gives it back as it was understood: nothing is read or built twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDropEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QShortcut,
)
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.engine.client import Worker, request_alone
from sdviewer.engine.models import TIMEOUT
from sdviewer.errors import SDViewerError
from sdviewer.gui import widgets
from sdviewer.gui.clipboard import clipboard_text, holds_load_error, text_in
from sdviewer.gui.dialogs.target.checkpoint import CheckpointPage
from sdviewer.gui.dialogs.target.config import ConfigPage
from sdviewer.gui.dialogs.target.model import ModelPage
from sdviewer.gui.dialogs.target.page import Browse, Order, TargetPage
from sdviewer.gui.dialogs.target.paste import ERRORS, LISTS, PastePage
from sdviewer.gui.dialogs.target.understood import UnderstoodCard
from sdviewer.gui.dialogs.target.ways import WAYS, Ways
from sdviewer.gui.jobs import Body, Buffers, Jobs, is_cancelled
from sdviewer.gui.widgets import KeyHint

PASTED: Final = "pasted text"
"""What a target is called that lies in no file."""
NO_ERROR: Final = "This is no load error that sdviewer knows, and no list of keys"
PASTE_ALL: Final = "Paste all that was printed, from Error(s) in loading state_dict on."
PAUSE: Final = 250
"""Milliseconds without another key after which what was typed is read."""
WIDTH, HEIGHT = 1000, 590
SHADE: Final = 110
"""How dark the window is behind the dialog, of 255."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a file has to fit: TARGET of engine.target_check; and its keys, as `engine.workbench` takes them built."""

    target: Mapping[str, Any] = field(default_factory=dict)
    built: Buffers = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.target)


class TargetDialog(QDialog):
    """`chosen` is what the file has to fit, false for nothing. Accepting it takes what was understood last."""

    _printed = Signal(str)  # what a model that is built prints; from another thread

    def __init__(
        self,
        parent: QWidget,
        path: str,
        known: Sequence[str] = (),
        browse: Browse = lambda title, names: "",
        folder: str = "",
        target: bytes | str = b"",
    ) -> None:
        """`known` are checkpoints that are offered, `folder` where a class is imported from.

        `target` is filled in: the text of an error, or the path of a file.
        """
        super().__init__(parent)
        self.chosen = Chosen()
        self._path = path
        self._read: Body = {}
        self._buffers: Buffers = {}
        self._order: Order | None = None
        self._began = 0.0
        self._signs = False
        self._jobs = Jobs(self)
        self._worker = Worker("target")
        self._worker.start()
        self._pause = QTimer(self, interval=PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        name = text.visible(PurePath(path).name or path, 80)
        self.setWindowTitle(f"What should {name} fit?")
        self.setModal(True)
        self.setWindowFlag(Qt.WindowType.FramelessWindowHint)
        self.setAcceptDrops(True)
        self.resize(WIDTH, HEIGHT)
        self.ways = Ways()
        known = [one for one in known if one != path]
        self._makers: Mapping[str, Callable[[], TargetPage]] = {
            "message": lambda: PastePage("RuntimeError: Error(s) in loading state_dict for …", WAYS[0].heading, ERRORS),
            "checkpoint": lambda: CheckpointPage(known, browse),
            "class": lambda: ModelPage(browse, folder),
            "config": lambda: ConfigPage(browse),
            "keys": lambda: PastePage("conv1.weight [64, 3, 7, 7]", WAYS[-1].heading, LISTS, browse),
        }
        self._pages: dict[str, TargetPage] = {}
        self.card = UnderstoodCard()
        self.use = widgets.button("Use as target", "arrow", primary=True)
        self._heading = widgets.label("", "title")
        self._foot = widgets.label("", "second")
        self._stack = QStackedWidget()
        self._lay_out(name)
        self._connect()
        self.ways.choose("message")
        said = target if isinstance(target, bytes) and target else clipboard_text()
        if holds_load_error(said):
            self.paste.take(said)
        self.paste.field.setFocus()
        if isinstance(target, str):
            self.take_file(target)

    @property
    def paste(self) -> PastePage:
        """The page of the error."""
        page = self.page_of("message")
        assert isinstance(page, PastePage)
        return page

    @property
    def page(self) -> TargetPage:
        """The page in front."""
        return self.page_of(self.ways.current)

    def page_of(self, way: str) -> TargetPage:
        """The page of a way, which is made when it is first wanted: all at once would stall the window."""
        if way not in self._pages:
            made = self._pages[way] = self._makers[way]()
            made.changed.connect(partial(self._page_changed, made))
            if isinstance(made, PastePage):
                made.field.file_dropped.connect(self.take_file)
            self._stack.addWidget(made)
            self._let_follow_ways(made)
        return self._pages[way]

    def _let_follow_ways(self, page: TargetPage) -> None:
        """Put what a page holds between the ways and the buttons below for Tab: it was made after both."""
        before, part = self.ways.last, page.nextInFocusChain()
        parts: list[QWidget] = []
        while part is not None and part is not page:
            # (setTabOrder takes nothing else, and the field inside of a spin box has that for its proxy)
            if page.isAncestorOf(part) and part.focusPolicy() & Qt.FocusPolicy.TabFocus and part.focusProxy() is None:
                parts.append(part)
            part = part.nextInFocusChain()
        for part in parts:
            QWidget.setTabOrder(before, part)
            before = part

    def _lay_out(self, name: str) -> None:
        head = _Head(f"What should {name} fit?", self.reject)
        left = QFrame()
        left.setProperty("role", "ways")
        left.setFixedWidth(258)
        row = QVBoxLayout(left)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.ways)
        right = QVBoxLayout()
        right.setContentsMargins(18, 14, 18, 14)
        right.setSpacing(10)
        right.addWidget(self._heading)
        right.addWidget(self._stack, 1)
        right.addWidget(self.card)
        middle = QHBoxLayout()
        middle.setSpacing(0)
        middle.addWidget(left)
        middle.addLayout(right, 1)
        below = QFrame()
        below.setProperty("role", "foot")
        foot = QHBoxLayout(below)
        foot.setContentsMargins(18, 11, 18, 11)
        foot.setSpacing(8)
        cancel = widgets.button("Cancel")
        cancel.setAutoDefault(False)
        cancel.clicked.connect(self.reject)
        foot.addWidget(self._foot, 1)
        for part in (cancel, self.use, KeyHint("Ctrl+Enter")):
            foot.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 1)
        column.setSpacing(0)
        column.addWidget(head)
        column.addWidget(widgets.line())
        column.addLayout(middle, 1)
        column.addWidget(widgets.line())
        column.addWidget(below)

    def _connect(self) -> None:
        self.ways.chosen.connect(self._turn)
        self.use.setAutoDefault(False)
        self.use.clicked.connect(self._use)
        self.card.cancel_requested.connect(self._stop_building)
        self._printed.connect(self._show_printed, Qt.ConnectionType.QueuedConnection)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            QShortcut(QKeySequence(keys), self).activated.connect(self.use.click)

    # What is chosen

    def _turn(self, way: str) -> None:
        """Show another page, and what it says so far."""
        self._stack.setCurrentWidget(self.page)
        self._heading.setText(next(one.heading for one in WAYS if one.id == way))
        self._foot.setText(self.page.foot())
        self._changed()
        self._pause.start(0)

    def _page_changed(self, page: TargetPage) -> None:
        if page is self.page:
            self._changed()

    def _changed(self) -> None:
        """Something else is said than what was understood."""
        self._jobs.drop("read")
        self._jobs.drop("build")
        self._read, self._buffers, self._order = {}, {}, None
        self._show_use()
        self._pause.start(PAUSE)

    def _ask(self) -> None:
        """Have what is said read, or tell what would be built."""
        page = self.page
        question = page.question()
        if question is None:
            try:
                order = page.order()
            except SDViewerError as error:
                self.card.fail({"message": error.message, "remedy": error.remedy})
                return
            self._offer(order, page)
            return
        self._signs = question.text is not None and holds_load_error(question.text)
        self.card.read()
        params = {"source": self._path, **question.params}
        self._jobs.run(
            "read",
            lambda d, f, p: self._worker.request("read", params, d, f, p, buffers=question.buffers),
            self._answered,
            self._failed,
            long=True,
        )

    def _offer(self, order: Order | None, page: TargetPage) -> None:
        self._order = order
        if order is None:
            self.card.wait(page.hints())
        else:
            self.card.wait(order.sentences, order.name)
        self._show_use()

    def _answered(self, body: Body, buffers: Buffers) -> None:
        page = self.page
        page.show_answer(body)
        if body["kind"] == "class":
            self.card.wait([("info", "Choose what of the file makes the model.")])
            return
        self._read, self._buffers = body, buffers
        if body["kind"] == "config" and body["builds"]:
            self._order = Order(self._target(), str(body["model"]))
        self.card.tell(body)
        self._show_use()

    def _failed(self, failure: Body) -> None:
        if not is_cancelled(failure):
            if self.page is self.paste and failure.get("code") == "bad_target" and not self._signs:
                failure = {"message": NO_ERROR, "remedy": PASTE_ALL, "details": failure.get("message")}
            self.card.fail(failure)
        self._show_use()

    def _target(self) -> dict[str, Any]:
        """What is said, as others take it."""
        question = self.page.question()
        assert question is not None
        target: dict[str, Any] = {"name": question.path or PASTED}
        if question.text is not None:
            raw = self._buffers.get("keys", question.text)
            target["text"] = bytes(raw).decode("utf-8", "replace")
        if question.state_dict is not None or self._read.get("state_dict") is not None:
            target["state_dict"] = question.state_dict or self._read["state_dict"]
        if self._read["kind"] == "config":
            target |= {"run": True, "timeout": TIMEOUT}
        return target

    # Building

    def _show_use(self) -> None:
        """What the button does now."""
        builds = self._order is not None and "target" not in self._buffers
        config = builds and bool(self._read)
        self.use.setText("Build it" if config else "Run it and build" if builds else "Use as target")
        self.use.setEnabled((builds or "target" in self._buffers) and not self._jobs.busy("build"))

    def _use(self) -> None:
        if not self.use.isEnabled():
            return
        if "target" not in self._buffers:
            self._build()
            return
        target = self._order.target if self._order is not None else self._target()
        self.chosen = Chosen(target, {"built": self._buffers["target"]})
        self.accept()

    def _build(self) -> None:
        order = self._order
        assert order is not None
        self.card.build(order.name)
        self._began = time.monotonic()
        target = dict(order.target)
        self._jobs.run(
            "build",
            lambda d, f, p: request_alone("building", "build", {"target": target}, d, f, p, printed=self._printed.emit),
            self._built,
            self._build_failed,
            long=True,
        )
        self._show_use()

    def _built(self, body: Body, buffers: Buffers) -> None:
        seconds = time.monotonic() - self._began
        built = buffers["target"]
        params = {"source": self._path}

        def compared(body: Body, buffers: Buffers) -> None:
            self._read, self._buffers = body, buffers
            self.card.tell(body, [("ok", f"Built in {text.seconds(seconds)}, on the meta device.")])
            self._show_use()

        self._jobs.run(
            "read",
            lambda d, f, p: self._worker.request("built", params, d, f, p, buffers={"target": built}),
            compared,
            self._failed,
            long=True,
        )

    def _show_printed(self, words: str) -> None:
        if self._jobs.busy("build"):
            self.card.details.go_on(words)

    def _build_failed(self, failure: Body) -> None:
        if is_cancelled(failure):
            self._pause.start(0)
        else:
            self.card.fail(failure, "Not built")
        self._show_use()

    def _stop_building(self) -> None:
        self._jobs.drop("build")
        self._pause.start(0)
        self._show_use()

    # Drops

    def take_file(self, path: str) -> None:
        """A file, on the page that is for its kind; what it holds decides what it is."""
        name = PurePath(path).name.lower()
        way = "class" if name.endswith(".py") else "config" if name.endswith("config.json") else "checkpoint"
        if name.endswith((".txt", ".log", ".json", ".keys", ".out", ".err")) and way != "config":
            way = "keys"
        self.ways.choose(way)
        page = self.page
        assert isinstance(page, PastePage | CheckpointPage | ModelPage | ConfigPage)
        page.take_file(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() or event.mimeData().hasText():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        data = event.mimeData()
        path = next((url.toLocalFile() for url in data.urls() if url.isLocalFile()), "")
        event.acceptProposedAction()
        if path:
            self.take_file(path.rstrip("/") or path)
            return
        if not isinstance(self.page, PastePage):
            self.ways.choose("message")
        page = self.page
        assert isinstance(page, PastePage)
        page.take(text_in(data))

    def done(self, result: int) -> None:
        self._jobs.close()
        self._worker.stop(wait=False)
        super().done(result)


class _Head(QWidget):
    """The title of the dialog, by which it can be moved."""

    def __init__(self, title: str, close: Callable[[], None]) -> None:
        super().__init__()
        self.setFixedHeight(51)
        row = QHBoxLayout(self)
        row.setContentsMargins(18, 0, 14, 0)
        row.addWidget(widgets.Elided(title, "path"), 1)
        cross = widgets.icon_button("x", "Close", 14)
        cross.clicked.connect(close)
        row.addWidget(cross)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        handle = self.window().windowHandle()
        if event.button() == Qt.MouseButton.LeftButton and handle is not None:
            handle.startSystemMove()


class Shade(QWidget):
    """Darkens a window while a dialog is over it."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setGeometry(window.rect())
        window.installEventFilter(self)
        self.raise_()
        self.show()

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            self.setGeometry(watched.rect())
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        QPainter(self).fillRect(self.rect(), QColor(0, 0, 0, SHADE))


def ask(
    parent: QWidget, path: str, known: Sequence[str], browse: Browse, folder: str = "", target: bytes | str = b""
) -> Chosen:
    """What a file has to fit; false where nothing was chosen. The rest is as `TargetDialog` takes it."""
    dialog = TargetDialog(parent, path, known, browse, folder, target)
    shade = Shade(parent)
    try:
        dialog.exec()
    finally:
        shade.hide()
        shade.deleteLater()
        dialog.deleteLater()
    return dialog.chosen
