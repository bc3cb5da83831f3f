"""What matching answers: relations between the keys of a source and of a target, each with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Evidence = Literal["proved", "likely", "ambiguous"]
"""proved: nothing else can be meant. likely: names and order say so. ambiguous: others could be meant as well."""

Relation = Literal[
    "rename",
    "transpose",
    "squeeze",
    "reshape",
    "split",
    "concat",
    "stack",
    "unstack",
    "stack_concat",
    "permute_rope",
    "tie",
]


@dataclass(frozen=True, slots=True)
class Found:
    """Tensors of the source that become tensors of the target.

    `sources` and `targets` are positions in the two tables: one each, one to many (split, tie) or many to one (concat,
    stack). `fields` are those that the map of `fit` states beside `op` and `to` (`dim`, `sizes`, `dims`, `n_heads`).
    `by` says in a word what decided (key, shape, name, prefix, order, index, content, hand), `reasons` in sentences.
    `candidates` are other targets that could be meant, where the evidence is ambiguous.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    relation: Relation = "rename"
    fields: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = "likely"
    by: str = "name"
    reasons: tuple[str, ...] = ()
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """A step before all others that makes one tensor of several; `parts` are the source positions of each it makes."""

    step: Mapping[str, Any]
    evidence: Evidence
    reason: str
    parts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """All that was found. `drops` gives source positions that no model keeps a reason to go ("" where only no place
    is left for them); what is in none of the three is unresolved, what no `found` fills is missing.

    `folds` come first: what they make stands in `found` under the position of the part that has its shape, and the
    other parts in `drops`.
    """

    found: tuple[Found, ...]
    drops: Mapping[int, str] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()
