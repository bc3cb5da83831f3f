"""split: cut tensors into parts with keys of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
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
from sdviewer.repair.patterns import compile_rule
from sdviewer.repair.transforms import Narrow
from sdviewer.repair.wording import listed, quoted

_WHAT = "cannot split"
EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Split(TensorOperation):
    """Each tensor that `source` (field `from`) matches is cut along `dim` into parts, one for each template of `into`.

    `sizes` are the sizes of the parts along `dim`, empty where they are equal. `groups` says that the tensor is so many
    equal groups of rows, each with a piece of every part, as the heads in a fused qkv of GPT-NeoX. An empty template
    leaves its part out.
    """

    op: ClassVar[str] = "split"

    source: str = ""
    into: tuple[str, ...] = ()
    dim: int = 0
    sizes: tuple[int, ...] = ()
    groups: int = 1

    @property
    def label(self) -> str:
        """`Split "a.qkv" into "a.q", "a.k", "a.v"`."""
        return f"Split {quoted(self.source)} into {listed([template or 'nothing' for template in self.into])}"

    def check(self) -> None:
        """Two parts at least, each with a template of its own and a size where sizes are given."""
        if len(self.into) < 2 or not any(self.into):
            raise UsageError("split needs at least two templates in `into`")
        named = [template for template in self.into if template]
        if len(set(named)) != len(named):
            raise UsageError("two templates in `into` are the same")
        if self.sizes and len(self.sizes) != len(self.into):
            raise UsageError(f"`sizes` has {len(self.sizes)} sizes for {len(self.into)} parts")
        if min(self.sizes, default=0) < 0 or self.groups < 1:
            raise UsageError("`sizes` and `groups` cannot be negative, and there is at least one group")
        for template in named:
            compile_rule(self.source, template)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `into`, `dim`, `sizes` ("equal" or a list), `groups`."""
        return {
            "source": reader.text("from"),
            "into": reader.texts("into"),
            "dim": reader.dimension("dim", 0),
            "sizes": reader.integers("sizes", EQUAL) or (),
            "groups": reader.dimension("groups", 1),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"from": "source", "into": "into", "dim": "dim", "sizes": "sizes", "groups": "groups"})

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys that are split."""
        keys = [entry.key for entry in entries]
        names = [compile_rule(self.source, template).renamer(keys) if template else None for template in self.into]
        first = next(name for name in names if name is not None)
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        matched = 0
        refusal: RepairError | None = None
        for place, entry in enumerate(entries):
            try:
                if first(entry.key) is None:
                    continue
                parts = self._parts(entry)
                outputs[place] = [
                    part._replace(key=name(entry.key) or "")
                    for name, part in zip(names, parts, strict=True)
                    if name is not None
                ]
                matched += 1
            except RepairError as error:
                refusal = refusal or error
        return EntryChanges(outputs, matched, () if matched or refusal else (quoted(self.source),), refusal)

    def _parts(self, entry: Entry) -> list[Entry]:
        shape = needs_elements(entry, _WHAT)
        dim = axis(_WHAT, entry, self.dim)
        sizes = self._sizes(entry, shape[dim], dim)
        pieces = [size // self.groups for size in sizes]
        starts = [0, *accumulate(pieces)]
        return [
            computed(
                entry,
                Narrow(dim, start, piece, self.groups),
                (*shape[:dim], size, *shape[dim + 1 :]),
                entry.dtype,
            )
            for start, piece, size in zip(starts, pieces, sizes, strict=False)
        ]

    def _sizes(self, entry: Entry, whole: int, dim: int) -> tuple[int, ...]:
        there = f"dimension {dim} is of size {whole}"
        if not self.sizes:
            count = len(self.into) * self.groups
            if whole % count:
                groups = f", each in {self.groups} groups" if self.groups > 1 else ""
                reason = f"{there}, which is not {len(self.into)} equal parts{groups}"
                raise impossible(_WHAT, entry, reason, "Give the `sizes` of the parts.")
            return (whole // len(self.into),) * len(self.into)
        if sum(self.sizes) != whole:
            raise impossible(_WHAT, entry, f"{there}, and `sizes` are {sum(self.sizes)} together", "Mend `sizes`.")
        uneven = next((size for size in self.sizes if size % self.groups), None)
        if uneven is not None:
            raise impossible(_WHAT, entry, f"a part of {uneven} is not {self.groups} equal groups", "Mend `sizes`.")
        return self.sizes
