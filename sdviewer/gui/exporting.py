"""The exports of one session, one at a time: tensors into files of their own, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PySide6.QtCore import QObject, Signal

from sdviewer.engine.client import DocumentWorker
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled
from sdviewer.gui.saving import run_paced
from sdviewer.repair.history import Draft

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "npy": ("NumPy array", ".npy"),
    "npz": ("NumPy archive", ".npz"),
    "csv": ("Text, numbers between commas", ".csv"),
    "safetensors": ("safetensors", ".safetensors"),
    "torch-zip": ("PyTorch", ".pt"),
}
"""What `formats.exporting.EXPORTS` has, which the window's process does not import, in words; a test compares."""
ONE: Final = ("npy", "csv")
"""Those that hold one tensor."""
OF_NUMPY: Final = ("npy", "npz")
"""Those in which types that NumPy lacks become float32, or bytes."""

RUNNING: Final[Mapping[str, str]] = {
    "code": "save_running",
    "message": "other tensors of this file are still being exported",
    "remedy": "Wait until they are there, or stop it.",
    "path": "",
}
"""An export that was not begun, as a failure."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """One export: the rows of the sheet, where and as what. `raw`: types that NumPy lacks as bytes without a type."""

    rows: tuple[int, ...]
    out: str
    kind: str
    raw: bool = False
    overwrite: bool = False


class Exporting(QObject):
    """Runs a session's exports. Each ends with exactly one of `exported`, `failed` and `stopped`."""

    job_changed = Signal(str, float)  # text ("" when nothing runs), fraction or -1
    exported = Signal(object)  # the body of the answer (engine.exports)
    failed = Signal(object)
    stopped = Signal(str)  # the place where nothing was written

    def __init__(self, jobs: Jobs, worker: DocumentWorker, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._worker = worker
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether something is being written."""
        return self._job is not None and not self._job.finished

    def begin(self, order: ExportOrder, recipe: Draft, info: Mapping[str, Any]) -> bool:
        """Write what was ordered, of the file as the recipe makes it. False: one is under way, which is told."""
        if self.running:
            self.failed.emit(RUNNING)
            return False

        def exported(body: Body, buffers: Buffers) -> None:
            self.exported.emit(body)

        def failed(failure: Body) -> None:
            if is_cancelled(failure):
                self.stopped.emit(order.out)
            else:
                self.failed.emit(failure)

        def start(done: Any, wrong: Any, told: Any) -> Any:
            return self._worker.export(params_of(order, recipe, info), done, wrong, told)

        self._job = run_paced(self._jobs, "export", order.out, self.job_changed.emit, start, exported, failed)
        return True

    def cancel(self) -> bool:
        """Stop what is under way, of which nothing is left; False where there is nothing."""
        if not self.running:
            return False
        assert self._job is not None
        self._job.cancel()
        return True


def params_of(order: ExportOrder, recipe: Draft, info: Mapping[str, Any]) -> dict[str, Any]:
    """An order as the engine takes it."""
    return {
        "recipe": "" if recipe.is_empty else recipe.to_text(),
        "identity": info["identity"],
        "rows": list(order.rows),
        "kind": order.kind,
        "raw": order.raw,
        "out": order.out,
        "overwrite": order.overwrite,
        # A file with other names keeps them: its bytes would change under all of these.
        "split_names": False,
    }
