"""What can be done about a row of a workbench: that is a choice; and the choices where shapes differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdviewer.engine.fitted import Fitted
from sdviewer.repair.rules.shape_choices import Choice, OtherTensor, choices

Step = dict[str, Any]
Other = Callable[[int], OtherTensor | None]
"""Where the target's tensor at a position can be taken from."""

MOST_ALIKE: Final = 400
"""Other rows that are looked at for the same choice."""


@dataclass(frozen=True, slots=True)
class RowChoice:
    """One way to make a row fit: its steps, and those that do the same to `others` more rows besides.

    They go behind all steps of the recipe, or before step number `at`, in the place of `instead` steps. `allow`, and
    `allow_for_all`, are patterns of keys that may be missing from then on.
    """

    text: str
    steps: tuple[Step, ...]
    others: int
    steps_for_all: tuple[Step, ...]
    at: int = -1
    instead: int = 0
    allow: tuple[str, ...] = ()
    allow_for_all: tuple[str, ...] = ()


def choices_at(fitted: Fitted, wanted: int, other: Other) -> tuple[RowChoice, ...]:
    """The choices for what has the target's key at `wanted`, the likeliest first; none where the shapes agree."""
    mine = _choices(fitted, wanted, other)
    if not mine:
        return ()
    unlike = [at for at, status in enumerate(fitted.status) if status == "shape" and at != wanted][:MOST_ALIKE]
    alike: dict[str, list[tuple[Step, ...]]] = {}
    for at in unlike:
        for choice in _choices(fitted, at, other):
            alike.setdefault(_meaning(choice), []).append(choice.steps)
    found = []
    for choice in mine:
        others = alike.get(_meaning(choice), [])
        found.append(RowChoice(choice.text, choice.steps, len(others), _joined([choice.steps, *others])))
    return tuple(found)


def _choices(fitted: Fitted, wanted: int, other: Other) -> tuple[Choice, ...]:
    entry, shape = fitted.entries[fitted.filled[wanted]], fitted.target.table.shapes[wanted]
    if fitted.status[wanted] != "shape" or entry.shape is None or shape is None:
        return ()
    names = [name for name in (entry.old,) if name and name != entry.key]
    return choices(entry.shape, shape, entry.key, *names, dtype=entry.dtype, other=other(wanted))


def _meaning(choice: Choice) -> str:
    """The same for choices that differ only in the tensors that they are for."""
    own = {"take": ("keys", "to")}
    return repr(
        [
            {name: value for name, value in step.items() if name not in own.get(step["op"], ("keys",))}
            for step in choice.steps
        ]
    )


def _joined(many: Sequence[tuple[Step, ...]]) -> tuple[Step, ...]:
    """Steps for several tensors: one for all where they differ only in their keys."""
    steps: list[Step] = []
    for place in range(len(many[0])):
        for chosen in many:
            step = chosen[place]
            known = next((one for one in steps if _without_keys(one) == _without_keys(step)), None)
            if known is None:
                steps.append(dict(step))
            else:
                known["keys"] = [*dict.fromkeys([*known["keys"], *step["keys"]])]
    return tuple(steps)


def _without_keys(step: Step) -> Step:
    return {name: value for name, value in step.items() if name != "keys"}
