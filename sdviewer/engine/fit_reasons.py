"""Why a row of a workbench is what it is: what speaks for a pair, and what is known of a key that has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_parts import NUMBER
from sdviewer.core.relation import relation
from sdviewer.engine.fit_collisions import Collisions
from sdviewer.engine.fit_rows import Pair
from sdviewer.engine.fitted import Fitted
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.plan import Plan
from sdviewer.repair.wording import listed

FEW: Final = 3
"""Keys that a sentence names one by one."""


class Reasons:
    """About the rows as they are `shown`; `fitted` is what they are without a preview, which `matching` is about."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        state_dict: int,
        shown: Fitted,
        fitted: Fitted,
        plan: Plan | None,
        matching: Matching | None,
        collisions: Collisions | None = None,
    ) -> None:
        self._checkpoint, self._state_dict = checkpoint, state_dict
        self._shown, self._fitted, self._plan, self._matching = shown, fitted, plan, matching
        self._wanted = shown.target.table
        self._collisions = collisions

    def of(self, pair: Pair) -> list[list[str]]:
        """What speaks for a pair, or what is known of a key that has none."""
        fitted = self._shown
        said: list[list[str]] = []
        entry = fitted.entries[pair.entry] if pair.entry >= 0 else None
        wanted = self._wanted
        if entry is not None and pair.status == "collision":
            said += self._of_collision(entry.key)
        elif entry is not None and pair.wanted >= 0:
            said.append(_of_shapes(entry.shape, wanted.shapes[pair.wanted]))
            if (order := self._order(pair)) != "":
                said.append(["ok", order])
            if (siblings := self._siblings(pair)) > 1:
                said.append(["ok", f"The same in {siblings:,} places that differ in their numbers"])
            if entry.made:
                said.append(["info", f"Made of {entry.more + 1:,} tensors" if entry.more else "Computed by the recipe"])
        elif pair.status == "missing":
            said += self._of_missing(pair)
        elif pair.status in ("will_leave", "left"):
            who = "The recipe lets" if pair.status == "left" else "This choice lets"
            said.append(["info", f"{who} it be missing: the model keeps what it begins with"])
        elif pair.status == "unexpected":
            said += self._of_unexpected(pair)
        elif pair.source >= 0:
            reason = self._plan.reasons.get(pair.source) if self._plan is not None else None
            who = "this suggestion" if pair.status == "will_drop" else "the recipe"
            said.append(["info", f"Left out by {who}{f': {reason}' if reason else ''}"])
        of_row = self._found(pair)
        said += [["info", reason] for reason in self._folds(pair, of_row)]
        for found in of_row:
            kind = "warn" if found.evidence == "ambiguous" else "ok"
            if alone := self._other_side(pair, found):
                said.append([kind, alone])
            said += [[kind, reason] for reason in found.reasons]
            if found.candidates:
                names = [wanted.keys[at] for at in found.candidates[:FEW]]
                said.append(["warn", f"Could also be {', '.join(names)}"])
        return [[kind, text.visible(words, 300)] for kind, words in dict.fromkeys(map(tuple, said))]

    def _of_collision(self, key: str) -> list[list[str]]:
        """Which keys would be one, by which step, and how alike they are."""
        fitted = self._shown
        places = fitted.collided[key]
        said = [["warn", f"{text.plural(len(places), 'key').capitalize()} would be called {key}"]]
        if self._collisions is not None and key in self._collisions.olds:
            olds, at = self._collisions.olds[key], self._collisions.step
            label = self._collisions.recipe.steps[at].label
            shown = list(olds[: FEW + 1])
            said[0][1] += f": {', '.join(shown[:-1])} and {shown[-1] if len(olds) <= FEW + 1 else 'others'}"
            said.append(["info", f"By step {at + 1}: {label}"])
            if waiting := len(self._collisions.recipe.steps) - at - 1:
                said.append(["info", f"{text.plural(waiting, 'step')} behind it wait{'s' if waiting == 1 else ''}"])
        shapes = [fitted.entries[at].shape for at in places]
        one = None if None in shapes or len(set(shapes)) > 1 else shapes[0]
        said.append(["info", "They are of different shapes" if one is None else f"Same shape  {text.shape(one)}"])
        if key not in self._wanted.keys:
            said.append(["info", "The model has no key of this name"])
        return said

    def _of_missing(self, pair: Pair) -> list[list[str]]:
        shape = self._wanted.shapes[pair.wanted]
        fitted = self._shown
        alike = [fitted.entries[at].key for at in fitted.unexpected if fitted.entries[at].shape == shape]
        ties = next((tie for tie in self._wanted.ties if pair.wanted in tie), ())
        gone = self._dropped.get(self._wanted.keys[pair.wanted])
        said = [["info", "No key has this name" if gone is None else self._of_dropped(gone)]]
        if ties:
            others = [self._wanted.keys[at] for at in ties if at != pair.wanted]
            said.append(["info", f"The model has one tensor for this and {others[0]}"])
        if shape is not None:
            one = f": {alike[0]}" if len(alike) == 1 else ""
            said.append(["info", f"{text.plural(len(alike), 'unexpected key')} of the same shape{one}"])
        return said

    def _of_dropped(self, source: int) -> str:
        """Which key of the file would be the one that is missing."""
        key, name = self._checkpoint.state_dicts[self._state_dict].keys[source], self._shown.would_be[source]
        who = "The recipe" if source in self._fitted.would_be else "This suggestion"
        what = "the file's key of this name" if key == name else f"{key}, which would have this name"
        return f"{who} leaves out {what}"

    @cached_property
    def _dropped(self) -> dict[str, int]:
        """What steps dropped, by the key that it would have."""
        return {key: source for source, key in self._shown.would_be.items()}

    def _of_unexpected(self, pair: Pair) -> list[list[str]]:
        fitted = self._shown
        shape = fitted.entries[pair.entry].shape
        said = [["info", "The model has no key of this name"]]
        if shape is None:
            said.append(["info", "It is no tensor"])
        else:
            shapes = self._wanted.shapes
            alike = [at for at, status in enumerate(fitted.status) if status == "missing" and shapes[at] == shape]
            one = f": {self._wanted.keys[alike[0]]}" if len(alike) == 1 else ""
            said.append(["info", f"{text.plural(len(alike), 'missing key')} of the same shape{one}"])
        reason = self._matching.drops.get(pair.entry) if self._matching and self._shown is self._fitted else None
        if reason:
            said.append(["info", reason])
        return said

    def _found(self, pair: Pair) -> list[Found]:
        """What matching says of a row; its positions are those of the rows without a preview."""
        if self._matching is None:
            return []
        entries = self._fitted.entries
        of_row = []
        for found in self._matching.found:
            from_it = pair.source >= 0 and any(entries[at].source == pair.source for at in found.sources)
            to_it = pair.wanted in found.targets
            if (from_it and (to_it or pair.wanted < 0)) or (to_it and pair.source < 0):
                of_row.append(found)
        return of_row[:2]

    def _other_side(self, pair: Pair, found: Found) -> str:
        """What would stand beside a key that has no pair, for what is said of the two."""
        if pair.source < 0:
            keys = [self._fitted.entries[at].old for at in found.sources]
        else:
            keys = [self._wanted.keys[at] for at in found.targets] if pair.wanted < 0 else []
        return f"Would be paired with {listed(keys[:FEW])}" if keys else ""

    def _folds(self, pair: Pair, of_row: Sequence[Found]) -> list[str]:
        """Why one tensor is made of several before anything is paired, where this row is of them."""
        folds = self._matching.folds if self._matching is not None else ()
        places = {at for found in of_row for at in found.sources}
        if folds and pair.source >= 0:
            places |= {at for at, entry in enumerate(self._fitted.entries) if entry.source == pair.source}
        return [fold.reason for fold in folds if any(not places.isdisjoint(parts) for parts in fold.parts)]

    @cached_property
    def _orders(self) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
        """For each entry of the file, and each key of the target, its place among those of its shape and how many."""
        source = self._checkpoint.state_dicts[self._state_dict]
        tensors = self._checkpoint.tensors
        shapes = [tensors[tensor].shape if tensor >= 0 else None for tensor in source.tensor_of]
        gone = set(self._fitted.dropped)
        return (
            _places([None if at in gone else shape for at, shape in enumerate(shapes)]),
            _places(list(self._wanted.shapes)),
        )

    def _order(self, pair: Pair) -> str:
        of_source, of_target = self._orders
        one, other = of_source.get(pair.source), of_target.get(pair.wanted)
        if one is None or one != other or one[1] < 2:
            return ""
        return f"Same place in order  {one[0]:,} of {one[1]:,} of this shape"

    def _siblings(self, pair: Pair) -> int:
        """How many pairs differ from this one only in their numbers."""
        return self._templates[self._template(pair.entry, pair.wanted)]

    @cached_property
    def _templates(self) -> Counter[tuple[str, str]]:
        filled = zip(self._shown.filled, self._shown.status, strict=True)
        return Counter(self._template(entry, at) for at, (entry, status) in enumerate(filled) if status == "match")

    def _template(self, entry: int, wanted: int) -> tuple[str, str]:
        return NUMBER.sub("*", self._shown.entries[entry].old), NUMBER.sub("*", self._wanted.keys[wanted])


def _of_shapes(shape: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> list[str]:
    """How what the file has, None for no tensor, stands to what the model wants, None where nobody knows."""
    if wanted is None:
        return ["info", "The shape that the model wants is not known"]
    if shape is None:
        return ["warn", "It is no tensor"]
    if shape == wanted:
        return ["ok", f"Same shape  {text.shape(shape)}"]
    how = relation(shape, wanted)
    return ["warn", f"The shapes differ: {how}" if how else "The shapes differ"]


def _places(shapes: Sequence[tuple[int, ...] | None]) -> dict[int, tuple[int, int]]:
    total = Counter(shapes)
    seen: Counter[tuple[int, ...] | None] = Counter()
    places = {}
    for at, shape in enumerate(shapes):
        if shape is not None:
            seen[shape] += 1
            places[at] = (seen[shape], total[shape])
    return places
