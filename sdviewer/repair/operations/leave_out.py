"""leave_out: leave out what stands beside the state dict, such as the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation, all_paths
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.wording import listed, quoted

PARTS = ("index", "attribute", "module", "parameter", "buffer")
"""What a step of a path is that leads to a part of a list or of an object, which cannot go by itself."""


@dataclass(frozen=True, slots=True)
class LeaveOut(FileOperation):
    """Whatever stands at a dotted path that one of `paths` (patterns) matches goes, with all below it."""

    op: ClassVar[str] = "leave_out"

    paths: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`Leave out "optimizer", "lr_scheduler"`."""
        return f"Leave out {listed(self.paths)}"

    def check(self) -> None:
        """At least one pattern."""
        WholeFile.check(self)
        if not self.paths:
            raise UsageError("leave_out needs `paths`, a list of patterns")
        for pattern in self.paths:
            compile_pattern(pattern)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`paths`."""
        return {"paths": reader.texts("paths")}

    def own_fields(self) -> dict[str, Any]:
        """`paths`."""
        return {"paths": list(self.paths)}

    def change_file(self, changes: FileChanges) -> int:
        """Each pattern must match something outside the state dict; entries of dicts can go, items of lists cannot."""
        places = _places(changes)
        found: dict[KeyPath, None] = {}
        for pattern in self.paths:
            matches = compile_pattern(pattern).matches
            hits = [path for path, name in places.items() if matches(name)]
            if not hits:
                raise NoMatch(
                    f"nothing outside the state dict stands at {quoted(pattern)}", path=changes.checkpoint.path
                )
            found.update(dict.fromkeys(hits))
        topmost = [path for path in found if not any(path[:n] in found for n in range(1, len(path)))]
        for path in topmost:
            last = path[-1]
            if isinstance(last, TypedStep) and last.type in PARTS:
                raise RepairError(
                    f"{quoted(dotted(path))} is a part of a list or of an object, and cannot be left out by itself",
                    path=changes.checkpoint.path,
                    remedy="Leave out the whole.",
                )
        changes.removed.update(dict.fromkeys(topmost))
        return len(topmost)


def _places(changes: FileChanges) -> dict[KeyPath, str]:
    """Everything that can go, containers too, with its dotted path: what is neither in nor above the state dict."""
    kept = changes.state_dict
    places: dict[KeyPath, str] = {}
    for path in all_paths(changes.checkpoint):
        for n in range(len(path), 0, -1):
            above = path[:n]
            if above in places:
                break
            if kept is None or (kept[: len(above)] != above and above[: len(kept)] != kept):
                places[above] = dotted(above)
    return places
