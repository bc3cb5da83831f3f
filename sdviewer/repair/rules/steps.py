"""Says rules as steps of a recipe, one rule a step wherever the steps can go one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sdviewer.repair.collisions import find_collisions
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.rules.candidates import REST, TAKEN, Candidate
from sdviewer.repair.rules.decision_list import Rules

Step: TypeAlias = dict[str, Any]
"""A step as the table that a recipe has."""

MOST_ORDERS = 12
"""Orders of the steps that are tried."""

MOST_APART = 2_000_000
"""Rules times keys up to which each rule is a step of its own: each is carried out on all keys, more than once."""

MOST_SINGLES = 12
"""Rules for one key that stand in steps of their own, at most."""


def steps_of(rules: Rules, keys: Sequence[str], *, at_once: bool = False) -> list[tuple[Step, list[str]]]:
    """Steps that one after the other do what the rules do as a list, each with all keys as it leaves them.

    `at_once`: as one step, whatever the rules are; so are very many.
    """
    if rules.rules and (at_once or len(rules.rules) * len(keys) > MOST_APART):
        return [(step_of(rules.rules, keys), rules.new_keys)]
    singles = [rule for rule in rules.rules if rule.is_literal]
    groups = [[rule] for rule in rules.rules]
    if len(singles) > MOST_SINGLES:
        # What is renamed one by one says as much in one place.
        groups = [singles, *[[rule] for rule in rules.rules if not rule.is_literal]]
    apart = _in_other_order(groups, keys, rules.new_keys)
    if apart is not None:
        return apart
    while True:
        done, clash = _tried(groups, keys, rules.new_keys)
        if clash is None:
            return done
        first, last = clash
        groups[first : last + 1] = [[rule for group in groups[first : last + 1] for rule in group]]


def _in_other_order(
    groups: Sequence[list[Candidate]], keys: Sequence[str], wanted: Sequence[str]
) -> list[tuple[Step, list[str]]] | None:
    """The rules in steps of their own, where another order makes that possible."""
    for _ in range(MOST_ORDERS):
        done, clash = _tried(groups, keys, wanted)
        if clash is None:
            return done
        first, last = clash
        if _keep_apart(groups[last], groups[first:last], keys):
            # What the first one makes would be renamed again by the last: not where that one is through before.
            groups = [*groups[:first], groups[last], *groups[first:last], *groups[last + 1 :]]
            continue
        wide = _wide_one_first(groups, last)
        if wide is None:
            return None
        groups = wide
    return None


def _wide_one_first(groups: Sequence[list[Candidate]], last: int) -> list[list[Candidate]] | None:
    """An exchange of a prefix before its exceptions, which then start from the new prefix."""
    (wide, *more) = groups[last]
    old, new = wide.pattern.removesuffix(REST), wide.result.removesuffix(TAKEN)
    if more or wide.pattern == old or wide.result == new or any(ch in old + new for ch in "*{}") or not old:
        return None
    before: list[list[Candidate]] = []
    after: list[list[Candidate]] = []
    for group in groups[:last]:
        if all(rule.pattern.startswith(old) and rule.result.startswith(new) for rule in group):
            after.append([rule._replace(pattern=new + rule.pattern.removeprefix(old)) for rule in group])
        else:
            before.append(group)
    return [*before, [wide], *after, *groups[last + 1 :]] if after else None


def step_of(rules: Sequence[Candidate], keys: Sequence[str]) -> Step:
    """The shortest step that says these rules."""
    if len(rules) == 1 and (step := _prefix_step(rules[0], keys)) is not None:
        return step
    return {"op": "rename", "rules": [[rule.pattern, rule.result] for rule in rules]}


def _prefix_step(rule: Candidate, keys: Sequence[str]) -> Step | None:
    """A rule that exchanges the beginning of keys, as the step that says so."""
    if not rule.pattern.endswith(REST) or not rule.result.endswith(TAKEN):
        return None
    old, new = rule.pattern.removesuffix(REST), rule.result.removesuffix(TAKEN)
    if any(ch in old + new for ch in "*{}"):
        return None
    if not old:
        return {"op": "prefix", "add": new} if new else None
    if new:
        return {"op": "replace_prefix", "from": old, "to": new}
    step: Step = {"op": "strip", "prefix": old}
    return step if all(key.startswith(old) for key in keys) else step | {"when": "any"}


def _keep_apart(rules: Sequence[Candidate], others: Sequence[Sequence[Candidate]], keys: Sequence[str]) -> bool:
    """Whether no key is meant by one of the rules and by one of the others too, so that their order says nothing."""
    ours = [compile_pattern(rule.pattern) for rule in rules]
    theirs = [compile_pattern(rule.pattern) for group in others for rule in group]
    return not any(
        any(pattern.matches(key) for pattern in ours) and any(pattern.matches(key) for pattern in theirs)
        for key in keys
    )


def _tried(
    groups: Sequence[Sequence[Candidate]], keys: Sequence[str], wanted: Sequence[str]
) -> tuple[list[tuple[Step, list[str]]], tuple[int, int] | None]:
    """The steps, or the first and last group of a run that must be one: keys would meet, or be renamed twice."""
    done: list[tuple[Step, list[str]]] = []
    current = list(keys)
    renamed_by: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        step = step_of(group, current)
        changes = operation_from_step(step).plan(current)
        new_keys = [new or "" for new in changes.new_keys]
        changed = [place for place, (old, new) in enumerate(zip(current, new_keys, strict=True)) if old != new]
        if len(groups) > 1 and (changes.refusal is not None or find_collisions(current, changes.new_keys)):
            return done, (number, number + 1) if number + 1 < len(groups) else (number - 1, number)
        for place in changed:
            renamed_by.setdefault(place, []).append(number)
        current = new_keys
        done.append((step, current))
    for place, numbers in renamed_by.items():
        if current[place] != wanted[place]:
            return done, (numbers[0], numbers[-1]) if len(numbers) > 1 else (0, len(groups) - 1)
    return done, None
