"""Says rules as steps of a recipe, one rule a step wherever the steps can go one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sdviewer.repair.collisions import find_collisions
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.rules.candidates import REST, Candidate
from sdviewer.repair.rules.decision_list import Wishes

Step: TypeAlias = dict[str, Any]
"""A step as the table that a recipe has."""

MOST_SINGLES = 12
"""Rules for one key that stand in steps of their own, at most."""

_TAKEN = REST.replace("...", "")


def steps_of(rules: Sequence[Candidate], wishes: Wishes) -> list[Step]:
    """Steps that one after the other do what the rules do as a list."""
    singles = [rule for rule in rules if rule.is_literal]
    groups = [[rule] for rule in rules]
    if len(singles) > MOST_SINGLES:
        # What is renamed one by one says as much in one place.
        groups = [singles, *[[rule] for rule in rules if not rule.is_literal]]
    wanted = _by_rules(rules, wishes.keys)
    while len(groups) > 1:
        clash = _clash(groups, wishes.keys, wanted)
        if clash is None:
            break
        first, last = clash
        groups[first : last + 1] = [[rule for group in groups[first : last + 1] for rule in group]]
    return [step_of(group, wishes.keys) for group in groups]


def step_of(rules: Sequence[Candidate], keys: Sequence[str]) -> Step:
    """The shortest step that says these rules."""
    if len(rules) == 1 and (step := _prefix_step(rules[0], keys)) is not None:
        return step
    return {"op": "rename", "rules": [[rule.pattern, rule.result] for rule in rules]}


def _prefix_step(rule: Candidate, keys: Sequence[str]) -> Step | None:
    """A rule that exchanges the beginning of keys, as the step that says so."""
    if not rule.pattern.endswith(REST) or not rule.result.endswith(_TAKEN):
        return None
    old, new = rule.pattern.removesuffix(REST), rule.result.removesuffix(_TAKEN)
    if any(ch in old + new for ch in "*{}"):
        return None
    if not old:
        return {"op": "prefix", "add": new} if new else None
    if new:
        return {"op": "replace_prefix", "from": old, "to": new}
    step: Step = {"op": "strip", "prefix": old}
    return step if all(key.startswith(old) for key in keys) else step | {"when": "any"}


def _by_rules(rules: Sequence[Candidate], keys: Sequence[str]) -> list[str | None]:
    if not rules:
        return list(keys)
    step = operation_from_step({"op": "rename", "rules": [[rule.pattern, rule.result] for rule in rules]})
    return list(step.plan(keys).new_keys)


def _clash(
    groups: Sequence[Sequence[Candidate]], keys: Sequence[str], wanted: Sequence[str | None]
) -> tuple[int, int] | None:
    """The first and last group of a run that must be one step: keys would meet, or be renamed twice."""
    current: list[str] = list(keys)
    renamed_by: list[list[int]] = [[] for _ in keys]
    for number, group in enumerate(groups):
        changes = operation_from_step(step_of(group, current)).plan(current)
        if changes.refusal is not None or find_collisions(current, changes.new_keys):
            return (number, number + 1) if number + 1 < len(groups) else (number - 1, number)
        for place, (old, new) in enumerate(zip(current, changes.new_keys, strict=True)):
            if old != new:
                renamed_by[place].append(number)
                current[place] = new or ""
    for place, (key, right) in enumerate(zip(current, wanted, strict=True)):
        if key != right and len(renamed_by[place]) > 1:
            return renamed_by[place][0], renamed_by[place][-1]
        if key != right:
            return 0, len(groups) - 1
    return None
