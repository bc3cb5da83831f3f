"""What the program proposes for a file in a workbench: what of it is shown, tried, put away and accepted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.key_parts import exchanged
from sdviewer.core.key_table import SORTED_CONTAINERS
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.engine.failures import sentence
from sdviewer.engine.fit_file import FitFile, Made
from sdviewer.engine.fit_steps import Preview, answered, preview_of
from sdviewer.engine.fitting import merging_into
from sdviewer.engine.frames import Answer
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.proposing import Proposal, packed_values
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.operations import Extract, Operation, ReplacePrefix, Strip, Unwrap, operation_from_step
from sdviewer.repair.patterns import FULL, SEARCH
from sdviewer.repair.suggestion import Caution, Suggestion

MOST_BY_VALUES: Final = 20_000
"""Entries up to which values are compared for matching."""
MOST_LINES: Final = 3
"""Rules of a suggestion that its card shows."""
SURE: Final = ("proved", "likely")

VERBS: Final = {
    "strip": "Strip",
    "prefix": "Add prefix",
    "replace_prefix": "Replace prefix",
    "weight_norm": "Weight norm",
    "spectral_norm": "Spectral norm",
    "merge_lora": "Merge adapter",
}
"""What an operation is called on a card, where its own name is not enough."""

Params = Mapping[str, Any]


class FitSuggestions:
    """The suggestions for one plan of a file; what was dismissed stays away when it has another plan."""

    def __init__(self, file: FitFile) -> None:
        self.matching: Matching | None = None
        self._file = file
        self._found: Sequence[Suggestion] = ()
        self._cautions: Sequence[Caution] = ()
        self._merging: Sequence[Suggestion] = ()
        self._dismissed: set[str] = set()

    def forget(self) -> None:
        """The file has another plan."""
        self.matching = None
        self._found = self._cautions = ()

    def bring_back(self) -> None:
        """Nothing is dismissed any more."""
        self._dismissed.clear()

    # Looking for them

    def question(self) -> dict[str, bytes]:
        """What `engine.proposing` takes of the file, as buffers."""
        source = self._file.fitted.table(ordered=self._file.checkpoint.container not in SORTED_CONTAINERS)
        return {"source": packed(source), "values": self._values()}

    def _values(self) -> bytes:
        """What finds equal values on both sides, where the target holds values and matching them takes no age."""
        file, wanted = self._file, self._file.wanted
        other, entries = wanted.values, file.fitted.entries
        if other is None or not file.fitted.problems or len(entries) > MOST_BY_VALUES:
            return b""
        of_a = [-1 if entry.made else entry.tensor for entry in entries]
        return packed_values(file.checkpoint, of_a, other, other.state_dicts[wanted.state_dict].tensor_of)

    def proposed(self, params: Params, progress: Progress) -> Answer:
        """What another process found for this plan; what was dismissed before stays away."""
        file = self._file
        if params["plan"] != file.plan_number:
            raise UsageError("it is about another recipe", code="old_sheet")
        proposal = unpacked(Proposal, params["proposal"])
        self.matching, self._cautions = proposal.matching, proposal.cautions
        self._merging = merging_into(file.wanted) if file.plan is None or not file.plan.others else []
        self._found = list(self._going_through([*self._unwrapping(), *self._merging, *proposal.suggestions]))
        return self._answer()

    def _unwrapping(self) -> Iterator[Suggestion]:
        """The step that makes the state dict the whole file, where the model is given the whole file."""
        file, plan = self._file, self._file.plan
        source = file.checkpoint.state_dicts[file.state_dict]
        if len(file.covered) > 1:
            return  # it would leave one of them
        if source.is_module and not (plan is not None and plan.extract):
            yield _of_operation(Extract(), len(source.keys))
        elif source.path and not file.target.nested and not (plan is not None and plan.unwrap):
            yield _of_operation(Unwrap(path=dotted(source.path)), len(source.keys))

    def _going_through(self, found: Sequence[Suggestion]) -> Iterator[Suggestion]:
        """Suggestions, each with a caution where it does not go through on all state dicts that the recipe is for."""
        for at, suggestion in enumerate(found):
            error = self._try(found, at)[2] if len(self._file.covered) > 1 else ""
            if error and suggestion.step["op"] == Strip.op:
                # (an average counts in a key that has no prefix)
                wider = replace(suggestion, step={**suggestion.step, "when": "any"})
                if not self._try([*found[:at], wider], at)[2]:
                    yield wider
                    continue
            caution = (Caution(code="other_state_dict", keys=(), message=error),) if error else ()
            yield replace(suggestion, cautions=(*suggestion.cautions, *caution))

    # Showing them

    @property
    def spoken_for(self) -> frozenset[int]:
        """Keys of the target that what is offered would fill, by their places."""
        if self.matching is None or not self._offered():
            return frozenset()
        return frozenset([at for found in self.matching.found for at in found.targets])

    def _offered(self) -> list[Suggestion]:
        return [suggestion for suggestion in self._found if _sign(suggestion) not in self._dismissed]

    def _answer(self) -> Answer:
        told = [_told(suggestion) for suggestion in self._offered()]
        cautions = [_told_caution(caution) for caution in self._cautions]
        return Answer({"suggestions": told, "dismissed": len(self._found) - len(told), "cautions": cautions})

    def dismiss(self, params: Params, progress: Progress) -> Answer:
        """Do not propose one any more, or bring all back."""
        if params.get("all"):
            self.bring_back()
        else:
            offered = self._offered()
            if 0 <= params["at"] < len(offered):
                self._dismissed.add(_sign(offered[params["at"]]))
        return self._answer()

    # Trying them

    def preview(self, at: int) -> Preview | None:
        """What the suggestion at a place would give; None where there is none."""
        offered = self._offered()
        if not 0 <= at < len(offered):
            return None
        chosen, made, error = self._try(offered, at)
        return preview_of(self._file, made, error, at=at, first=len(chosen) - 1)

    def _try(self, offered: Sequence[Suggestion], at: int) -> tuple[list[Suggestion], Made | None, str]:
        """A suggestion carried out: alone where that does anything, else behind those before it. Why not, in words."""
        error = ""
        alone, all_before = [offered[at]], list(offered[: at + 1])
        for chosen in (alone, all_before) if at else (alone,):
            try:
                made = self._carried_out(chosen)
            except (RepairError, UsageError, OpenError) as failed:
                error = sentence(failed)
                continue
            if made.changed or chosen is all_before or not at:
                return chosen, made, ""
        return alone, None, error

    def _carried_out(self, chosen: Iterable[Suggestion]) -> Made:
        """What suggestions give."""
        return self._file.with_steps([operation_from_step(suggestion.step) for suggestion in chosen])

    # Accepting them

    def accept(self, params: Params, progress: Progress) -> Answer:
        """The steps of one suggestion, or of all that are safe."""
        offered = self._offered()
        if not params.get("safe"):
            if not 0 <= params["at"] < len(offered):
                raise UsageError("the suggestions have changed", code="old_sheet")
            chosen, _, error = self._try(offered, params["at"])
            if error:
                raise UsageError(error.rstrip("."))
            if (caution := params.get("caution", -1)) >= 0:
                mended = self._mended(offered, params["at"], offered[params["at"]].cautions[caution])
                return Answer(answered(mended, self._file.place))
            return Answer(answered([operation_from_step(one.step) for one in chosen], self._file.place))
        taken = self._safe(offered)
        if not taken:
            raise UsageError("no suggestion is safe", remedy="Look at each and accept it by itself.")
        steps = [operation_from_step(one.step) for one in taken]
        label = f"Accept {text.plural(len(steps), 'suggestion')}" if len(steps) > 1 else ""
        return Answer(answered(steps, self._file.place, label))

    def _mended(self, offered: Sequence[Suggestion], at: int, caution: Caution) -> list[Operation]:
        """A suggestion with the steps against its trap, which look at keys that those after it may have to make first.

        Raises:
            UsageError: the keys are not there.
        """
        against = list(map(operation_from_step, caution.steps))
        for chosen in ([offered[at]], offered[: at + 1], offered):
            steps = [*[operation_from_step(one.step) for one in chosen], *against]
            with suppress(RepairError, UsageError, OpenError):
                if self._file.with_steps(steps).changed:
                    return steps
        raise UsageError("no keys are there that it is for", remedy="Accept the other suggestions first.")

    def _safe(self, offered: Sequence[Suggestion]) -> list[Suggestion]:
        """Those that are sure and go through one behind the other, and after which nothing fits worse."""
        taken: list[Suggestion] = []
        now = self._file.fitted
        safe = list(filter(_is_safe, offered))
        # (what takes an adapter and what merges it are one thing)
        merging = list(self._merging) if all(one in safe for one in self._merging) else []
        for together in [*([merging] if merging else []), *[[one] for one in safe if one not in self._merging]]:
            try:
                then = self._carried_out([*taken, *together]).fitted
            except (RepairError, UsageError, OpenError):
                continue
            # A key of another shape wants a decision: what leaves it out is not accepted unseen.
            lost = then.counts["missing"] - now.counts["missing"]
            if then.counts["match"] >= now.counts["match"] and then.problems <= now.problems and lost <= 0:
                taken.extend(together)
                now = then
        return taken


def _told(suggestion: Suggestion) -> dict[str, Any]:
    """A SUGGESTION of `engine.workbench`."""
    operation = operation_from_step(suggestion.step)
    return {
        "verb": VERBS.get(operation.op, operation.op.replace("_", " ").capitalize()),
        "lines": [text.visible(line, 300) for line in _lines(suggestion.step, suggestion.text)],
        "short": text.visible(_short(suggestion.step, suggestion.text), 300),
        "text": text.visible(suggestion.text, 400),
        "n": suggestion.n_keys,
        "evidence": suggestion.evidence,
        "reasons": [text.visible(reason, 300) for reason in suggestion.reasons],
        "cautions": [_told_caution(caution) for caution in suggestion.cautions],
        "asks": [f"{name} = {suggestion.step.get(name)} is a guess" for name in suggestion.asks],
        "examples": [[text.visible(key, 200) for key in pair] for pair in suggestion.examples[:MOST_LINES]],
        "safe": _is_safe(suggestion),
        "step": dict(suggestion.step),
        "label": operation.label,
    }


def _told_caution(caution: Caution) -> list[str]:
    """A CAUTION of `engine.workbench`."""
    return [caution.code, text.visible(caution.message, 400), _remedy(caution)]


def _of_operation(operation: Operation, n_keys: int) -> Suggestion:
    return Suggestion(operation.to_step(), operation.label, n_keys, "proved")


def _sign(suggestion: Suggestion) -> str:
    return json.dumps(suggestion.step, sort_keys=True)


def _is_safe(suggestion: Suggestion) -> bool:
    return suggestion.evidence in SURE and not suggestion.cautions


def _remedy(caution: Caution) -> str:
    """What the steps against a trap do."""
    return text.visible("; ".join([operation_from_step(step).label for step in caution.steps]), 200)


def _short(step: Mapping[str, Any], said: str) -> str:
    """A step in one line, of a new name only what differs."""
    rules = step.get("rules")
    if not rules or rules[0][0].startswith((SEARCH, FULL)):
        return " ".join(_lines(step, said))
    old, new = exchanged(*map(str, rules[0]))
    more = f", {len(rules) - 1:,} more" if len(rules) > 1 else ""
    return f"{old} \N{RIGHTWARDS ARROW} {new}{more}"


def _lines(step: Mapping[str, Any], said: str) -> list[str]:
    """A step on a card, as what is found and what it becomes."""
    lines: list[str] = []
    if rules := step.get("rules"):
        for old, new in rules[:MOST_LINES]:
            lines += [str(old), f"\N{RIGHTWARDS ARROW} {new}"]
        if len(rules) > MOST_LINES:
            lines.append(f"and {len(rules) - MOST_LINES:,} more rules")
        return lines
    if step["op"] == ReplacePrefix.op:
        return [str(step["from"]), f"\N{RIGHTWARDS ARROW} {step['to']}"]
    for name in ("prefix", "path"):
        if isinstance(step.get(name), str):
            return [str(step[name])]
    for name in ("components", "keys"):
        if found := step.get(name):
            more = f" and {len(found) - MOST_LINES:,} more" if len(found) > MOST_LINES else ""
            return [", ".join(map(str, found[:MOST_LINES])) + more]
    return [said]
