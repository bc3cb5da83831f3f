"""A step that the program proposes, with what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdviewer.repair.matching.found import Evidence


@dataclass(frozen=True, slots=True)
class Caution:
    """A known trap: what can be wrong although names and shapes agree. `code` is of the closed list in the docs.

    `steps` undo it behind all others, where it is as likely as not that nothing is wrong: they are taken by a person
    who knows, one by one, and are no suggestions.
    """

    code: str
    keys: tuple[str, ...]
    message: str
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A step as the table that a recipe has, executed before it is offered.

    `n_keys` are the keys it changes, `examples` a few of them before and after; `reasons` are sentences. An ambiguous
    one is never applied unasked. `asks` are fields of the step whose values are a guess, for a person to state.
    """

    step: Mapping[str, Any]
    text: str
    n_keys: int
    evidence: Evidence
    examples: tuple[tuple[str, str], ...] = ()
    reasons: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()
    asks: tuple[str, ...] = ()
