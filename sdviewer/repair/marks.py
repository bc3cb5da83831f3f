"""What of a key a step takes away, carries over and puts in: how a preview marks it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from sdviewer.repair.operations import Operation, Rename, Replace
from sdviewer.repair.operations.replace import LITERAL, REGEX
from sdviewer.repair.patterns import FULL, SEARCH, Rule, compile_rule

Kind = Literal["kept", "gone", "carried", "new"]


class Part(NamedTuple):
    """A piece of a key and what becomes of it, or where it comes from."""

    text: str
    kind: Kind


Parts = tuple[Part, ...]

_REFERENCE = re.compile(r"\\(?:([1-9][0-9]?)|g<([^>]+)>|(.))", re.DOTALL)


def mark(operation: Operation, old: str, new: str) -> tuple[Parts, Parts]:
    """The two keys cut in parts; the texts of each joined give the key."""
    found: tuple[Parts, Parts] | None = None
    if isinstance(operation, Replace) and operation.syntax == LITERAL:
        found = _literal(operation, old)
    elif (rule := _regex_rule(operation)) is not None:
        found = _regex(rule, old)
    if found is not None and "".join(part.text for part in found[1]) == new:
        return found
    return difference(old, new)


def difference(old: str, new: str) -> tuple[Parts, Parts]:
    """What both begin with, what only one of them has, what both end with."""
    start = 0
    most = min(len(old), len(new))
    while start < most and old[start] == new[start]:
        start += 1
    end = 0
    while end < most - start and old[-1 - end] == new[-1 - end]:
        end += 1
    head, tail = Part(old[:start], "kept"), Part(old[len(old) - end :], "kept")
    return (
        _filled(head, Part(old[start : len(old) - end], "gone"), tail),
        _filled(head, Part(new[start : len(new) - end], "new"), tail),
    )


def _filled(*parts: Part) -> Parts:
    return tuple(part for part in parts if part.text)


def _literal(operation: Replace, old: str) -> tuple[Parts, Parts]:
    pieces = old.split(operation.find)
    before: list[Part] = []
    after: list[Part] = []
    for i, piece in enumerate(pieces):
        if i:
            before.append(Part(operation.find, "gone"))
            after.append(Part(operation.new, "new"))
        before.append(Part(piece, "kept"))
        after.append(Part(piece, "kept"))
    return _filled(*before), _filled(*after)


def _regex_rule(operation: Operation) -> Rule | None:
    """The only regular expression of a step, None where there is none or several."""
    if isinstance(operation, Replace) and operation.syntax == REGEX:
        return compile_rule(SEARCH + operation.find, operation.new)
    if isinstance(operation, Rename) and len(operation.rules) == 1:
        rule = operation.rules[0]
        return compile_rule(*rule) if rule[0].startswith((SEARCH, FULL)) else None
    return None


def _regex(rule: Rule, old: str) -> tuple[Parts, Parts] | None:
    found = rule.pattern.match(old)
    if found is None:
        return None
    start, end = found.span()
    head, tail = Part(old[:start], "kept"), Part(old[end:], "kept")
    return (
        _filled(head, *_matched(found, old), tail),
        _filled(head, *_expanded(found, rule.result), tail),
    )


def _matched(found: re.Match[str], old: str) -> Iterator[Part]:
    """The match, with its groups apart; of nested groups the outer one."""
    at, end = found.span()
    for first, last in sorted(span for span in found.regs[1:] if span[0] >= 0):
        if first >= at and last > first:
            yield Part(old[at:first], "gone")
            yield Part(old[first:last], "carried")
            at = last
    yield Part(old[at:end], "gone")


def _expanded(found: re.Match[str], result: str) -> Iterator[Part]:
    """The replacement, with what its references bring apart."""
    at = 0
    for reference in _REFERENCE.finditer(result):
        if reference[3] is not None:
            continue
        yield Part(found.expand(result[at : reference.start()]), "new")
        name = reference[1] or reference[2]
        yield Part(found[int(name) if name.isdigit() else name] or "", "carried")
        at = reference.end()
    yield Part(found.expand(result[at:]), "new")
