"""What a person does with rows of a workbench: pairs, renames and drops, choices, and steps in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdviewer.core import text
from sdviewer.core.key_parts import NUMBER, common_end
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.engine.deadline import deadline
from sdviewer.engine.fit_choices import RowChoice, choices_at
from sdviewer.engine.fit_collisions import Collisions
from sdviewer.engine.fit_file import PATIENCE, FitFile
from sdviewer.engine.fit_missing import missing_choices
from sdviewer.engine.fit_steps import Preview, answered, try_steps
from sdviewer.engine.fit_suggestions import FitSuggestions
from sdviewer.engine.fit_view import FitView
from sdviewer.engine.frames import Answer
from sdviewer.engine.lessons import variants_of
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.repair.operations import Drop, Operation, Rename, operation_from_step
from sdviewer.repair.patterns import literal_pattern, literal_rule
from sdviewer.repair.rules.shape_choices import OtherTensor
from sdviewer.repair.scope import MOST_KEYS, common_part
from sdviewer.repair.state_dicts import AUTO

Params = Mapping[str, Any]


class FitByHand:
    """Asks for rows as the view shows them, and answers steps for the file without a preview; keeps nothing."""

    def __init__(self, file: FitFile, view: FitView, suggestions: FitSuggestions) -> None:
        self._file, self._view, self._suggestions = file, view, suggestions

    # Keys

    def partners(self, params: Params, progress: Progress) -> Answer:
        """What a row could be paired with; what is alone and fits comes first, then what is named alike."""
        self._view.check(params)
        pair = self._view.pair_at(params["row"])
        fitted, wanted = self._file.fitted, self._file.target.table
        words = params["text"].lower().split()
        found: list[tuple[bool, bool, int, bool, int, str, str, str]] = []

        def offer(place: int, key: str, other: str, shape: object, own: object, now: str) -> None:
            if all(word in key.lower() for word in words):
                unlike = shape != own and None not in (shape, own)
                said = "?" if shape is None else text.shape(shape)  # type: ignore[arg-type]
                numbers = zip(NUMBER.findall(key), NUMBER.findall(other), strict=False)
                numbered = any(one != two for one, two in numbers)
                found.append((unlike, bool(now), -common_end(key, other), numbered, place, key, said, now))

        if pair.entry >= 0:
            entry = fitted.entries[pair.entry]
            for at, key in enumerate(wanted.keys):
                if at != pair.wanted:
                    taken = fitted.filled[at]
                    now = fitted.entries[taken].key if taken >= 0 else ""
                    offer(at, key, entry.key, wanted.shapes[at], entry.shape, now)
        else:
            filled = {at: place for place, at in enumerate(fitted.filled) if at >= 0}
            for at, entry in enumerate(fitted.entries):
                if entry.shape is not None:
                    now = wanted.keys[filled[at]] if at in filled else ""
                    offer(at, entry.key, wanted.keys[pair.wanted], entry.shape, wanted.shapes[pair.wanted], now)
        found.sort(key=lambda one: one[:5])
        rows = [
            [place, text.visible(key, 200), shape, not unlike, text.visible(now, 200)]
            for unlike, _, _, _, place, key, shape, now in found[: params["limit"]]
        ]
        return Answer({"rows": rows})

    def lesson(self, params: Params, progress: Progress) -> Answer:
        """What pairing two keys can mean: them alone, or all that are named like them."""
        self._view.check(params)
        if self._file.failed is not None:
            raise UsageError("a step of the recipe does not go through", remedy="Settle that first.")
        pair = self._view.pair_at(params["row"])
        entry, wanted = pair.entry, pair.wanted
        if "onto" in params:
            onto = self._view.pair_at(params["onto"])
            entry, wanted = (entry, onto.wanted) if entry >= 0 and onto.wanted >= 0 else (onto.entry, wanted)
        else:
            entry, wanted = (entry, params["partner"]) if entry >= 0 else (params["partner"], wanted)
        if entry < 0 or wanted < 0 or self._file.fitted.filled[wanted] == entry:
            raise UsageError("these two cannot be paired", remedy="Pair a key of the file with a key of the target.")
        shapes = (self._file.fitted.entries[entry].shape, self._file.target.table.shapes[wanted])
        body = {
            "key_a": text.visible(self._file.fitted.entries[entry].key, 300),
            "key_b": text.visible(self._file.target.table.keys[wanted], 300),
            "shapes": ["?" if shape is None else text.shape(shape) for shape in shapes],
            "variants": variants_of(self._file.fitted, entry, wanted, self._file.place),
        }
        return Answer(body)

    def drop(self, params: Params, progress: Progress) -> Answer:
        """The step that leaves rows out."""
        found = self._view.entries_at(params)
        if not found:
            raise UsageError("there is nothing of the file in it that could be dropped")
        keys, at = self._keys_now(found)
        step = Drop(keys=tuple(dict.fromkeys(map(literal_pattern, keys))))
        return Answer(answered([step], self._file.place, at=at))

    def rename(self, params: Params, progress: Progress) -> Answer:
        """The step that gives what a row has another key, tried while somebody types."""
        self._view.check(params)
        pair, typed = self._view.pair_at(params["row"]), params["key"]
        entry, new = pair.entry, typed
        if entry < 0:
            entry = next((at for at, known in enumerate(self._file.fitted.entries) if known.key == typed), -1)
            new = self._file.target.table.keys[pair.wanted]
        if entry < 0 or not typed:
            return self._refused("The file has no key of this name." if typed else "A key cannot be empty.")
        (old,), at = self._keys_now([entry])
        step = Rename(rules=(literal_rule(old, new),))
        try:
            fitted = self._file.with_steps([step], at).fitted
        except (RepairError, UsageError, OpenError) as failed:
            said = failed.message.partition(f"({step.label}): ")[2] or failed.message
            return self._refused(f"{said[:1].upper()}{said[1:]}. {failed.remedy}".strip())
        if new in fitted.collided:
            return self._refused(f"{text.visible(new, 200)} is a key already. Rename or drop one of the two first.")
        return Answer({**answered([step], self._file.place, at=at), "problem": ""})

    def _keys_now(self, entries: Sequence[int]) -> tuple[list[str], int]:
        """Keys by which a step can mean entries, and before which step of the recipe: of those that collide none has
        a key of its own behind the step that they collide by."""
        if (found := self._file.collisions) is not None:
            return [found.old(entry) for entry in entries], found.step
        return [self._file.fitted.entries[entry].key for entry in entries], -1

    def _refused(self, problem: str) -> Answer:
        return Answer({"steps": [], "problem": text.visible(problem, 400)})

    # Shapes that differ, keys that collide or are missing

    def preview_of_choice(self, params: Params) -> Preview:
        """What a choice for a row would give."""
        chosen, steps, allow = self._chosen(params)
        return try_steps(self._file, steps, chosen.at, chosen.instead, allow)

    def choose(self, params: Params, progress: Progress) -> Answer:
        """The steps of a choice."""
        chosen, steps, allow = self._chosen(params)
        label = "" if len(steps) == 1 else chosen.text.rstrip(".")
        label = f"Leave {text.plural(len(allow), 'key')} to the model" if allow else label
        told = answered(steps, self._file.place, label, at=chosen.at, instead=chosen.instead, allow=allow)
        return Answer(told)

    def _chosen(self, params: Params) -> tuple[RowChoice, list[Operation], Sequence[str]]:
        """A choice, with the steps and permissions that are meant of it."""
        now = params["plan"] == self._file.plan_number
        found = self.choices(params["entry"], params["wanted"]) if now else ()
        if not 0 <= params["choice"] < len(found):
            raise UsageError("the rows have changed", code="old_sheet")
        chosen = found[params["choice"]]
        steps, allow = chosen.steps, chosen.allow
        if params["others"]:
            steps, allow = chosen.steps_for_all, chosen.allow_for_all
        return chosen, [operation_from_step(step) for step in steps], allow

    def choices(self, entry: int, wanted: int) -> tuple[RowChoice, ...]:
        """What can be done about an entry that collides, or whose shape differs, or about a key of the target that is
        missing, without what is previewed."""
        fitted = self._file.fitted
        if entry < 0:
            if self._file.failed is not None or self._suggestions.matching is None:
                return ()  # something better may be found yet
            return missing_choices(fitted, wanted, self._in_target, self._suggestions.spoken_for)
        if (collisions := self._colliding(entry)) is not None:
            try:
                with deadline(PATIENCE, "this takes too long on these keys", ""):
                    return collisions.ways_out(fitted.entries[entry].key)
            except UsageError:
                return ()
        wanted = next((at for at, there in enumerate(fitted.filled) if there == entry), -1)
        return choices_at(fitted, wanted, self._in_target) if wanted >= 0 else ()

    def _colliding(self, entry: int) -> Collisions | None:
        """What an entry collides by, without what is previewed; None where it does not."""
        found = self._file.collisions
        return found if found is not None and self._file.fitted.entries[entry].key in found.olds else None

    def _in_target(self, wanted: int) -> OtherTensor | None:
        """Where the tensor of a target that is a checkpoint can be taken from."""
        other = self._file.wanted.values
        if other is None:
            return None
        state_dict = other.state_dicts[self._file.wanted.state_dict]
        named = dotted(state_dict.path) if len(other.state_dicts) > 1 else AUTO
        return OtherTensor(other.path, self._file.target.table.keys[wanted], named)

    # A step that somebody is making

    def preview_of_step(self, step: Mapping[str, Any] | None) -> Preview | None:
        """What a step would give that is not in the recipe yet; None where there is none."""
        return None if step is None else try_steps(self._file, [operation_from_step(step)])

    def effects(self, params: Params, progress: Progress) -> Answer:
        """What keys are to the target, in what is shown."""
        fitted = self._view.fitted
        known = dict(zip(self._file.target.table.keys, fitted.status, strict=True))
        found = [known.get(key, "") for key in params["keys"]]
        return Answer({"effects": [status if status in ("match", "shape") else "" for status in found]})

    def keys(self, params: Params, progress: Progress) -> Answer:
        """The keys that a step can be restricted to."""
        fitted = self._file.fitted
        places = self._view.entries_at(params) if "rows" in params else fitted.unexpected
        if len(places) == len(fitted.entries):
            return Answer({"keys": None, "common": ""})
        if len(places) > MOST_KEYS:
            raise UsageError(f"these are more than {MOST_KEYS:,} keys", remedy="Choose the whole state dict.")
        keys = [fitted.entries[at].key for at in places]
        return Answer({"keys": keys, "common": common_part(keys)})
