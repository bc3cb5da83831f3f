"""wrap: put the whole file under a key, as trainers keep their state dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class Wrap(FileOperation):
    """The root becomes a dict with one entry, `key`, under which the old root stands."""

    op: ClassVar[str] = "wrap"

    key: str = "state_dict"

    @property
    def label(self) -> str:
        """`Wrap in "state_dict"`."""
        return f"Wrap in {quoted(self.key)}"

    def check(self) -> None:
        """A key."""
        WholeFile.check(self)
        if not self.key:
            raise UsageError("`key` is empty")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`key`."""
        return {"key": reader.text("key", "state_dict")}

    def own_fields(self) -> dict[str, Any]:
        """`key`."""
        return {"key": self.key}

    def change_file(self, changes: FileChanges) -> int:
        """Once."""
        if changes.wrap:
            raise RepairError(f"the file is wrapped in {quoted(changes.wrap)} already", path=changes.checkpoint.path)
        changes.wrap = self.key
        return 1
