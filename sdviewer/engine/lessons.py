"""What a pair that somebody made by hand can mean: these two keys, or the rule that it implies, with what that does.

VARIANT   {"steps": [[table, label]], "label", "state_dict", "n": keys that it changes, "fixes", "breaks", "others",
          "lines": [pattern, result], "fixed": [[old, new]], "broken": [[old, new]]}: the first three as `accept` of
          `engine.workbench` answers them, the rest as `repair.rules.learning` has it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable
from sdviewer.engine.deadline import deadline
from sdviewer.engine.fit_steps import answered
from sdviewer.engine.fitted import Fitted
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.operations import Drop, Operation, Rename, operation_from_step
from sdviewer.repair.patterns import literal_pattern, literal_rule
from sdviewer.repair.rules.learning import Lesson, Variant, learn

PATIENCE: Final = 5.0
"""Seconds after which no wider rule is looked for any more."""
MOST_WIDER: Final = 3
MOST_NARROWER: Final = 1


def variants_of(fitted: Fitted, entry: int, wanted: int, place: str) -> list[dict[str, Any]]:
    """What a pair of an entry of the file and a key of the target can mean: it alone, then the rule that is proposed,
    then wider and narrower ones; VARIANTs.

    `place` is the dotted path of the state dict. Where another entry has that name now, it is left out first.
    """
    old, new = fitted.entries[entry].key, fitted.target.table.keys[wanted]
    taken = fitted.filled[wanted]
    in_the_way: list[Operation] = []
    if taken >= 0 and taken != entry:
        in_the_way.append(Drop(keys=(literal_pattern(fitted.entries[taken].key),)))
    alone = Rename(rules=(literal_rule(old, new),))
    label = f"Pair {old} with {new}"
    made = [_said([*in_the_way, alone], label if in_the_way else "", place, _alone(fitted, entry, wanted, old, new))]
    for variant in _wider(fitted, taken if in_the_way else -1, old, new):
        step = operation_from_step(variant.step)
        made.append(_said([*in_the_way, step], "", place, variant))
    return made


def _alone(fitted: Fitted, entry: int, wanted: int, old: str, new: str) -> Variant:
    """What the one pair does."""
    have, want = fitted.entries[entry].shape, fitted.target.table.shapes[wanted]
    fits = None in (have, want) or have == want
    was_right = fitted.filled.index(entry) if entry in fitted.filled else -1
    breaks = int(was_right >= 0 and fitted.status[was_right] == "match")
    return Variant({}, old, new, int(fits), breaks, 0, ((old, new),) if fits else (), ())


def _wider(fitted: Fitted, without: int, old: str, new: str) -> list[Variant]:
    """Rules that mean more keys than one: the proposed one, then some wider and a narrower one."""
    source = fitted.table(ordered=True)
    try:
        with deadline(PATIENCE, "it takes too long", ""):
            lesson = learn(_without(source, without), fitted.target.table, [(old, new)])
    except (RepairError, UsageError):
        return []
    return [one for one in _in_order(lesson) if one.n_keys > 1 and one.fixes > 1]


def _in_order(lesson: Lesson) -> Sequence[Variant]:
    return [lesson.rule, *lesson.wider[:MOST_WIDER], *lesson.narrower[:MOST_NARROWER]]


def _without(table: KeyTable, at: int) -> KeyTable:
    """The table without one entry."""
    if at < 0:
        return table
    kept = [place for place in range(len(table)) if place != at]
    return replace(
        table,
        keys=tuple([table.keys[place] for place in kept]),
        shapes=[table.shapes[place] for place in kept],
        dtypes=[table.dtypes[place] for place in kept],
        ties=(),
        not_tensors=frozenset([now for now, place in enumerate(kept) if place in table.not_tensors]),
    )


def _said(steps: Sequence[Operation], label: str, place: str, variant: Variant) -> dict[str, Any]:
    return {
        **answered(steps, place, label),
        "n": max(variant.n_keys, 1),
        "fixes": variant.fixes,
        "breaks": variant.breaks,
        "others": variant.others,
        "lines": [text.visible(line, 300) for line in (variant.pattern, variant.result)],
        "fixed": [[text.visible(key, 200) for key in pair] for pair in variant.fixed],
        "broken": [[text.visible(key, 200) for key in pair] for pair in variant.broken],
    }
