"""A save that faults are tried on: a source, a place for the result, and what may stand there afterwards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import SaveError
from sdviewer.formats import open_checkpoint, save
from sdviewer.repair.operations import Cast, Drop, Prefix
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from tests.faults.system_calls import End

PLACES = ("new", "overwrite", "symlink")
OLD = b"what stood there before"
EDIT = Recipe(steps=(Prefix(add="new."), Drop(keys=("new.gone",)), Cast(dtype="float64", keys=("new.b",))))
"""Keys change, a tensor goes, one is computed and one is copied."""


class Scene:
    """One source and one place in a folder of its own.

    Made once: `new` is what a save without faults writes. `reset` puts the place back for the next fault, `judge` says
    what is wrong with what a save left there, "" for nothing.
    """

    def __init__(self, folder: Path, source: Path, place: str, new: bytes = b"") -> None:
        """`new` is what a save writes, where that is known and a save would not go through here."""
        self.folder = folder
        self.source = source
        self.place = place
        self.open()
        self.out = folder / f"out{source.suffix}"
        self.real = folder / "real" / f"model{source.suffix}" if place == "symlink" else self.out
        self.new = new
        self.mode = 0
        self.reset()
        if new:
            return
        self.save()
        self.new = self.real.read_bytes()
        self.mode = self.real.stat().st_mode
        if self.new == OLD or not self.new:
            raise AssertionError("the save without faults wrote nothing")

    def open(self) -> None:
        """Open the source as it is now."""
        self.checkpoint: Checkpoint = open_checkpoint(self.source)
        self.plan: Plan = make_plan(EDIT, self.checkpoint)

    def save(self, progress: Progress = no_progress) -> None:
        """The save; torch is not asked, since its process is not what is tried."""
        overwrite = self.place != "new"
        save(self.checkpoint, self.plan, self.out, overwrite=overwrite, ask_torch=False, progress=progress)

    def reset(self) -> None:
        """The folder as it is before a save."""
        if self.place != "new" and self.real.exists() and self.real.read_bytes() == OLD and not self.litter():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.real.parent.mkdir(parents=True)
        if self.place == "new":
            return
        self.real.write_bytes(OLD)
        self.real.chmod(0o640)
        if self.place == "symlink":
            self.out.symlink_to(self.real.relative_to(self.folder))

    def litter(self) -> list[Path]:
        """Files that are neither the result nor its way there."""
        return [
            path
            for folder in {self.folder, self.real.parent}
            for path in folder.iterdir()
            if path not in (self.out, self.real) and not path.is_dir()
        ]

    def judge(self, end: End) -> str:
        """Old bytes or new ones; new ones if that was said; no litter but a killed save's, which the next one takes."""
        found = self.real.read_bytes() if self.real.exists() else None
        old = None if self.place == "new" else OLD
        if found not in (old, self.new):
            return f"{end.how}, and a broken file of {len(found or b'')} bytes stands there"
        if end.how == "saved" and found != self.new:
            return "saved, and nothing was"
        if end.how == "saved" and self.real.stat().st_mode != self.mode:
            return f"saved with another mode: {self.real.stat().st_mode:o}"
        if self.place == "symlink" and not self.out.is_symlink():
            return "the link was replaced by a file"
        if end.how == "failed":
            return f"a traceback: {end.said}"
        return self._judge_litter(end)

    def _judge_litter(self, end: End) -> str:
        litter = self.litter()
        if litter and end.how != "killed":
            return f"{end.how}, and {litter} is left"
        if len(litter) > 1:
            return f"killed, and {litter} are left"
        if litter:
            if self.place == "new" and self.real.exists():
                self.real.unlink()
            self.save()
            if self.litter():
                return f"{litter} of a killed save is still there after the next one"
        return ""


class NaiveScene(Scene):
    """The control: a writer that writes where the result goes. A judge that calls it right sees nothing."""

    def save(self, progress: Progress = no_progress) -> None:
        """Write the result's bytes over what is there."""
        if not self.new:
            super().save(progress)
            return
        try:
            fd = os.open(self.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            for start in range(0, len(self.new), 50_000):
                os.write(fd, self.new[start : start + 50_000])
            os.close(fd)
        except OSError as error:
            raise SaveError("cannot be written", path=str(self.out)) from error
