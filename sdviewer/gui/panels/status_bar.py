"""The status bar: how the file was opened, what it holds; the running job with Cancel; the value at the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QSizePolicy, QStatusBar, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.widgets import IconLabel, LinkLabel

CONTAINERS = {
    "torch-zip": "PyTorch zip",
    "torch-legacy": "PyTorch, before 1.6",
    "torch-tar": "PyTorch tar",
    "torchscript": "TorchScript",
    "torch-package": "torch.package",
    "hf-index": "sharded",
    "dcp": "distributed checkpoint",
    "deepspeed": "DeepSpeed",
    "npz": "NumPy zip",
    "npy": "NumPy array",
    "gguf": "GGUF",
    "onnx": "ONNX",
    "hdf5": "HDF5",
}
"""Containers in words, where the engine's word is none of a person's."""
SAY_AFTER = 500
BAR_AFTER = 2000
"""Milliseconds: nothing at first, then words, then a bar."""


class StatusBar(QStatusBar):
    """Three places: document, job, cursor."""

    cancel_requested = Signal()
    security_requested = Signal()
    offer_taken = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setSizeGripEnabled(False)
        self.setFixedHeight(28)
        left = QWidget()
        row = QHBoxLayout(left)
        row.setContentsMargins(14, 0, 0, 0)
        row.setSpacing(8)
        self._icon = IconLabel("info", 14)
        self._document = LinkLabel()
        self._document.clicked.connect(self.security_requested)
        self._document.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        row.addWidget(self._icon)
        row.addWidget(self._document, 1)
        self._job = widgets.label("")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(120)
        self._bar.setAccessibleName("Progress")
        self._cancel = widgets.icon_button("x", "Cancel", 12)
        self._cancel.clicked.connect(self.cancel_requested)
        self._offer = LinkLabel()
        self._offer.setMinimumWidth(60)
        self._offer.clicked.connect(self.offer_taken)
        self._cursor = widgets.label("")
        self.addWidget(left, 1)
        for part in (self._offer, self._job, self._bar, self._cancel, self._cursor):
            self.addPermanentWidget(part)
        self._words = ""
        self._say = QTimer(self, interval=SAY_AFTER, singleShot=True)
        self._say.timeout.connect(self._show_words)
        self._show_bar = QTimer(self, interval=BAR_AFTER, singleShot=True)
        self._show_bar.timeout.connect(self._bar.show)
        self.show_job("", -1.0)
        self.show_document("", False)
        self.show_offer("", "")

    def show_document(self, words: str, opened: bool) -> None:
        """What is open; the icon stands for "nothing of it was run"."""
        self._icon.setVisible(opened)
        self._document.setText(words)
        self._document.set_link(opened, "What loading this file in Python would run (Ctrl+2)")

    def show_offer(self, words: str, why: str) -> None:
        """What could be done and is not, as a link; "" for nothing."""
        self._offer.setVisible(bool(words))
        self._offer.setText(words)
        self._offer.set_link(bool(words), why)

    def show_cursor(self, words: str) -> None:
        """The value under the cursor."""
        self._cursor.setText(words)
        self._cursor.setContentsMargins(10, 0, 14, 0)

    def show_job(self, words: str, fraction: float) -> None:
        """A running job, "" for none; what ends within half a second is never mentioned."""
        if not words:
            self._words = ""
            self._say.stop()
            self._show_bar.stop()
            for part in (self._job, self._bar, self._cancel):
                part.hide()
            return
        if not self._words:
            self._say.start()
            self._show_bar.start()
        self._words = words
        self._job.setText(words)
        if fraction < 0:
            self._bar.setRange(0, 0)
        else:
            self._bar.setRange(0, 1000)
            self._bar.setValue(round(fraction * 1000))

    def _show_words(self) -> None:
        self._job.show()
        self._cancel.show()


def document_words(info: Any, edit: Any, notes: Sequence[str] = ()) -> str:
    """What the left place says of an open document; `notes` are what was found out since it was opened."""
    parts = ["Opened without running anything", CONTAINERS.get(info["container"], str(info["container"]))]
    parts.append(
        f"{text.plural(int(info['tensors']), 'tensor')} · {text.short_count(int(info['parameters']))} params · "
        f"{text.size(int(info['size']))}"
    )
    changes = [
        f"{int(edit[field]):,} {word}"
        for field, word in (("renamed", "renamed"), ("computed", "computed"), ("dropped", "dropped"))
        if edit.get(field)
    ]
    if metadata := edit.get("metadata"):
        changes.append(f"{len(metadata):,} of metadata edited")
    if changes:
        parts.append(", ".join(changes))
    parts += [note for note in notes if note]
    return "     ".join(parts)
