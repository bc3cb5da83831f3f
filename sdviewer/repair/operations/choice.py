"""Operations that choose keys by patterns and leave keys out: `drop` and `keep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.wording import quoted


def said(verb: str, patterns: Sequence[str]) -> str:
    """`Drop "head.weight"`, `Drop 12 keys`, `Drop 3 patterns`."""
    if len(patterns) == 1:
        return f"{verb} {quoted(patterns[0])}"
    literal = all(compile_pattern(pattern).literal is not None for pattern in patterns)
    return f"{verb} {len(patterns):,} {'keys' if literal else 'patterns'}"


def dead(patterns: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """The patterns that match no key."""
    compiled = [compile_pattern(pattern) for pattern in patterns]
    known = set(keys)
    return tuple([
        quoted(pattern.text)
        for pattern in compiled
        if (pattern.literal not in known if pattern.literal is not None else not any(map(pattern.match, keys)))
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice(Operation):
    """What `drop` and `keep` share: the patterns in `keys` say what to do, and restrict nothing."""

    verb: ClassVar[str]

    @property
    def label(self) -> str:
        """`Drop "head.weight"`."""
        return said(self.verb, self.keys)

    def check(self) -> None:
        """At least one pattern."""
        if not self.keys:
            raise UsageError(f"{self.op} needs `keys`, a list of patterns")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`keys` is read as every step's is."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """`keys` is written as every step's is."""
        return {}

    def plan(self, keys: Sequence[str]) -> KeyChanges:
        """Of all keys: `keys` restricts nothing here."""
        return self.change(keys)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """Entries stay: a module without keys has a version too."""
        return {}
