"""How many rules say a known correspondence, and whether they say it exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.rules import suggest
from sdviewer.repair.rules.execution import map_of


@dataclass(frozen=True)
class RuleCount:
    """The rules that one matching takes, how many of its keys they do not bring home, and how long it took."""

    rules: int
    wrong: int
    seconds: float


def rule_count(source: KeyTable, target: KeyTable, matching: Matching) -> RuleCount:
    """Say a matching as steps and carry them out."""
    start = time.perf_counter()
    found = suggest(source, target, matching)
    seconds = time.perf_counter() - start
    done = map_of(source, [operation_from_step(suggestion.step) for suggestion in found])
    wrong = 0
    for one in matching.found:
        wanted = {target.keys[place] for place in one.targets}
        if one.relation != "tie":
            wrong += sum(not wanted <= _targets(done[source.keys[place]]) for place in one.sources)
    return RuleCount(sum(len(suggestion.step.get("rules", "1")) for suggestion in found), wrong, seconds)


def _targets(made: str | Mapping[str, Any]) -> set[str]:
    to = made if isinstance(made, str) else made.get("to", ())
    return {to} if isinstance(to, str) else set(to)
