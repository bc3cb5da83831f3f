"""The saves of one session, one at a time: what was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from PySide6.QtCore import QObject, Signal

from sdviewer.engine.client import DocumentWorker
from sdviewer.gui.jobs import Body, Buffers, Jobs
from sdviewer.gui.writing import Writing
from sdviewer.repair.history import Draft, Step

RUNNING: Mapping[str, str] = {
    "code": "save_running",
    "message": "another copy of this file is still being written",
    "remedy": "Wait until it is there, or stop it.",
    "path": "",
}
"""A save that was not begun, as a failure."""


Kind = Literal["repaired", "clean", "slim", "converted"]


@dataclass(frozen=True, slots=True)
class SaveOrder:
    """One copy: where and how it is written. `container`: "" for what the name and the file suggest.

    `first` come before the steps of the recipe, `steps` after them, for this copy alone. `shared`, `shard_size` and
    `state_dict` are as a recipe has them. `overwrite`: a file at `out` may go; `sure`: also if it has hard links, or is
    not the one that was written there last. `kind` is what was asked for: after a repaired copy the next plain save
    goes to the same place.
    """

    out: str
    container: str = ""
    shared: str = ""
    shard_size: str = ""
    state_dict: str | None = None
    first: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    overwrite: bool = False
    sure: bool = False
    kind: Kind = "repaired"

    def draft(self, recipe: Draft, own: str = "") -> Draft:
        """The recipe that makes this copy, of this file or of one like it; `own` is the file's container."""
        made = replace(recipe, steps=(*self.first, *recipe.steps, *self.steps))
        if self.state_dict is not None and not recipe.steps:
            made = made.for_state_dict(self.state_dict)
        wanted = {
            "format": "" if self.container == own else self.container,
            "shared": self.shared,
            "max_shard_size": self.shard_size,
        }
        said = {name: value for name, value in wanted.items() if value}
        saved = {**(made.head.get("save") or {}), **said}
        if self.container and self.container == own:
            saved.pop("format", None)
        head = {name: value for name, value in made.head.items() if name != "save"}
        return replace(made, head={**head, "save": saved} if saved else head)


@dataclass(frozen=True, slots=True)
class Saved:
    """A copy that was written: its order, the recipe that made it, its receipt, and that as files have it.

    `place` leads to its state dict, None where no one can be named; `mappable`: torch can map its records as they are;
    `left`: keys of the target that the model keeps as it begins with.
    """

    order: SaveOrder
    draft: Draft
    receipt: Body
    json: bytes
    lines: bytes
    place: list[str | int] | None
    mappable: bool
    left: int = 0


class Saving(Writing):
    """Runs a session's saves. Each ends with exactly one of `saved`, `failed` and `stopped`."""

    LANE = "save"
    BUSY = RUNNING

    began = Signal()
    saved = Signal(object)  # Saved

    def __init__(self, jobs: Jobs, worker: DocumentWorker, parent: QObject) -> None:
        super().__init__(jobs, worker, parent)
        self._files: dict[str, Mapping[str, int] | None] = {}
        self.last: SaveOrder | None = None
        self.written: Saved | None = None

    def begin(
        self,
        order: SaveOrder,
        recipe: Draft,
        info: Mapping[str, Any],
        others: Mapping[str, Any] | None = None,
        goal: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write a copy; `info` is that of what is open, `others` the files that tensors are taken from (EDIT).

        `goal` is what a repaired copy has to fit.

        False: another one is under way, which is told.
        """
        if not self._is_free():
            return False
        self.last = order
        self.began.emit()
        draft = order.draft(recipe, str(info["container"]))

        def saved(body: Body, buffers: Buffers) -> None:
            self._files[order.out] = body["identity"]
            receipt = body["receipt"]
            files = (bytes(buffers["json"]), bytes(buffers["text"]))
            place, mappable, left = body["place"], bool(body["mappable"]), int(body["left"])
            self.written = Saved(order, draft, receipt, *files, place, mappable, left)
            self.saved.emit(self.written)

        def start(done: Any, wrong: Any, told: Any) -> Any:
            return self._worker.save(
                *(draft.to_text(), order.out, info["identity"], done, wrong, told),
                container=order.container,
                overwrite=order.overwrite,
                split_names=order.sure,
                replaces=None if order.sure else self._files.get(order.out),
                others=others,
                target=goal if order.kind == "repaired" else None,
            )

        self._run(order.out, start, saved)
        return True

    def wrote(self, out: str) -> bool:
        """Whether what stands at a place was written by this session, as far as it knows."""
        return out in self._files

    def _failed(self, out: str, failure: Body) -> None:
        if failure.get("identity") and self.last is not None:
            # It is there, without its receipt: to save it again replaces this file, and no other.
            self._files[out] = failure["identity"]
            self.last = replace(self.last, overwrite=True)
        super()._failed(out, failure)
