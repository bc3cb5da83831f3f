"""replace_prefix: exchange one prefix of the keys for another."""

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
class ReplacePrefix(Operation):
    """Keys that begin with `old` begin with `new` instead (in a recipe: `from`, `to`); the others stay."""

    op: ClassVar[str] = "replace_prefix"

    old: str = ""
    new: str = ""

    @property
    def label(self) -> str:
        """`Replace prefix "encoder." by "vit."`."""
        return f"Replace prefix {quoted(self.old)} by {quoted(self.new)}"

    def check(self) -> None:
        """The old prefix is not empty."""
        if not self.old:
            raise UsageError("`from` is an empty prefix", remedy='To put a prefix before every key, use op = "prefix".')

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `to`."""
        return {"old": reader.text("from"), "new": reader.text("to")}

    def own_fields(self) -> dict[str, Any]:
        """`from`, `to`."""
        return {"from": self.old, "to": self.new}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys with the old prefix."""
        old, new, length = self.old, self.new, len(self.old)
        matched = 0
        new_keys = []
        for key in keys:
            if key.startswith(old):
                matched += 1
                key = new + key[length:]
            new_keys.append(key)
        return KeyChanges(new_keys, matched, () if matched else (quoted(old),))

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """Paths with the prefix go with it, unless only some keys are meant."""
        if self.keys:
            return module_paths.follow_keys(modules, keys, new_keys)
        return module_paths.replace_prefix(modules, self.old, self.new)
