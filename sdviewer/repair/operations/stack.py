"""stack: put numbered tensors of one shape along a new dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.gathering import Gathering, Parts, add_part
from sdviewer.repair.operations.tensor_operation import Entry, axis, one_kind, stated
from sdviewer.repair.patterns import compile_rule
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import Stack as Stacking
from sdviewer.repair.wording import quoted

_WHAT = "cannot stack"


@dataclass(frozen=True, slots=True)
class Stack(Gathering):
    """The tensors that differ in the number that the placeholder `over` of `source` (field `from`) takes become one.

    Number i is place i along the new dimension `dim` of the tensor `into`. The numbers begin at 0, without a gap.
    """

    op: ClassVar[str] = "stack"

    source: str = ""
    over: str = ""
    into: str = ""
    dim: int = 0

    @property
    def label(self) -> str:
        """`Stack "experts.{e}.w" over e into "experts.w"`."""
        return f"Stack {quoted(self.source)} over {quoted(self.over)} into {quoted(self.into)}"

    def check(self) -> None:
        """`over` is a placeholder of `from`, and not one of `into`."""
        groups = compile_rule(self.source, self.into).pattern.groups
        if not groups or self.over not in groups:
            raise UsageError(f"`from` has no placeholder {{{self.over}}}", remedy="Name one of its own in `over`.")
        if f"{{{self.over}}}" in self.into:
            raise UsageError(f"`into` cannot have the placeholder {{{self.over}}}, over which is stacked")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `over`, `into`, `dim`."""
        return {
            "source": reader.text("from"),
            "over": reader.text("over"),
            "into": reader.text("into"),
            "dim": reader.dimension("dim", 0),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without `dim` where it is 0."""
        return stated(self, {"from": "source", "over": "over", "into": "into", "dim": "dim"})

    @property
    def sought(self) -> tuple[str, ...]:
        """The template."""
        return (quoted(self.source),)

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """The number that `over` takes is the place; refused where it is no number."""
        rename = compile_rule(self.source, self.into).renamer([entry.key for entry in entries])
        found: dict[str, Parts] = {}
        for place, entry in enumerate(entries):
            new = rename(entry.key)
            if new is None:
                continue
            start, end = _span(self, entry.key)
            text = entry.key[start:end]
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise RepairError(
                    f"{_WHAT} {quoted(entry.key)}: {quoted(text)} is no number",
                    key=entry.key,
                    remedy="Leave it out of the step with `keys`.",
                )
            add_part(found, new, int(text), place, entries, _WHAT)
        return found

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """All numbers from 0, each at its place."""
        some = next(iter(parts.values()))
        gap = next((number for number in range(len(parts)) if number not in parts), None)
        if gap is not None:
            start, end = _span(self, some.key)
            raise NoMatch(
                f"{_WHAT} {quoted(some.key)} into {quoted(key)}: there is no "
                f"{quoted(some.key[:start] + str(gap) + some.key[end:])}",
                key=some.key,
                remedy="The numbers must begin at 0, without a gap.",
            )
        ordered = [parts[number] for number in range(len(parts))]
        dim = axis(_WHAT, ordered[0], self.dim, room=1)
        shape = one_kind(_WHAT, ordered)
        new = (*shape[:dim], len(ordered), *shape[dim:])
        value = Computed(Stacking(dim), tuple([entry.value for entry in ordered]), new, ordered[0].dtype)
        return ordered[0]._replace(key=key, value=value, shape=new, tied=None)


def _span(step: Stack, key: str) -> tuple[int, int]:
    """Where the placeholder that is stacked over stands in a key that matches."""
    pattern = compile_rule(step.source, step.into).pattern
    match = pattern.match(key)
    assert match is not None and pattern.groups
    return match.span(pattern.groups[step.over])
