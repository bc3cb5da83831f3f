"""prefix: put a prefix before the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair import modules as module_paths
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class Prefix(Operation):
    """`add` goes before every key, as it is: a module's prefix ends with its dot."""

    op: ClassVar[str] = "prefix"

    add: str = ""

    @property
    def label(self) -> str:
        """`Add prefix "model."`."""
        return f"Add prefix {quoted(self.add)}"

    def check(self) -> None:
        """Not empty."""
        if not self.add:
            raise UsageError("`add` is an empty prefix")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`add`."""
        return {"add": reader.text("add")}

    def own_fields(self) -> dict[str, Any]:
        """`add`."""
        return {"add": self.add}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Every key is matched."""
        add = self.add
        return KeyChanges([add + key for key in keys], len(keys))

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """The reverse of a strip, unless only some keys are meant."""
        if self.keys:
            return module_paths.follow_keys(modules, keys, new_keys)
        return module_paths.add_prefix(modules, self.add)
