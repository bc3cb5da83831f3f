"""replace: exchange a piece of the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.patterns import SEARCH, Rule, compile_rule
from sdviewer.repair.wording import quoted

LITERAL, TEMPLATE, REGEX = "literal", "template", "regex"


@dataclass(frozen=True, slots=True)
class Replace(Operation):
    """`find` becomes `new` (in a recipe: `with`) in every key.

    Literal: every occurrence. Regex: the first match; template: the whole key (both as in a rename rule).
    """

    op: ClassVar[str] = "replace"

    find: str = ""
    new: str = ""
    syntax: str = LITERAL

    @property
    def label(self) -> str:
        """`Replace "gamma" by "weight"`."""
        return f"Replace {quoted(self.find)} by {quoted(self.new)}"

    def check(self) -> None:
        """Something to find."""
        if not self.find:
            raise UsageError("`find` is empty")
        if self.syntax not in (LITERAL, TEMPLATE, REGEX):
            raise UsageError(f"`syntax` is {quoted(self.syntax)}", remedy='It can be "literal", "template" or "regex".')
        if self.syntax != LITERAL:
            self._rule()

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`find`, `with`, `syntax`."""
        return {
            "find": reader.text("find"),
            "new": reader.text("with"),
            "syntax": reader.choice("syntax", (LITERAL, TEMPLATE, REGEX), LITERAL),
        }

    def own_fields(self) -> dict[str, Any]:
        """`syntax` where it is not "literal"."""
        return {"find": self.find, "with": self.new} | ({"syntax": self.syntax} if self.syntax != LITERAL else {})

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys in which it is found."""
        find, new = self.find, self.new
        if self.syntax == LITERAL:
            matched = sum([find in key for key in keys])
            return KeyChanges([key.replace(find, new) for key in keys], matched, () if matched else (quoted(find),))
        rename = self._rule().renamer(keys)
        try:
            found = [rename(key) for key in keys]
        except RepairError as error:
            return KeyChanges(keys, 0, refusal=error)
        matched = sum([one is not None for one in found])
        new_keys = [key if one is None else one for key, one in zip(keys, found, strict=True)]
        return KeyChanges(new_keys, matched, () if matched else (quoted(find),))

    def _rule(self) -> Rule:
        return compile_rule(SEARCH + self.find if self.syntax == REGEX else self.find, self.new)
