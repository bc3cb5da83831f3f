"""What matching answers: relations between the keys of a source and of a target, each with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Evidence = Literal["proved", "likely", "ambiguous"]
"""How sure a find is, and with it a step: as sure as the weakest of the finds that it serves.

proved: nothing else can be meant, even where each side lacks tensors that the other has. Only these prove a pair:

* `hand`: a person made it.
* `content`: both hold the same values, no constant, that no other tensor of either side holds (of what is cut or
  joined: its parts do, each others).
* `key`: the key is the same, in two tables of which most keys are, among keys that all are (those of its shape and role
  in the module above), and its list was not numbered anew. `prefix`: the same without what a known wrapper put in, or
  what one side has in front of all. A matrix is not proved so where others lie the other way round.
* A tie that the model states, of a tensor that is proved itself.

Shapes and surroundings prove nothing: of two tensors that look alike each side may have kept another. A step without
pairs is proved where it undoes a known program (`strip`), or brings a norm from one known form into another; a drop,
where all that the target asks for is filled by what is proved.

likely: shapes, surroundings, names and order say so. ambiguous: others could be meant as well.
"""

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
    is left for them), `unsure` says of those that are no more than a guess what a person has to know; what is in none
    of the three is unresolved, what no `found` fills is missing.

    `folds` come first: what they make stands in `found` under the position of the part that has its shape, and the
    other parts in `drops`.
    """

    found: tuple[Found, ...]
    drops: Mapping[int, str] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()
    unsure: Mapping[int, str] = field(default_factory=dict)
