"""The exports of one session, one at a time: tensors into files of their own, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PySide6.QtCore import Signal

from sdviewer.gui.writing import Writing
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


class Exporting(Writing):
    """Runs a session's exports. Each ends with exactly one of `exported`, `failed` and `stopped`."""

    LANE = "export"
    BUSY = RUNNING

    exported = Signal(object)  # the body of the answer (engine.exports)

    def begin(self, order: ExportOrder, recipe: Draft, info: Mapping[str, Any]) -> bool:
        """Write what was ordered, of the file as the recipe makes it. False: one is under way, which is told."""
        if not self._is_free():
            return False

        def start(done: Any, wrong: Any, told: Any) -> Any:
            return self._worker.export(params_of(order, recipe, info), done, wrong, told)

        self._run(order.out, start, lambda body, buffers: self.exported.emit(body))
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
