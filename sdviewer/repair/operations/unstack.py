"""unstack: give every place along a dimension a key of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    EntryChanges,
    TensorOperation,
    axis,
    computed,
    impossible,
    needs_elements,
    stated,
)
from sdviewer.repair.patterns import compile_pattern, compile_rule
from sdviewer.repair.transforms import Select
from sdviewer.repair.wording import quoted

_WHAT = "cannot unstack"

MOST_PLACES = 1_000_000
"""Tensors that one may become."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Unstack(TensorOperation):
    """Each place along `dim` of the tensors that `source` (field `from`) matches becomes a tensor of its own.

    `into` has one placeholder that `from` lacks: it takes the numbers of the places, from 0.
    """

    op: ClassVar[str] = "unstack"

    source: str = ""
    into: str = ""
    dim: int = 0

    @property
    def label(self) -> str:
        """`Unstack "experts.w" into "experts.{e}.w"`."""
        return f"Unstack {quoted(self.source)} into {quoted(self.into)}"

    def check(self) -> None:
        """`into` has one new placeholder."""
        known = compile_pattern(self.source).groups or {}
        new = {name for name in _PLACEHOLDER.findall(self.into) if name not in known}
        if len(new) != 1:
            raise UsageError("`into` needs one placeholder that `from` lacks", remedy='Write "experts.{e}.weight".')
        compile_rule(self.source, self.numbered("0"))

    def numbered(self, number: str) -> str:
        """`into` with a number in the place of its new placeholder."""
        known = compile_pattern(self.source).groups or {}
        return _PLACEHOLDER.sub(lambda found: found[0] if found[1] in known else number, self.into)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `into`, `dim`."""
        return {"source": reader.text("from"), "into": reader.text("into"), "dim": reader.dimension("dim", 0)}

    def own_fields(self) -> dict[str, Any]:
        """Without `dim` where it is 0."""
        return stated(self, {"from": "source", "into": "into", "dim": "dim"})

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys that are unstacked."""
        keys = [entry.key for entry in entries]
        names = [compile_rule(self.source, self.numbered("0")).renamer(keys)]
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        matched = 0
        refusal: RepairError | None = None
        for place, entry in enumerate(entries):
            try:
                if names[0](entry.key) is None:
                    continue
                shape = needs_elements(entry, _WHAT)
                dim = axis(_WHAT, entry, self.dim)
                if shape[dim] > MOST_PLACES:
                    reason = f"dimension {dim} has {shape[dim]:,} places, and each would be a key of its own"
                    raise impossible(_WHAT, entry, reason, "Choose another `dim`.")
                while len(names) < shape[dim]:
                    names.append(compile_rule(self.source, self.numbered(str(len(names)))).renamer(keys))
                rest = (*shape[:dim], *shape[dim + 1 :])
                outputs[place] = [
                    computed(entry, Select(dim, number), rest, entry.dtype)._replace(key=names[number](entry.key) or "")
                    for number in range(shape[dim])
                ]
                matched += 1
            except RepairError as error:
                refusal = refusal or error
        return EntryChanges(outputs, matched, () if matched or refusal else (quoted(self.source),), refusal)
