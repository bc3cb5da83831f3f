"""fuse: put tensors one behind the other under one key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair.elements import zero
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.gathering import Gathering, Parts, add_part
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    axis,
    impossible,
    one_kind,
    said,
    stated,
)
from sdviewer.repair.patterns import FULL, SEARCH, compile_rule
from sdviewer.repair.plan import Computed, Expression
from sdviewer.repair.transforms import Concatenate, Full
from sdviewer.repair.wording import listed, quoted

_WHAT = "cannot fuse"


@dataclass(frozen=True, slots=True)
class Fuse(Gathering):
    """The tensors that `sources` (field `from`) match stand one behind the other along `dim`, under the key `into`.

    All templates have the same placeholders, and those of one result the same values. `groups` says that the result is
    so many equal groups, each with a piece of every part. An empty template is a part of zeros as large as the first.
    """

    op: ClassVar[str] = "fuse"

    sources: tuple[str, ...] = ()
    into: str = ""
    dim: int = 0
    groups: int = 1

    @property
    def label(self) -> str:
        """`Fuse "a.q", "a.k", "a.v" into "a.qkv"`."""
        return f"Fuse {listed([template or 'zeros' for template in self.sources])} into {quoted(self.into)}"

    def check(self) -> None:
        """Two templates at least, with the same placeholders."""
        named = self._named()
        if len(self.sources) < 2 or not named:
            raise UsageError("fuse needs at least two templates in `from`")
        if len(set(named)) != len(named):
            raise UsageError("two templates in `from` are the same")
        if any(template.startswith((SEARCH, FULL)) for template in named):
            raise UsageError("fuse takes templates, not regular expressions", remedy="Rename the keys first.")
        if self.groups < 1:
            raise UsageError("there is at least one group")
        for a, b in permutations(named, 2):
            compile_rule(a, b)
        for template in named:
            compile_rule(template, self.into)

    def _named(self) -> list[str]:
        return [template for template in self.sources if template]

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `into`, `dim`, `groups`."""
        return {
            "sources": reader.texts("from"),
            "into": reader.text("into"),
            "dim": reader.dimension("dim", 0),
            "groups": reader.dimension("groups", 1),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"from": "sources", "into": "into", "dim": "dim", "groups": "groups"})

    @property
    def sought(self) -> tuple[str, ...]:
        """The templates."""
        return tuple(map(quoted, self._named()))

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """Part i is what template i matches; a key is taken by the first that does."""
        keys = [entry.key for entry in entries]
        names = [
            (part, compile_rule(template, self.into).renamer(keys))
            for part, template in enumerate(self.sources)
            if template
        ]
        found: dict[str, Parts] = {}
        for place, key in enumerate(keys):
            for part, name in names:
                new = name(key)
                if new is not None:
                    add_part(found, new, part, place, entries, _WHAT)
                    break
        return found

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """One behind the other, zeros where a template is empty."""
        present = min(parts)
        for part, template in enumerate(self.sources):
            if template and part not in parts:
                some = parts[present].key
                partner = compile_rule(self.sources[present], template).renamer(())(some) or template
                raise NoMatch(
                    f"{_WHAT} {quoted(some)} into {quoted(key)}: there is no {quoted(partner)}",
                    key=some,
                    remedy="Leave it out of the step with `keys`, or add what is missing.",
                )
        first = parts[present]
        dim = axis(_WHAT, first, self.dim)
        shape = one_kind(_WHAT, [parts[part] for part in sorted(parts)], dim)
        inputs: list[Expression] = []
        size = 0
        for part in range(len(self.sources)):
            entry = parts.get(part)
            length = entry.shape[dim] if entry is not None and entry.shape is not None else shape[dim]
            if length % self.groups:
                reason = f"dimension {dim} of {said(entry or first)} is not {self.groups} equal groups"
                raise impossible(_WHAT, entry or first, reason)
            inputs.append(entry.value if entry is not None else _zeros(first, key, part))
            size += length
        new = (*shape[:dim], size, *shape[dim + 1 :])
        value = Computed(Concatenate(dim, self.groups), tuple(inputs), new, first.dtype)
        return first._replace(key=key, value=value, shape=new, tied=None)


def _zeros(like: Entry, key: str, part: int) -> Computed:
    """A part of zeros like another."""
    assert like.shape is not None
    return Computed(Full(like.shape, like.dtype, f"{key} {part}", zero(like.dtype)), (), like.shape, like.dtype)
