"""broadcast: copy one tensor into every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, TensorOperation, needs_numbers, stated
from sdviewer.repair.patterns import compile_pattern, compile_rule
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import Clone
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class Broadcast(TensorOperation):
    """The tensor `source` (field `from`) is copied to a key in every block that the placeholders of `to` find.

    The blocks of "blocks.{i}.embed.weight" are what stands below "blocks.{i}." now. A copy takes the place of a tensor
    that has its key, else it stands at the end of its block. `tied`: all are one tensor, not copies.
    """

    op: ClassVar[str] = "broadcast"

    source: str = ""
    to: str = ""
    tied: bool = False

    @property
    def label(self) -> str:
        """`Copy "embed.weight" to "blocks.{i}.embed.weight"`."""
        return f"{'Tie' if self.tied else 'Copy'} {quoted(self.source)} to {quoted(self.to)}"

    def check(self) -> None:
        """A key, and a template with a placeholder above its last component."""
        if not self.source:
            raise UsageError("broadcast needs a key in `from`")
        compile_rule(self.blocks, self.to)

    @property
    def blocks(self) -> str:
        """The pattern of what stands in the blocks."""
        components = self.to.split(".")
        depth = max([i for i, part in enumerate(components[:-1], 1) if compile_pattern(part or "-").groups], default=0)
        if not depth:
            raise UsageError(
                "`to` has no placeholder above its last component", remedy='Write "blocks.{i}.embed.weight".'
            )
        return ".".join(components[:depth]) + ".**"

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `to`, `tied`."""
        return {"source": reader.text("from"), "to": reader.text("to"), "tied": reader.boolean("tied", False)}

    def own_fields(self) -> dict[str, Any]:
        """Without `tied` where it is false."""
        return stated(self, {"from": "source", "to": "to", "tied": "tied"})

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys that get the tensor."""
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        try:
            places = {entry.key: place for place, entry in enumerate(entries)}
            source = entries[places[self.source]] if self.source in places else None
            if source is None or source.shape is None:
                missing = f"{quoted(self.source)} is no tensor" if source else f"there is no key {quoted(self.source)}"
                raise NoMatch(f"cannot broadcast: {missing}", key=self.source)
            rename = compile_rule(self.blocks, self.to).renamer(list(places))
            last = {new: place for key, place in places.items() if (new := rename(key)) is not None}
            last.pop(self.source, None)
            if not last:
                raise NoMatch(
                    f"cannot broadcast {quoted(self.source)}: there is no block of {quoted(self.to)}", key=self.source
                )
            for key, place in last.items():
                copy = self._copy(source, key)
                if key in places:
                    outputs[places[key]] = (copy, *outputs[places[key]][1:])
                else:
                    outputs[place] = (*outputs[place], copy)
        except RepairError as error:
            return EntryChanges(outputs, 0, (), error)
        return EntryChanges(outputs, len(last))

    def _copy(self, source: Entry, key: str) -> Entry:
        if self.tied:
            return source._replace(key=key)
        needs_numbers(source, "cannot copy")
        assert source.shape is not None
        value = Computed(Clone(key), (source.value,), source.shape, source.dtype)
        return source._replace(key=key, value=value, tied=None)
