"""unwrap: a state dict inside the file becomes the file's root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.state_dicts import AUTO
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class Unwrap(Operation):
    """`path` is dotted, or "auto" for the chosen state dict; `keep_rest` keeps the root's other entries beside it."""

    op: ClassVar[str] = "unwrap"

    path: str = AUTO
    keep_rest: bool = False

    @property
    def label(self) -> str:
        """`Unwrap "state_dict"`."""
        return "Unwrap the state dict" if self.path == AUTO else f"Unwrap {quoted(self.path)}"

    def check(self) -> None:
        """Any path can be asked for."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`path`, `keep_rest`."""
        return {"path": reader.text("path"), "keep_rest": reader.boolean("keep_rest", False)}

    def own_fields(self) -> dict[str, Any]:
        """`path` always."""
        return {"path": self.path, **({"keep_rest": True} if self.keep_rest else {})}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """The keys stay; the plan moves the state dict."""
        return KeyChanges(keys, len(keys))

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """The state dict's own entries stay as they are."""
        return {}
